"""``hnn describe`` and ``hnn profile``: the layers of a network, and their cost."""

from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

from .. import paths
from ..analysis import energy
from ..analysis.costs import INT8, MODELS, Costs, LayerCost, bits_of, break_even, quantised, total
from ..analysis.modules import profile_module
from ..analysis.profile import profile as profile_layers
from ..data.datasets import SHAPES
from ..network.config import AXON, NetworkConfig
from ..network.network import HybridNetwork
from ..network.table import kept_for_backward, rows, show
from ..plain import one_of
from ..training import checkpoint
from ..training.device import resolve_device
from .imports import imported
from .options import (
    Architecture,
    Axon,
    Backend,
    Coding,
    DataDir,
    Device,
    Input,
    Json,
    Learn,
    Neuron,
    Readout,
    Steps,
    axon_of,
    neuron_of,
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
    readout: Readout = NetworkConfig.readout,
    neuron: Neuron = None,
    fixed_artificial: Annotated[bool, typer.Option("--fixed-artificial", help="Fix the artificial layers.")] = False,
    as_json: Json = False,
) -> None:
    """Show the layers of a network: shapes, parameters, bytes of state and bytes kept for training, for one image."""
    neurons: dict[str, Any] = {**neuron_of(neuron)}
    with torch.device("meta"):  # a description needs no weights
        network = HybridNetwork(
            architecture,
            _shape(dataset, input_shape),
            coding,
            steps,
            input=input_,
            axon=axon_of(axon),
            learn=learn or (),
            readout=readout,
            fixed_artificial=fixed_artificial,
            **neurons,
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
    path: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT|MODULE:NAME",
            help="A best.ckpt or last.ckpt of a run; or a torch module, or a function that makes one, to import.",
        ),
    ],
    data_dir: DataDir = None,
    images: Annotated[int | None, typer.Option(min=1, help="Test images to count on; all by default.")] = None,
    input_shape: Annotated[
        str | None,
        typer.Option(help="For MODULE:NAME, the shape of its input, such as 32,3,32,32: random numbers from 0 to 1."),
    ] = None,
    batch_axis: Annotated[int, typer.Option(min=0, help="For MODULE:NAME, the input's axis that counts images.")] = 0,
    model: Annotated[str, typer.Option(help=f"Model of the energy: {', '.join(MODELS)}.")] = "horowitz",
    rival: Annotated[
        str | None,
        typer.Option(metavar="CHECKPOINT", help="A trained artificial network, to compare with when it is quantised."),
    ] = None,
    plots: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Folder for raster.png and membranes.png.")
    ] = None,
    image: Annotated[int, typer.Option(min=0, help="The number of the test image to plot, from 0.")] = 0,
    device: Device = "auto",
    backend: Backend = None,
    as_json: Json = False,
) -> None:
    """Count spikes and operations of a network on its test images, and estimate its energy.

    hnn_models/analysis/energy.py says what is counted, hnn_models/analysis/modules.py for any other torch module.
    """
    costs = MODELS[one_of("--model", model, MODELS)]
    where = resolve_device(device)
    if ":" in path and not Path(path).exists():
        if plots is not None or rival is not None or data_dir is not None or images is not None:
            raise ValueError(f"--plots, --rival, --data-dir and --images are for a checkpoint; got {path}")
        found = imported(path)
        shape = _shape("", input_shape or "")
        if batch_axis >= len(shape):
            raise ValueError(f"--batch-axis must be below {len(shape)}, the axes of --input-shape; got {batch_axis}")
        generator = torch.Generator().manual_seed(0)
        given = torch.rand(shape, generator=generator).to(where)
        layers = profile_module(found.to(where), [given], batch_axis=batch_axis)
        lines = [_line(cost, costs) for cost in [*layers, total(layers)]]
        print_table(f"{path}, per image, of {shape[batch_axis]} at random, model {model}", lines, as_json)
        return
    if input_shape is not None or batch_axis:
        raise ValueError("--input-shape and --batch-axis are for MODULE:NAME; a checkpoint has images of its own")
    _profile_checkpoint(path, data_dir, images, model, rival, plots, image, where, backend, as_json)


