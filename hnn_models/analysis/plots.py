"""Plots of a network's spikes, membrane potentials and energy."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from ..network.activity import Activity, activity, membrane
from ..network.state import evaluating
from ..network.table import show
from ..network.wrappers import unwrapped

_RASTER_NEURONS = 200
_TRACES = 4


class Point(NamedTuple):
    """A network in the plot of accuracy against energy.

    Attributes:
        name: the label.
        accuracy: a fraction.
        energy: of the arithmetic, in picojoules per image.
        memory_energy: of the memory traffic, in picojoules per image; None to leave it out.
    """

    name: str
    accuracy: float
    energy: float
    memory_energy: float | None = None


def raster(network: nn.Module, image: Tensor) -> Figure:
    """Plot the spikes of every spiking layer for one ``image`` of shape ``input_shape``, one mark per spike.

    Of a layer with more than 200 neurons, 200 are shown, evenly spaced.

    Raises:
        ValueError: the network has no spiking layer.
    """
    works, names = _work(network, image)
    rows = [min(len(_neurons(work.spikes)), _RASTER_NEURONS) for work in works]
    # A layer of 10 neurons needs less room than one of 200, but enough for a title and some space between its rows.
    figure, axes = _panels(image, works, [max(n, 40) for n in rows])
    for ax, work, name, count in zip(axes, works, names, rows, strict=True):
        trains = _neurons(work.spikes)
        chosen = torch.linspace(0, len(trains) - 1, count).round().long()
        neuron, step = trains[chosen].nonzero(as_tuple=True)
        marker = {"marker": "|", "s": 60} if count <= 40 else {"marker": "s", "s": 4}
        ax.scatter(step + 1, neuron, color="black", linewidths=1 if count <= 40 else 0, **marker)
        ax.set_ylim(count - 0.5, -0.5)
        ax.set_ylabel("neuron" if count == len(trains) else f"neuron ({count} of {len(trains):,})")
        ax.set_title(f"{name}: {trains.mean():.1%} of neurons fire per step", fontsize=10, loc="left")
    return figure


def membranes(network: nn.Module, image: Tensor) -> Figure:
    """Plot membrane potentials of some neurons of every spiking layer for one ``image``, with threshold and spikes.

    The neurons are among those that fire, from the one with the most spikes to the one with the fewest.

    Raises:
        ValueError: the network has no spiking layer.
    """
    works, names = _work(network, image)
    figure, axes = _panels(image, works, [1] * len(works))
    for ax, work, name in zip(axes, works, names, strict=True):
        trains, potentials = _neurons(work.spikes), _neurons(membrane(work))
        order = trains.sum(1).argsort(descending=True, stable=True)
        firing = max(int((trains.sum(1) > 0).sum()), 1)
        chosen = order[torch.linspace(0, firing - 1, min(_TRACES, firing)).round().long()]
        steps = torch.arange(1, trains.shape[1] + 1)
        threshold = work.layer.neurons.threshold
        for i in chosen.tolist():
            (line,) = ax.plot(steps, potentials[i], linewidth=1.2, label=f"neuron {i}")
            fired = trains[i] > 0
            ax.plot(steps[fired], potentials[i][fired], "o", markersize=4, color=line.get_color())
        if not isinstance(threshold, Tensor) or threshold.numel() == 1:
            ax.axhline(float(threshold), color="black", linestyle="--", linewidth=1, label="threshold")
        ax.set_ylabel("V")
        ax.set_title(
            f"{name}: from the busiest neuron to the quietest that fires; a dot is a spike", fontsize=10, loc="left"
        )
        ax.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    return figure


def accuracy_against_energy(points: Sequence[Point]) -> Figure:
    """Plot accuracy over the energy of the arithmetic, one mark per network. Hollow marks add the memory traffic.

    Raises:
        ValueError: ``points`` is empty.
    """
    if not points:
        raise ValueError("points must hold at least one network; got none")
    figure = Figure(figsize=(9, 5), layout="constrained")
    ax = figure.add_subplot()
    for number, point in enumerate(points):
        marker = "os^D"[number // 10 % 4]  # matplotlib has ten colors
        values = [point.energy, *([] if point.memory_energy is None else [point.energy + point.memory_energy])]
        (line,) = ax.plot([v / 1e3 for v in values], [100 * point.accuracy] * len(values), "-", linewidth=1, alpha=0.5)
        ax.plot(point.energy / 1e3, 100 * point.accuracy, marker, color=line.get_color(), label=point.name)
        if point.memory_energy is not None:
            ax.plot(values[1] / 1e3, 100 * point.accuracy, marker, color=line.get_color(), fillstyle="none")
    ax.set_xscale("log")
    ax.set_xlabel("energy per image (nJ): filled, arithmetic; hollow, with memory traffic")
    ax.set_ylabel("test accuracy (%)")
    ax.grid(alpha=0.3)
    ax.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    return figure


def _work(network: nn.Module, image: Tensor) -> tuple[list[Activity], list[str]]:
    network = unwrapped(network)
    if not network.spiking:
        raise ValueError(f"{network.architecture} has no spiking layer to plot")
    found = [(token, shape) for token, shape, _ in network.modules_by_token() if token.spiking and token.weighted]
    with evaluating(network):
        works = list(activity(network, image[None]))
    return works, [f"{token.text} ({show(shape)})" for token, shape in found]


def _neurons(values: Tensor) -> Tensor:
    """``[T, 1, *features]`` as ``[neurons, T]`` on the CPU."""
    return values.flatten(1).T.float().cpu()


def _panels(image: Tensor, works: Sequence[Activity], heights: Sequence[float]) -> tuple[Figure, list]:
    """Make a figure: the image on the left, and on the right one panel per layer, all over the same steps."""
    figure = Figure(figsize=(10, 1.2 + 2.0 * len(works)), layout="constrained")
    grid = figure.add_gridspec(len(works), 2, width_ratios=(1, 4), height_ratios=heights)
    if image.dim() == 3 and image.shape[0] in (1, 3):
        ax = figure.add_subplot(grid[:, 0])
        ax.imshow(image.permute(1, 2, 0).cpu().numpy(), cmap="gray", vmin=0, vmax=1)
        ax.set_axis_off()
        ax.set_anchor("N")
    axes: list = []
    for i in range(len(works)):
        axes.append(figure.add_subplot(grid[i, 1], sharex=axes[0] if axes else None))
        axes[-1].set_xlim(0.5, len(works[i].spikes) + 0.5)
        axes[-1].tick_params(labelbottom=i == len(works) - 1)
    axes[-1].set_xlabel("step")
    return figure, axes
