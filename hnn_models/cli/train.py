"""``hnn train`` and ``hnn evaluate``."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from .. import paths
from ..data.datasets import DATASETS
from ..network.config import ACTIVATION, AXON, NetworkConfig
from ..plain import one_of
from ..training import checkpoint
from ..training.device import resolve_device
from ..training.protocol import LOSSES, PRECISIONS, RECIPES, SCHEDULES, Protocol
from . import setup
from .options import (
    Activation,
    Architecture,
    Axon,
    Backend,
    Checkpoint,
    Coding,
    DataDir,
    Device,
    Download,
    Gain,
    Input,
    Json,
    Learn,
    Neuron,
    Per,
    PoolAxon,
    PretrainedActivation,
    Progress,
    Readout,
    Seed,
    SplitSeed,
    Steps,
    axon_of,
    neuron_of,
)
from .output import BAD_RUN, interruptible, is_first, print_table, report, short_errors

_LEARNING = ("simultaneous", "separate")
_PROTOCOL = Protocol("digits")  # for the defaults of its fields


def train(
    architecture: Architecture,
    dataset: Annotated[str, typer.Option(help=f"One of {', '.join(DATASETS)}.")] = "digits",
    data_dir: DataDir = None,
    download: Download = False,
    image_shape: Annotated[
        str | None, typer.Option(help="Convert and resize the images of a folder to C,H,W, such as 3,32,32.")
    ] = None,
    coding: Coding = NetworkConfig.coding,
    steps: Steps = NetworkConfig.steps,
    input_: Input = NetworkConfig.input,
    axon: Axon = AXON,
    learn: Learn = None,
    per: Per = NetworkConfig.per,
    activation: Activation = ACTIVATION,
    gain: Gain = NetworkConfig.gain,
    pool_axon: PoolAxon = NetworkConfig.pool_axon,
    pretrained_activation: PretrainedActivation = NetworkConfig.pretrained_activation,
    readout: Readout = NetworkConfig.readout,
    neuron: Neuron = None,
    learning: Annotated[
        str, typer.Option(help="simultaneous, or separate: a purely artificial network first, then the spiking part.")
    ] = _LEARNING[0],
    pretrained: Annotated[
        str | None,
        typer.Option(metavar="CHECKPOINT", help="For separate learning, the best.ckpt of a purely artificial network."),
    ] = None,
    recipe: Annotated[
        str, typer.Option(help=f"Source of the values that are not given: {', '.join(RECIPES)}.")
    ] = _PROTOCOL.recipe,
    epochs: Annotated[int | None, typer.Option(min=1, help="Number of epochs.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Images per step, over all processes.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate of Adam; the highest of the run.")] = None,
    schedule: Annotated[str | None, typer.Option(help=f"Of the learning rate: {', '.join(SCHEDULES)}.")] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Decoupled weight decay, of weights alone.")] = None,
    label_smoothing: Annotated[float | None, typer.Option(help="Smoothing of the training labels, in [0, 1).")] = None,
    shift: Annotated[int | None, typer.Option(min=0, help="Move training images by up to so many pixels.")] = None,
    flip: Annotated[bool | None, typer.Option(help="Mirror training images at random.")] = None,
    warp: Annotated[
        float | None,
        typer.Option(help="Distort training images smoothly; the standard deviation of the displacements, in pixels."),
    ] = None,
    erase: Annotated[
        int | None, typer.Option(min=0, help="Blacken a square of so many pixels a side in training images.")
    ] = None,
    loss: Annotated[
        str, typer.Option(help=f"One of {', '.join(LOSSES)}: of the logits, or of each time step (needs --readout).")
    ] = _PROTOCOL.loss,
    rate_penalty: Annotated[
        float, typer.Option(help="Factor of the firing rates above --rate-target in the loss.")
    ] = _PROTOCOL.rate_penalty,
    rate_target: Annotated[
        float, typer.Option(help="Firing rate that costs nothing, in spikes per neuron and step.")
    ] = _PROTOCOL.rate_target,
    split: Annotated[
        str, typer.Option(help="pooled: 6:2:2 of all images; given: the set's own test images, and --held-out.")
    ] = _PROTOCOL.split,
    held_out: Annotated[
        float, typer.Option(help="With --split given, the fraction of the other images that validates.")
    ] = _PROTOCOL.held_out,
    patience: Annotated[
        int | None,
        typer.Option(min=1, help="End the run once validation has been flat for so many epochs, behind the last drop."),
    ] = None,
    min_epochs: Annotated[
        int, typer.Option(min=1, help="The fewest epochs of a run that --patience ends.")
    ] = _PROTOCOL.min_epochs,
    precision: Annotated[str, typer.Option(help=f"One of {', '.join(PRECISIONS)}.")] = _PROTOCOL.precision,
    seed: Seed = _PROTOCOL.seed,
    split_seed: SplitSeed = None,
    device: Device = "auto",
    backend: Backend = None,
    compiled: Annotated[bool, typer.Option("--compile", help="Run the network through torch.compile.")] = False,
    graph: Annotated[
        bool, typer.Option("--graph", help="On a GPU: replay the network's passes as CUDA graphs.")
    ] = False,
    out: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Folder of the run; runs/DATASET-ARCHITECTURE by default.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in --out, if there is one; see docs/training.md.")
    ] = False,
    progress: Progress = True,
    as_json: Json = False,
) -> None:
    """Train a network, keep the epoch that is best on validation, and test that epoch.

    Under torchrun every process takes its share of each batch.
    """
    with short_errors():
        from ..training import learning as training

        where = resolve_device(device)
        named = None if out is None else paths.folder(out, "--out")
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
            "erase": erase,
        }
        followed = Protocol.of(
            dataset,
            recipe,
            **{name: value for name, value in given.items() if value is not None},
            loss=loss,
            rate_penalty=rate_penalty,
            rate_target=rate_target,
            split=split,
            held_out=held_out,
            patience=patience,
            min_epochs=min_epochs,
            precision=precision,
            seed=seed,
            split_seed=split_seed,
        )
        one_of("learning", learning, _LEARNING)
        images = setup.images_for(architecture, dataset, data_dir, download, setup.image_shape(image_shape))
        network = setup.build(
            architecture,
            images,
            seed,
            coding=coding,
            steps=steps,
            input=input_,
            axon=axon_of(axon),
            learn=learn or (),
            per=per,
            activation=activation,
            fixed_artificial=learning == "separate",
            gain=gain,
            pool_axon=pool_axon,
            pretrained_activation=pretrained_activation,
            readout=readout,
            backend=backend,
            **neuron_of(neuron),
        )
        used = setup.backend_of(network, where, backend)
        run_dir = named or paths.folder(f"runs/{dataset}-{architecture}", "--out")
    if is_first():
        typer.echo(network, err=True)
    with short_errors(BAD_RUN), interruptible(partial(_how_to_go_on, run_dir)):
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
            graph=graph,
        )
    before = outcome.artificial
    report(
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


def evaluate(
    path: Checkpoint,
    data_dir: DataDir = None,
    device: Device = "auto",
    backend: Backend = None,
    precision: Annotated[str | None, typer.Option(help="Another precision than in training.")] = None,
    confusion: Annotated[
        bool, typer.Option("--confusion", help="Also count which classes are taken for which.")
    ] = False,
    progress: Progress = True,
    as_json: Json = False,
) -> None:
    """Test a checkpoint, on the data set and the split that it was trained with."""
    with short_errors():
        from ..training import learning

        where = resolve_device(device)
        found = checkpoint.load(path, backend=backend)
        used = setup.backend_of(found.network, where, backend)
        followed = found.protocol if precision is None else found.protocol._replace(precision=precision).checked()
        images = checkpoint.load_images(found, data_dir)
    with short_errors(BAD_RUN):
        table = learning.confusion(found.network, images, followed, device=where, progress=progress)
    accuracy = (table.trace() / table.sum()).item()
    shown = {"confusion": table.tolist()} if confusion and as_json else {}
    report(as_json, test_accuracy=accuracy, **shown, backend=used)
    if confusion and not as_json and is_first():
        names = images.names or [str(label) for label in range(images.classes)]
        rows = zip(names, table.tolist(), strict=True)
        lines = [{"class": name, **dict(zip(names, counts, strict=True))} for name, counts in rows]
        print_table("test images of each class (rows), by the class that they are taken for (columns)", lines, False)


def _how_to_go_on(run_dir: Path) -> str:
    if any((folder / "last.ckpt").exists() for folder in (run_dir, run_dir / "artificial")):
        return "the same command with --resume continues after the last full epoch"
    return "no epoch is finished yet, the same command begins anew"
