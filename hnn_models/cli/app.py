"""The command line ``hnn``. Results go to stdout, progress and errors to stderr."""

import importlib.util
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import torch

try:
    import typer
except ModuleNotFoundError as error:
    raise SystemExit("hnn needs the extra 'models': pip install 'hnn-kernels[models]'") from error

import hnn_kernels

from ..analysis import timing
from ..data import datasets
from ..data.images import ImageSet
from ..network.build import PER
from ..network.layers import ACTIVATIONS, AXONS, CODINGS, INPUTS
from ..network.network import HybridNetwork
from ..network.notation import parse
from ..paper import runs as reproduction
from ..training import checkpoint, memory, protocol
from ..training.device import resolve_device
from ..training.protocol import Protocol
from . import inspect as inspection
from .output import BAD_RUN, Backend, Device, Json, Progress, short_errors

_LEARNING = ("simultaneous", "separate")
_FIRST = int(os.environ.get("RANK", 0)) == 0  # of the processes that torchrun starts

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Hybrid networks of artificial and spiking layers.",
)

Architecture = Annotated[str, typer.Argument(help="Layers in the paper's notation, such as A784-A500-S10.")]
DataDir = Annotated[
    Path | None,
    typer.Option(help="Folder of the data: of MNIST/raw, FashionMNIST/raw, cifar-10-batches-py, or images."),
]
Download = Annotated[bool, typer.Option("--download", help="Fetch missing files into --data-dir.")]
Steps = Annotated[int, typer.Option(min=1, help="Number of time steps T.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Images per training step.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the initial weights and of the order of the batches.")]


@app.command()
def train(
    architecture: Architecture,
    dataset: Annotated[str, typer.Option(help=f"One of {', '.join(datasets.DATASETS)}.")] = "digits",
    data_dir: DataDir = None,
    download: Download = False,
    image_shape: Annotated[
        str | None, typer.Option(help="Convert and resize the images of a folder to C,H,W, such as 3,32,32.")
    ] = None,
    coding: Annotated[str, typer.Option(help=f"How values enter the spiking part: {', '.join(CODINGS)}.")] = CODINGS[0],
    steps: Steps = 25,
    input_: Annotated[str, typer.Option("--input", help=f"One of {', '.join(INPUTS)}.")] = INPUTS[0],
    axon: Annotated[str, typer.Option(help=f"One of {', '.join(AXONS)}, none.")] = "dual_exponential",
    learn: Annotated[list[str] | None, typer.Option(help="A coefficient to train, such as axon; repeatable.")] = None,
    per: Annotated[str, typer.Option(help=f"How many coefficients: one per {', '.join(PER)}.")] = "neuron",
    activation: Annotated[str, typer.Option(help=f"One of {', '.join(ACTIVATIONS)}.")] = "relu",
    gain: Annotated[float, typer.Option(help="Factor on the initial weights of the spiking layers.")] = 1.0,
    learning: Annotated[
        str, typer.Option(help="simultaneous, or separate: a purely artificial network first, then the spiking part.")
    ] = "simultaneous",
    pretrained: Annotated[
        Path | None, typer.Option(help="For separate learning, the best.ckpt of a purely artificial network.")
    ] = None,
    recipe: Annotated[str, typer.Option(help="Where what is not given comes from: paper or modern.")] = "paper",
    epochs: Annotated[int | None, typer.Option(min=1, help="Number of epochs.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Images per step, over all processes.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate of Adam, the highest of the run.")] = None,
    schedule: Annotated[str | None, typer.Option(help="steps or one-cycle.")] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Decoupled, of weights alone.")] = None,
    label_smoothing: Annotated[float | None, typer.Option(help="In [0, 1).")] = None,
    shift: Annotated[int | None, typer.Option(min=0, help="Move training images by up to so many pixels.")] = None,
    flip: Annotated[bool | None, typer.Option(help="Mirror training images at random.")] = None,
    warp: Annotated[
        float | None, typer.Option(help="Distort training images smoothly; the displacements' deviation, in pixels.")
    ] = None,
    split: Annotated[
        str, typer.Option(help="pooled: 6:2:2 of all images; given: the set's own test images, 6:2 of the others.")
    ] = "pooled",
    patience: Annotated[
        int | None, typer.Option(min=1, help="End once validation has been flat for so many epochs.")
    ] = None,
    min_epochs: Annotated[int, typer.Option(min=1, help="The fewest epochs before --patience ends the run.")] = 1,
    precision: Annotated[str, typer.Option(help=f"One of {', '.join(protocol.PRECISIONS)}.")] = "32-true",
    seed: Seed = 0,
    split_seed: Annotated[int, typer.Option(min=0, help="Seed of the 6:2:2 split.")] = 0,
    device: Device = "auto",
    backend: Backend = None,
    compiled: Annotated[bool, typer.Option("--compile", help="Run the network through torch.compile.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; runs/DATASET-ARCHITECTURE by default.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out, if there is one.")] = False,
    progress: Progress = True,
    as_json: Json = False,
) -> None:
    """Train a network; keep the epoch best on validation, and test that one.

    Under torchrun, every process takes its share of each batch.
    """
    with short_errors():
        from ..training import learning as training

        where = resolve_device(device)
        given = {
            "epochs": epochs,
            "batch_size": batch_size,
            "lr": lr,
            "schedule": schedule,
            "weight_decay": weight_decay,
            "label_smoothing": label_smoothing,
            "shift": shift,
            "flip": flip,
            "warp": warp,
        }
        followed = Protocol.of(
            dataset,
            recipe,
            **{name: value for name, value in given.items() if value is not None},
            split=split,
            patience=patience,
            min_epochs=min_epochs,
            precision=precision,
            seed=seed,
            split_seed=split_seed,
        )
        if learning not in _LEARNING:
            raise ValueError(f"learning must be one of {', '.join(map(repr, _LEARNING))}; got {learning!r}")
        images = _load(architecture, dataset, data_dir, download, _shape(image_shape))
        network = _build(
            architecture,
            images,
            seed,
            coding=coding,
            steps=steps,
            input=input_,
            axon=None if axon == "none" else axon,
            learn=learn or (),
            per=per,
            activation=activation,
            fixed_artificial=learning == "separate",
            gain=gain,
            backend=backend,
        )
        used = _backend(network, where, backend)
        run_dir = out or Path("runs") / f"{dataset}-{architecture}"
    if _FIRST:
        typer.echo(network, err=True)
    with short_errors(BAD_RUN), _interruptible(run_dir):
        outcome = training.train(
            network,
            images,
            followed,
            run_dir=run_dir,
            device=where,
            pretrained=pretrained,
            resume=resume,
            progress=progress,
            compiled=compiled,
        )
    before = outcome.artificial
    _report(
        as_json,
        test_accuracy=outcome.test_accuracy,
        validation_accuracy=outcome.validation_accuracy,
        best_epoch=outcome.best_epoch,
        epochs=outcome.epochs,
        training_seconds=outcome.seconds,
        **({} if before is None else {"artificial_test_accuracy": before.test_accuracy}),
        backend=used,
        checkpoint=str(outcome.checkpoint),
    )


