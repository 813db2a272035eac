"""Options that several commands share.

Paths are words here: :mod:`hnn_models.paths` makes paths of them, which :class:`pathlib.Path` would have changed before
(``""`` to ``.``, ``s3://`` to ``s3:/``).
"""

from typing import Annotated

import typer

from ..data.datasets import DATASETS
from ..network.codings import CODINGS
from ..network.config import ACTIVATIONS, AXONS, INPUTS, PER

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
