"""``hnn demo``."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import torch
import typer

import hnn_kernels

from ..analysis import timing
from ..network.config import NetworkConfig
from ..training.device import resolve_device
from ..training.protocol import Protocol
from . import setup
from .options import Backend, BatchSize, DataDir, Device, Download, Json, Progress, Seed, Steps
from .output import BAD_RUN, report, short_errors


def demo(
    data_dir: DataDir = None,
    download: Download = False,
    epochs: Annotated[int | None, typer.Option(min=1, help="Number of epochs; 20 on digits, 2 on MNIST.")] = None,
    steps: Steps = NetworkConfig.steps,
    batch_size: BatchSize = 64,
    repeats: Annotated[int, typer.Option(min=1, help="Timed training steps of each backend.")] = 30,
    seed: Seed = 0,
    device: Device = "auto",
    backend: Backend = None,
    progress: Progress = True,
    as_json: Json = False,
) -> None:
    """Train a hybrid network on digits (on MNIST if --data-dir is given), and time its kernels.

    The speed-up is measured on this machine: the same training step runs with the backend and with the plain PyTorch
    loop, in turns.
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
        images = setup.images_for(architecture, followed.dataset, data_dir, download)
        network = setup.build(architecture, images, seed, steps=steps, backend=backend)
        explanation = hnn_kernels.explain(where, backend=backend)
    typer.echo(network, err=True)
    with short_errors(BAD_RUN), TemporaryDirectory() as run_dir:
        outcome = learning.train(network, images, followed, run_dir=Path(run_dir), device=where, progress=progress)
    results: dict[str, Any] = {"test_accuracy": outcome.test_accuracy, "backend": explanation.chosen}
    if explanation.chosen == "reference":
        typer.echo(f"no kernel to time against the plain PyTorch loop:\n{explanation}", err=True)
    else:
        typer.echo(
            f"times training steps, {repeats} with {explanation.chosen} and {repeats} with the plain loop", err=True
        )
        batch = images.to(where)[torch.arange(batch_size) % len(images)]
        times = timing.compare(network.to(where), *batch, (explanation.chosen, "reference"), repeats=repeats)
        for name, median in (("step", times.step), ("neurons", times.neurons)):
            results[f"{name}_ms"] = 1e3 * median[explanation.chosen]
            results[f"{name}_reference_ms"] = 1e3 * median["reference"]
            results[f"{name}_speedup"] = median["reference"] / median[explanation.chosen]
    report(as_json, **results)