@app.command()
def evaluate(
    path: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="A best.ckpt or last.ckpt of a run.")],
    data_dir: DataDir = None,
    device: Device = "auto",
    backend: Backend = None,
    precision: Annotated[str | None, typer.Option(help="Another one than in training.")] = None,
    progress: Progress = True,
    as_json: Json = False,
) -> None:
    """Test accuracy of a checkpoint, on the data set and the split that it was trained with."""
    with short_errors():
        from ..training import learning

        where = resolve_device(device)
        found = checkpoint.load(path, backend=backend)
        used = _backend(found.network, where, backend)
        followed = found.protocol if precision is None else found.protocol._replace(precision=precision).checked()
        images = datasets.load_again(found, data_dir)
    with short_errors(BAD_RUN):
        accuracy = learning.evaluate(found.network, images, followed, device=where, progress=progress)
    _report(as_json, test_accuracy=accuracy, backend=used)


@app.command()
def demo(
    data_dir: DataDir = None,
    download: Download = False,
    epochs: Annotated[int | None, typer.Option(min=1, help="Number of epochs; 20 on digits, 2 on MNIST.")] = None,
    steps: Steps = 25,
    batch_size: BatchSize = 64,
    repeats: Annotated[int, typer.Option(min=1, help="Timed training steps of each backend.")] = 30,
    seed: Seed = 0,
    device: Device = "auto",
    backend: Backend = None,
    progress: Progress = True,
    as_json: Json = False,
) -> None:
    """Train a hybrid network on digits (on MNIST where --data-dir is named) and time its kernels.

    The speed-up is measured here and now: the same training step with the backend and with the plain PyTorch loop,
    in turns.
    """
    mnist = data_dir is not None
    architecture, lr = ("A784-S500-S10", 1e-3) if mnist else ("A128-S128-S10", 2e-3)
    with short_errors():
        from ..training import learning

        where = resolve_device(device)
        followed = Protocol.of(
            "mnist" if mnist else "digits",
            epochs=epochs or (2 if mnist else 20),
            batch_size=batch_size,
            lr=lr,
            milestones=(),
            seed=seed,
        )
        images = _load(architecture, followed.dataset, data_dir, download)
        network = _build(architecture, images, seed, steps=steps, backend=backend)
        explanation = hnn_kernels.explain(where, backend=backend)
    typer.echo(network, err=True)
    with short_errors(BAD_RUN), TemporaryDirectory() as run_dir:
        outcome = learning.train(network, images, followed, run_dir=Path(run_dir), device=where, progress=progress)
    results: dict[str, Any] = {"test_accuracy": outcome.test_accuracy, "backend": explanation.chosen}
    if explanation.chosen == "reference":
        typer.echo(f"no kernel to time against the plain PyTorch loop:\n{explanation}", err=True)
    else:
        batch = images.to(where)[torch.arange(batch_size) % len(images)]
        times = timing.compare(network.to(where), *batch, (explanation.chosen, "reference"), repeats=repeats)
        for name, median in (("step", times.step), ("neurons", times.neurons)):
            results[f"{name}_ms"] = 1e3 * median[explanation.chosen]
            results[f"{name}_reference_ms"] = 1e3 * median["reference"]
            results[f"{name}_speedup"] = median["reference"] / median[explanation.chosen]
    _report(as_json, **results)


