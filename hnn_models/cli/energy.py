"""``hnn energy``: accuracy and energy by the number of time steps."""

from typing import Annotated

import typer

from .. import paths
from ..data.datasets import DATASETS
from ..errors import DataError
from ..network.notation import parse
from ..paper.energy_runs import EnergySeries
from ..training.device import fast_precision, resolve_device
from ..training.launch import launch
from ..training.protocol import PRECISIONS
from . import setup
from .options import Backend, DataDir, Device, Download, Progress, numbers
from .output import BAD_RUN, interruptible, short_errors


def energy(
    architecture: Annotated[
        str, typer.Argument(help="A network with spiking layers, in the paper's notation.")
    ] = "S784-S500-S10",
    dataset: Annotated[str, typer.Option(help=f"One of {', '.join(DATASETS)}.")] = "mnist",
    data_dir: DataDir = None,
    download: Download = False,
    steps: Annotated[str, typer.Option(help="Numbers of time steps, each of which has a run.")] = "1,2,4,8,25",
    rate_penalties: Annotated[
        str, typer.Option(help="Penalties of the rates, each of which has a run at --penalised steps; or none.")
    ] = "0.01,0.1,0.3,1",
    penalised: Annotated[int, typer.Option(min=1, help="Number of time steps of the runs with a penalty.")] = 4,
    epochs: Annotated[int, typer.Option(min=1, help="Number of epochs of each run.")] = 10,
    seeds: Annotated[str, typer.Option(help="Seeds of the runs, such as 0,1,2: of split, weights and noise.")] = "0",
    precision: Annotated[
        str | None, typer.Option(help=f"One of {', '.join(PRECISIONS)}; by default what is fast here.")
    ] = None,
    runs: Annotated[str, typer.Option(metavar="FOLDER", help="Folder of the runs.")] = "runs/energy",
    out: Annotated[
        str, typer.Option(metavar="FILE", help="The record, a CSV file; its page has the suffix .md.")
    ] = "benchmarks/results/energy.csv",
    device: Device = "auto",
    backend: Backend = None,
    progress: Progress = True,
) -> None:
    """Train a network at several numbers of time steps, and count what each costs beside its quantised rival.

    Rows in the record are kept, and an interrupted run is continued. The rival has artificial layers alone. It is
    tested with 8-bit weights, and values of 8 bits and of as few as have the levels of a count of spikes.
    """
    with short_errors():
        where = resolve_device(device)
        if launch().world > 1:
            raise ValueError("energy is for one process; hnn train is for several")
        table, run_dirs = paths.file(out, "--out"), paths.folder(runs, "--runs")
        if table.suffix == ".md":
            raise ValueError(f"--out must be a CSV file, its page has the suffix .md; got {out!r}")
        if not any(token.spiking for token in parse(architecture)):
            raise ValueError(f"the architecture must have a spiking layer; got {architecture!r}")
        penalties = [] if rate_penalties == "none" else numbers("--rate-penalties", rate_penalties, float)
        work = EnergySeries(
            architecture,
            dataset,
            setup.images_for(architecture, dataset, data_dir, download),
            numbers("--steps", steps, int, least=1),
            penalties,
            penalised,
            epochs,
            precision or fast_precision(where),
            table,
            run_dirs,
            where,
            backend,
            progress,
        )
        chosen = numbers("--seeds", seeds, int)
        work.left(chosen)  # checks the record
    with (
        short_errors((*BAD_RUN, DataError)),
        interruptible(lambda: "the same command continues after the last full epoch"),
    ):
        work.fill(chosen)
    typer.echo(f"wrote {table} and {table.with_suffix('.md')}", err=True)
