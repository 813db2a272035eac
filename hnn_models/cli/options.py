"""Options that several commands share.

Paths are words here: :mod:`hnn_models.paths` makes paths of them, which :class:`pathlib.Path` would have changed before
(``""`` to ``.``, ``s3://`` to ``s3:/``).
"""

import math
from typing import Annotated, TypeVar

import typer

from ..data.datasets import DATASETS
from ..network.codings import CODINGS
from ..network.config import ACTIVATIONS, AXONS, INPUTS, PER, READOUTS

_Number = TypeVar("_Number", int, float)
_HELD = ", ".join(one.holds for one in DATASETS.values() if one.torchvision and one.holds)

# The network.
Architecture = Annotated[str, typer.Argument(help="Layers in the paper's notation, such as A784-A500-S10.")]
Coding = Annotated[str, typer.Option(help=f"Coding at the border to the spiking part: {', '.join(CODINGS)}.")]
Steps = Annotated[int, typer.Option(min=1, help="Number of time steps T.")]
Input = Annotated[
    str, typer.Option("--input", help=f"Input of the first spiking layer: {', '.join(INPUTS)} (through an axon).")
]
Axon = Annotated[str, typer.Option(help=f"Filter of the spike trains: {', '.join(AXONS)}, none.")]
Learn = Annotated[list[str] | None, typer.Option(help="A coefficient to train, such as axon; repeatable.")]
Per = Annotated[str, typer.Option(help=f"Number of learnt coefficients: one per {', '.join(PER)}.")]
Activation = Annotated[str, typer.Option(help=f"Activation of the artificial layers: {', '.join(ACTIVATIONS)}.")]
Gain = Annotated[float, typer.Option(help="Factor on the initial weights of the spiking layers.")]
PoolAxon = Annotated[
    bool,
    typer.Option("--pool-axon", help="Filter a train by an axon again, behind a pool between spiking layers."),
]
PretrainedActivation = Annotated[
    str | None,
    typer.Option(help="For separate learning, the activation in the artificial network, where it is another one."),
]
Readout = Annotated[str, typer.Option(help=f"Read-out of the last spiking layer: {', '.join(READOUTS)}.")]
Neuron = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=VALUE", help="An option of hnn_kernels.nn.LIF, such as decay=0.5; repeatable."),
]

# Data and training.
DataDir = Annotated[
    str | None,
    typer.Option(metavar="FOLDER", help=f"Folder of the data, which holds {_HELD}, or images in folders by class."),
]
Download = Annotated[bool, typer.Option("--download", help="Fetch missing files into --data-dir.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Images per training step.")]
Seed = Annotated[
    int, typer.Option(min=0, help="Seed of the split, the initial weights, the order of the batches and the noise.")
]
SplitSeed = Annotated[
    int | None, typer.Option(min=0, help="Seed of the 6:2:2 split alone; by default that of everything.")
]
Checkpoint = Annotated[str, typer.Argument(metavar="CHECKPOINT", help="A best.ckpt or last.ckpt of a run.")]

# The machine, and the output.
Device = Annotated[str, typer.Option(help="cpu, cuda, or auto: cuda if there is a CUDA device.")]
Backend = Annotated[str | None, typer.Option(help="Backend of the spiking layers; by default the best available.")]
Progress = Annotated[bool, typer.Option(help="Show progress bars.")]
Json = Annotated[bool, typer.Option("--json", help="Print the results as one line of JSON.")]


def axon_of(name: str) -> str | None:
    """The network's ``axon`` for the value of ``--axon``."""
    return None if name == "none" else name


def neuron_of(given: list[str] | None) -> dict[str, float | bool | str]:
    """The options of the neurons for the values of ``--neuron``: numbers, ``true`` and ``false``, and names.

    Raises:
        ValueError: one is not ``NAME=VALUE``, or comes twice.
    """
    found: dict[str, float | bool | str] = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not (name and equals and value) or name in found:
            raise ValueError(f"--neuron must be NAME=VALUE, such as decay=0.5, once for each name; got {text!r}")
        try:
            found[name] = float(value)
        except ValueError:
            found[name] = {"true": True, "false": False}.get(value, value)
    return found


def numbers(name: str, text: str, kind: type[_Number], least: int = 0) -> list[_Number]:
    """The different numbers in the value of an option, such as ``"0,1,2"``.

    Raises:
        ValueError: it has none, one twice, one below ``least``, or anything else.
    """
    try:
        found = [kind(word) for word in text.split(",")]
    except ValueError:
        found = []
    if not found or not all(least <= number < math.inf for number in found) or len(set(found)) < len(found):
        raise ValueError(f"{name} must be different numbers from {least} on, such as 0,1,2; got {text!r}")
    return found