def _profile_checkpoint(
    path: str,
    data_dir: str | None,
    images: int | None,
    model: str,
    rival: str | None,
    plots: str | None,
    image: int,
    where: torch.device,
    backend: str | None,
    as_json: bool,
) -> None:
    from ..training import learning

    costs = MODELS[model]
    folder = None if plots is None else paths.folder(plots, "--plots")
    found = checkpoint.load(path, backend=backend)
    every = checkpoint.load_images(found, data_dir)
    index = learning.parts(found.network, every, found.protocol)[2]
    if image >= len(index):
        raise ValueError(f"--image must be below {len(index)}, the number of test images; got {image}")

    other = None if rival is None else _rival(rival, found.network, costs)
    layers, network = profile_layers(found, every, index[:images], where), found.network
    lines = [_line(cost, costs) for cost in [*layers, total(layers), energy.all_artificial(network)]]
    nonzero = 1.0
    if other is not None:
        its = total(profile_layers(other, every, index[:images], where))
        nonzero = its.nonzero / its.macs
        for bits in (bits_of(network.steps), 8):
            lines.append(_line(its._replace(name=f"rival, {bits} bits"), quantised(bits)))
    print_table(f"{network.architecture}, per image, of {len(index[:images])}, model {model}", lines, as_json)
    if network.spiking and not as_json:
        _say_break_even(costs, network.steps, nonzero)
    if folder is not None:
        _plot(network, every[index[image : image + 1]][0][0].to(where), found.protocol.seed, folder)


def _rival(path: str, network: HybridNetwork, costs: Costs) -> checkpoint.Checkpoint:
    """The trained artificial network at ``path``, which ``network`` is compared with."""
    if costs is not INT8:
        raise ValueError("--rival has weights of 8 bits, so the network needs them too: --model int8")
    other = checkpoint.load(path)
    if other.network.spiking or other.network.input_shape != network.input_shape:
        raise ValueError(
            f"--rival must be a purely artificial network for images {network.input_shape}; "
            f"got {other.network.architecture} for {other.network.input_shape}"
        )
    return other


def _say_break_even(costs: Costs, steps: int, nonzero: float) -> None:
    """Print the rates below which a layer behind spikes takes less energy than an artificial one."""
    rivals = {"an artificial layer, by the same model": (costs, 1.0)}
    for bits in (bits_of(steps), 8) if costs is INT8 else ():
        name = f"one of 8-bit weights and {bits}-bit values, {100 * nonzero:.0f} % of them not zero"
        rivals[name] = (quantised(bits), nonzero)
    for name, (other, share) in rivals.items():
        most = break_even(costs, other, share)
        rates = [
            f"{number} {100 * limit / steps:.2g} %"
            for number, limit in zip(("arithmetic", "traffic"), most, strict=True)
        ]
        typer.echo(f"less than {name}, for rates below: {', '.join(rates)}")


def _shape(dataset: str, input_shape: str | None) -> tuple[int, ...]:
    if input_shape is not None:
        try:
            return tuple(int(n) for n in input_shape.split(","))
        except ValueError:
            raise ValueError(f"--input-shape must be numbers such as 3,32,32; got {input_shape!r}") from None
    if dataset not in SHAPES:
        raise ValueError(f"--dataset must be one of {', '.join(SHAPES)}; got {dataset!r} (or name --input-shape)")
    return SHAPES[dataset]


def _line(cost: LayerCost, costs: Costs) -> dict[str, Any]:
    return {
        "layer": cost.name,
        "shape": show(cost.shape),
        "rate (%)": None if cost.rate is None else 100 * cost.rate,
        "spikes": cost.spikes,
        "updates": None if cost.spikes is None else cost.firing,
        "MACs": cost.macs,
        "SOPs": cost.accumulates,
        "energy (nJ)": cost.energy(costs) / 1e3,
        "memory (nJ)": cost.memory_energy(costs) / 1e3,
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
