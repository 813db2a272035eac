"""The commands that look at a network: ``hnn describe`` and ``hnn profile``."""

from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

from ..analysis import energy
from ..data import datasets
from ..data.images import ImageSet
from ..network.layers import AXONS, CODINGS, INPUTS
from ..network.network import HybridNetwork
from ..network.table import kept_for_backward, rows, show
from ..training import checkpoint
from ..training.checkpoint import Checkpoint
from ..training.device import resolve_device
from .output import Backend, Device, Json, print_table

_BATCH = 32  # the currents of the paper's largest layer take 4 MB per image


def describe(
    architecture: Annotated[str, typer.Argument(help="Layers in the paper's notation, such as A784-A500-S10.")],
    dataset: Annotated[str, typer.Option(help=f"For images of {', '.join(datasets.SHAPES)}.")] = "mnist",
    input_shape: Annotated[str | None, typer.Option(help="For images of another shape, such as 3,32,32.")] = None,
    coding: Annotated[str, typer.Option(help=f"One of {', '.join(CODINGS)}.")] = "duplicate",
    steps: Annotated[int, typer.Option(min=1, help="Number of time steps T.")] = 25,
    input_: Annotated[str, typer.Option("--input", help=f"One of {', '.join(INPUTS)}.")] = "direct",
    axon: Annotated[str, typer.Option(help=f"One of {', '.join(AXONS)}, none.")] = "dual_exponential",
    learn: Annotated[list[str] | None, typer.Option(help="A coefficient to train, such as axon; repeatable.")] = None,
    fixed_artificial: Annotated[bool, typer.Option("--fixed-artificial", help="Fix the artificial layers.")] = False,
    as_json: Json = False,
) -> None:
    """Show a network's layers: shapes, parameters, bytes of state, bytes kept for training, all for one image."""
    network = HybridNetwork(
        architecture,
        _shape(dataset, input_shape),
        coding,
        steps,
        input=input_,
        axon=None if axon == "none" else axon,
        learn=learn or (),
        fixed_artificial=fixed_artificial,
    )
    lines: list[dict[str, Any]] = [
        {"layer": row.name, "part": row.part, "shape": show(row.shape), "parameters": row.parameters,
         "state (B)": row.state, "kept (B)": kept}
        for row, kept in zip(rows(network), kept_for_backward(network), strict=True)
    ]  # fmt: skip
    sums = {name: sum(line[name] for line in lines) for name in ("parameters", "state (B)", "kept (B)")}
    lines.append({"layer": "total", "part": "", "shape": "", **sums})
    print_table(f"{architecture}, {steps} steps, bytes per image in float32", lines, as_json)


def profile(
    path: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="A best.ckpt or last.ckpt of a run.")],
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the data set's files.")] = None,
    images: Annotated[int | None, typer.Option(min=1, help="Test images to count on; all by default.")] = None,
    plots: Annotated[Path | None, typer.Option(help="Folder for raster.png and membranes.png.")] = None,
    image: Annotated[int, typer.Option(min=0, help="Which test image is plotted, from 0.")] = 0,
    device: Device = "auto",
    backend: Backend = None,
    as_json: Json = False,
) -> None:
    """Count spikes and operations of a trained network on its test images, and estimate its energy.

    What the figures mean is said in hnn_models/analysis/energy.py.
    """
    from ..training import learning

    where = resolve_device(device)
    found = checkpoint.load(path, backend=backend)
    every = datasets.load_again(found, data_dir)
    index = learning.parts(found.network, every, found.protocol)[2]
    if image >= len(index):
        raise ValueError(f"--image must be below {len(index)}, the number of test images; got {image}")

    costs, network = profiled(found, every, index[:images], where), found.network
    lines = [_line(cost) for cost in [*costs, energy.total(costs), energy.all_artificial(network)]]
    print_table(f"{network.architecture}, per image, of {len(index[:images])}", lines, as_json)
    if plots is not None:
        _plot(network, every[index[image : image + 1]][0][0].to(where), found.protocol.seed, plots)


def profiled(found: Checkpoint, images: ImageSet, index: Tensor, device: torch.device) -> list[energy.LayerCost]:
    """Every layer of a trained network, which moves to ``device``, with its cost per image on those at ``index``."""
    network = found.network.to(device).eval()
    torch.manual_seed(found.protocol.seed)  # of the noise of the coding
    return energy.profile(network, (images[some][0].to(device) for some in index.split(_BATCH)))


def _shape(dataset: str, input_shape: str | None) -> tuple[int, ...]:
    if input_shape is not None:
        try:
            return tuple(int(n) for n in input_shape.split(","))
        except ValueError:
            raise ValueError(f"--input-shape must be numbers such as 3,32,32; got {input_shape!r}") from None
    shapes = datasets.SHAPES
    if dataset not in shapes:
        raise ValueError(f"--dataset must be one of {', '.join(shapes)}; got {dataset!r} (or name --input-shape)")
    return shapes[dataset]


def _line(cost: energy.LayerCost) -> dict[str, Any]:
    return {
        "layer": cost.name,
        "shape": show(cost.shape),
        "rate (%)": None if cost.rate is None else 100 * cost.rate,
        "spikes": cost.spikes,
        "updates": None if cost.spikes is None else cost.updates,
        "MACs": cost.macs,
        "SOPs": cost.accumulates,
        "energy (nJ)": cost.energy() / 1e3,
        "memory (nJ)": cost.memory_energy() / 1e3,
    }


def _plot(network: HybridNetwork, image: Tensor, seed: int, folder: Path) -> None:
    try:
        from ..analysis import plots
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("--plots needs matplotlib, part of the extra 'models'") from error
    figures = {}
    for name, draw in (("raster", plots.raster), ("membranes", plots.membranes)):
        torch.manual_seed(seed)  # both show the same noise of the coding, whatever was profiled before
        figures[name] = draw(network, image)
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png", dpi=120)
        typer.echo(f"wrote {folder / name}.png", err=True)
