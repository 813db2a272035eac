"""``hnn describe`` and ``hnn profile``: the layers of a network, and their cost."""

from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

from .. import paths
from ..analysis import energy
from ..analysis.profile import profile as profile_layers
from ..data.datasets import SHAPES
from ..network.config import AXON, NetworkConfig
from ..network.network import HybridNetwork
from ..network.table import kept_for_backward, rows, show
from ..training import checkpoint
from ..training.device import resolve_device
from .options import (
    Architecture,
    Axon,
    Backend,
    Checkpoint,
    Coding,
    DataDir,
    Device,
    Input,
    Json,
    Learn,
    Steps,
    axon_of,
)
from .output import print_table, save_figures, short_errors


@short_errors()
def describe(
    architecture: Architecture,
    dataset: Annotated[str, typer.Option(help=f"For images of {', '.join(SHAPES)}.")] = "mnist",
    input_shape: Annotated[str | None, typer.Option(help="For images of another shape, such as 3,32,32.")] = None,
    coding: Coding = NetworkConfig.coding,
    steps: Steps = NetworkConfig.steps,
    input_: Input = NetworkConfig.input,
    axon: Axon = AXON,
    learn: Learn = None,
    fixed_artificial: Annotated[bool, typer.Option("--fixed-artificial", help="Fix the artificial layers.")] = False,
    as_json: Json = False,
) -> None:
    """Show the layers of a network: shapes, parameters, bytes of state and bytes kept for training, for one image."""
    with torch.device("meta"):  # a description needs no weights
        network = HybridNetwork(
            architecture,
            _shape(dataset, input_shape),
            coding,
            steps,
            input=input_,
            axon=axon_of(axon),
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


@short_errors()
def profile(
    path: Checkpoint,
    data_dir: DataDir = None,
    images: Annotated[int | None, typer.Option(min=1, help="Test images to count on; all by default.")] = None,
    plots: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Folder for raster.png and membranes.png.")
    ] = None,
    image: Annotated[int, typer.Option(min=0, help="The number of the test image to plot, from 0.")] = 0,
    device: Device = "auto",
    backend: Backend = None,
    as_json: Json = False,
) -> None:
    """Count spikes and operations of a trained network on its test images, and estimate its energy.

    hnn_models/analysis/energy.py says what is counted.
    """
    from ..training import learning

    where = resolve_device(device)
    folder = None if plots is None else paths.folder(plots, "--plots")
    found = checkpoint.load(path, backend=backend)
    every = checkpoint.load_images(found, data_dir)
    index = learning.parts(found.network, every, found.protocol)[2]
    if image >= len(index):
        raise ValueError(f"--image must be below {len(index)}, the number of test images; got {image}")

    costs, network = profile_layers(found, every, index[:images], where), found.network
    lines = [_line(cost) for cost in [*costs, energy.total(costs), energy.all_artificial(network)]]
    print_table(f"{network.architecture}, per image, of {len(index[:images])}", lines, as_json)
    if folder is not None:
        _plot(network, every[index[image : image + 1]][0][0].to(where), found.protocol.seed, folder)


def _shape(dataset: str, input_shape: str | None) -> tuple[int, ...]:
    if input_shape is not None:
        try:
            return tuple(int(n) for n in input_shape.split(","))
        except ValueError:
            raise ValueError(f"--input-shape must be numbers such as 3,32,32; got {input_shape!r}") from None
    if dataset not in SHAPES:
        raise ValueError(f"--dataset must be one of {', '.join(SHAPES)}; got {dataset!r} (or name --input-shape)")
    return SHAPES[dataset]


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
        torch.manual_seed(seed)  # both figures show the same noise of the coding, whatever was profiled before
        figures[name] = draw(network, image)
    save_figures(figures, folder)