_LABELS = {
    "training_seconds": "training time",
    "artificial_test_accuracy": "artificial net's test",
    "step_ms": "training step",
    "step_reference_ms": "  plain PyTorch loop",
    "step_speedup": "  speed-up",
    "neurons_ms": "spiking neurons alone",
    "neurons_reference_ms": "  plain PyTorch loop",
    "neurons_speedup": "  speed-up",
}


def _report(as_json: bool, **results: Any) -> None:
    """Print results by name: accuracies are fractions, ``_ms`` are milliseconds, speed-ups ratios.

    Of several processes, the first prints.
    """
    if not _FIRST:
        return
    if as_json:
        typer.echo(json.dumps({k: round(v, 6) if isinstance(v, float) else v for k, v in results.items()}))
        return
    for name, value in results.items():
        if name.endswith("accuracy"):
            shown = f"{100 * value:.2f} %"
        elif name.endswith("_ms"):
            shown = f"{value:.3f} ms"
        elif name.endswith("_seconds"):
            shown = f"{value:.1f} s"
        elif name.endswith("speedup"):
            shown = f"{value:.2f}x"
        else:
            shown = str(value)
        typer.echo(f"{_LABELS.get(name, name.replace('_', ' ')):24}{shown}")


def _load(
    architecture: str,
    dataset: str,
    data_dir: Path | None,
    download: bool,
    shape: tuple[int, ...] | None = None,
) -> ImageSet:
    """The images, once the architecture is known to fit: nothing is loaded or fetched for a wrong one."""
    if download and int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise ValueError("--download is for one process: fetch the data before several are started")
    parse(architecture)
    images = datasets.load(dataset, data_dir, download=download, shape=shape)
    parse(architecture, classes=images.classes)
    return images


def _shape(text: str | None) -> tuple[int, ...] | None:
    """``"3,32,32"`` as a shape."""
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]+,[0-9]+,[0-9]+", text, re.ASCII):
        raise ValueError(f"--image-shape must be C,H,W, such as 3,32,32; got {text!r}")
    return tuple(int(number) for number in text.split(","))


def _build(architecture: str, images: ImageSet, seed: int, **options: Any) -> HybridNetwork:
    torch.manual_seed(seed)
    return HybridNetwork(architecture, images.shape, **options)


def _backend(network: HybridNetwork, device: torch.device, requested: str | None) -> str:
    chosen = hnn_kernels.explain(device, backend=requested).chosen
    return chosen if network.spiking else "none, no layer is spiking"


@contextmanager
def _interruptible(run_dir: Path) -> Iterator[None]:
    """Say how an interrupted run goes on; Lightning turns Ctrl-C into SystemExit."""
    try:
        yield
    except SystemExit:
        if any((folder / "last.ckpt").exists() for folder in (run_dir, run_dir / "artificial")):
            typer.echo("interrupted; the same command with --resume goes on after the last full epoch", err=True)
        raise


def _with_short_errors(command: Callable[..., None]) -> Callable[..., None]:
    """``command``, a user's mistake in it shown as a message."""

    @wraps(command)
    def run(*args: Any, **options: Any) -> None:
        with short_errors():
            command(*args, **options)

    return run


for _command in (inspection.describe, inspection.profile):
    app.command()(_with_short_errors(_command))
app.command()(reproduction.tables)


@app.command(
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False},
)
def bench(context: typer.Context) -> None:
    """Measure the kernels beside loops and other libraries (hnn bench --help)."""
    with short_errors():
        # It is a package of its own; in a clone that is not installed it has the name of its folder.
        installed = importlib.util.find_spec("hnn_benchmarks") is not None
        benchmarks = importlib.import_module(f"{'hnn_benchmarks' if installed else 'benchmarks'}.suite.command")
    benchmarks.app(context.args, prog_name="hnn bench")


def main() -> None:
    """``hnn``: the commands, in a process of their own."""
    memory.keep_what_is_freed()
    app(prog_name="hnn")
