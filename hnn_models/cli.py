"""The command line ``hnn``. Results go to stdout, progress and errors to stderr."""

import json
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

from . import checkpoint, data, inspection, timing
from .network import HybridNetwork
from .notation import parse
from .protocol import Protocol

# What a wrong argument, file or folder raises before the work begins, and what can still go wrong during it. Anything
# else is a fault of ours and keeps its stack trace.
_BAD_INPUT = (ValueError, TypeError, RuntimeError, OSError, ModuleNotFoundError)
_BAD_RUN = (ValueError, OSError, torch.OutOfMemoryError)

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Hybrid networks of artificial and spiking layers.",
)

Architecture = Annotated[str, typer.Argument(help="Layers in the paper's notation, such as A784-A500-S10.")]
DataDir = Annotated[Path | None, typer.Option(help="Folder of the MNIST files (it holds MNIST/raw).")]
Download = Annotated[bool, typer.Option("--download", help="Fetch missing MNIST files into --data-dir.")]
Steps = Annotated[int, typer.Option(min=1, help="Number of time steps T.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Images per training step.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the initial weights and of the order of the batches.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, or auto: cuda where there is one.")]
Backend = Annotated[str | None, typer.Option(help="Backend of the spiking layers; the best there is by default.")]
Progress = Annotated[bool, typer.Option(help="Show progress bars.")]
Json = Annotated[bool, typer.Option("--json", help="Print the results as one line of JSON.")]


@app.command()
def train(
    architecture: Architecture,
    dataset: Annotated[str, typer.Option(help=f"One of {', '.join(data.DATASETS)}.")] = "digits",
    data_dir: DataDir = None,
    download: Download = False,
    coding: Annotated[str, typer.Option(help="How values enter the spiking part: duplicate.")] = "duplicate",
    steps: Steps = 25,
    epochs: Annotated[int, typer.Option(min=1, help="Number of epochs.")] = 100,
    batch_size: BatchSize = 64,
    lr: Annotated[float, typer.Option(help="Learning rate of Adam.")] = 1e-4,
    seed: Seed = 0,
    split_seed: Annotated[int, typer.Option(min=0, help="Seed of the 6:2:2 split.")] = 0,
    device: Device = "auto",
    backend: Backend = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; runs/DATASET-ARCHITECTURE by default.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out, if there is one.")] = False,
    progress: Progress = True,
    as_json: Json = False,
) -> None:
    """Train a network; keep the epoch best on validation, and test that one."""
    with _short_errors():
        from . import learning

        where = learning.resolve_device(device)
        images = _load(architecture, dataset, data_dir, download)
        network = _build(architecture, images, seed, coding=coding, steps=steps, backend=backend)
        used = _backend(network, where, backend)
        protocol = Protocol(dataset, batch_size, lr, seed, split_seed).checked()
        run_dir = out or Path("runs") / f"{dataset}-{architecture}"
    typer.echo(network, err=True)
    with _short_errors(_BAD_RUN), _interruptible(run_dir):
        outcome = learning.train(
            network, images, protocol, epochs=epochs, run_dir=run_dir, device=where, resume=resume, progress=progress
        )
    _report(
        as_json,
        test_accuracy=outcome.test_accuracy,
        validation_accuracy=outcome.validation_accuracy,
        best_epoch=outcome.best_epoch,
        training_seconds=outcome.seconds,
        backend=used,
        checkpoint=str(outcome.checkpoint),
    )


@app.command()
def evaluate(
    path: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="A best.ckpt or last.ckpt of a run.")],
    data_dir: DataDir = None,
    device: Device = "auto",
    backend: Backend = None,
    progress: Progress = True,
    as_json: Json = False,
) -> None:
    """Test accuracy of a checkpoint, on the data set and the split that it was trained with."""
    with _short_errors():
        from . import learning

        where = learning.resolve_device(device)
        found = checkpoint.load(path, backend=backend)
        used = _backend(found.network, where, backend)
        images = _load(found.network.architecture, found.protocol.dataset, data_dir, download=False)
    with _short_errors(_BAD_RUN):
        accuracy = learning.evaluate(found.network, images, found.protocol, device=where, progress=progress)
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
    with _short_errors():
        from . import learning

        where = learning.resolve_device(device)
        protocol = Protocol("mnist" if mnist else "digits", batch_size, lr, seed).checked()
        images = _load(architecture, protocol.dataset, data_dir, download)
        network = _build(architecture, images, seed, steps=steps, backend=backend)
        explanation = hnn_kernels.explain(where, backend=backend)
    typer.echo(network, err=True)
    with _short_errors(_BAD_RUN), TemporaryDirectory() as run_dir:
        outcome = learning.train(
            network,
            images,
            protocol,
            epochs=epochs or (2 if mnist else 20),
            run_dir=Path(run_dir),
            device=where,
            progress=progress,
        )
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
    "step_ms": "training step",
    "step_reference_ms": "  plain PyTorch loop",
    "step_speedup": "  speed-up",
    "neurons_ms": "spiking neurons alone",
    "neurons_reference_ms": "  plain PyTorch loop",
    "neurons_speedup": "  speed-up",
}


def _report(as_json: bool, **results: Any) -> None:
    """Print results by name: accuracies are fractions, ``_ms`` are milliseconds, speed-ups ratios."""
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


def _load(architecture: str, dataset: str, data_dir: Path | None, download: bool) -> data.ImageSet:
    """The images, once the architecture is known to fit: nothing is loaded or fetched for a wrong one."""
    parse(architecture)
    images = data.load(dataset, data_dir, download=download)
    parse(architecture, classes=images.classes)
    return images


def _build(architecture: str, images: data.ImageSet, seed: int, **options: Any) -> HybridNetwork:
    torch.manual_seed(seed)
    return HybridNetwork(architecture, images.shape, **options)


def _backend(network: HybridNetwork, device: torch.device, requested: str | None) -> str:
    chosen = hnn_kernels.explain(device, backend=requested).chosen
    return chosen if network.spiking else "none, no layer is spiking"


@contextmanager
def _short_errors(kinds: tuple[type[Exception], ...] = _BAD_INPUT) -> Iterator[None]:
    """Print errors of these kinds as a message, without their stack trace, and leave."""
    try:
        yield
    except kinds as error:
        typer.echo(f"hnn: error: {error}", err=True)
        raise typer.Exit(1) from error


@contextmanager
def _interruptible(run_dir: Path) -> Iterator[None]:
    """Say how an interrupted run goes on; Lightning turns Ctrl-C into SystemExit."""
    try:
        yield
    except SystemExit:
        if (run_dir / "last.ckpt").exists():
            typer.echo("interrupted; the same command with --resume goes on after the last full epoch", err=True)
        raise


def _with_short_errors(command: Callable[..., None]) -> Callable[..., None]:
    """``command``, a user's mistake in it shown as a message."""

    @wraps(command)
    def run(*args: Any, **options: Any) -> None:
        with _short_errors():
            command(*args, **options)

    return run


for _command in (inspection.describe, inspection.profile):
    app.command()(_with_short_errors(_command))
