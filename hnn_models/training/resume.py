"""The run that a folder holds: whether it may be continued, and from where."""

import warnings
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ..network.network import HybridNetwork
from . import checkpoint
from .checkpoint import Checkpoint
from .logs import history
from .protocol import Protocol

BEST, LAST = "best.ckpt", "last.ckpt"


class Earlier(NamedTuple):
    """A run that a folder holds, and that may be continued.

    Attributes:
        path: the checkpoint to continue from.
        found: its content.
        finished: True if nothing is left to train.
    """

    path: Path
    found: Checkpoint
    finished: bool


def stamps(run_dir: Path) -> dict[str, int]:
    """The checkpoints in ``run_dir`` and the times at which they were written."""
    return {name: (run_dir / name).stat().st_mtime_ns for name in (BEST, LAST) if (run_dir / name).exists()}


def earlier(run_dir: Path, network: HybridNetwork, protocol: Protocol, digest: str, resume: bool) -> Earlier | None:
    """The run in ``run_dir``, if it may be continued with these arguments; None if there is none.

    A run may be continued with the same arguments. If it is finished and its schedule is ``"steps"``, it may also be
    given more epochs: the learning rate stays as low as it has become.

    Raises:
        ValueError: there is a run, and ``resume`` is not given, a checkpoint is missing, or the run differs; or there
            are the logs of a run, and none of its checkpoints.
        hnn_models.CheckpointError: a checkpoint is damaged.
    """
    there = {name: run_dir / name for name in (LAST, BEST) if (run_dir / name).exists()}
    if not there:
        _check_logs(run_dir)
        return None
    if not resume:
        raise ValueError(f"{run_dir} already holds a run; resume it (--resume) or name another folder (--out)")
    found = {name: checkpoint.load(path) for name, path in there.items()}
    for one in found.values():
        _check_same(run_dir, one, network, protocol, digest)
    if BEST not in there:
        raise ValueError(
            f"the run in {run_dir} cannot be resumed, {BEST} is missing, its best epoch so far: put that file back, or "
            "begin anew in another folder (--out)"
        )
    # A run that is killed between the two files of its first epoch has the best alone; both are the same there.
    if LAST not in there and max(found[BEST].epoch, len(history(run_dir))) > 1:
        raise ValueError(
            f"the run in {run_dir} cannot be resumed, {LAST} is missing: put that file back; or copy {BEST} to {LAST}, "
            f"to go on after epoch {found[BEST].epoch}; or begin anew in another folder (--out)"
        )
    name = LAST if LAST in there else BEST
    if name == BEST:
        warnings.warn(f"the run in {run_dir} has no {LAST} yet; it continues after epoch 1 of {BEST}", stacklevel=2)
    state = found[name]
    if state.protocol.epochs != protocol.epochs:
        _check_more_epochs(run_dir, state, protocol)
    return Earlier(there[name], state, _is_finished(state, protocol))


def _check_logs(run_dir: Path) -> None:
    """Say that the logs in ``run_dir``, which has no checkpoint, are those of a run.

    A run that is killed while it writes its first checkpoint has logged one epoch; it may begin anew.

    Raises:
        ValueError: they have more than one epoch.
    """
    epochs = len(history(run_dir))
    if epochs > 1:
        raise ValueError(
            f"{run_dir} has the logs of a run of {epochs} epochs, but {LAST} and {BEST} are missing: put both files "
            "back, or begin anew in another folder (--out)"
        )
    if epochs == 1:
        warnings.warn(f"{run_dir} has the logs of an epoch and no checkpoint: its run begins anew", stacklevel=3)


def check_artificial(run_dir: Path, run: Earlier, protocol: Protocol) -> None:
    """Raise ValueError if the artificial network that the run in ``run_dir`` was learnt behind would be trained again.

    That is so in separate learning, if the network is gone or ``protocol`` has more epochs.
    """
    path = run_dir / "artificial" / BEST
    if not path.exists():
        raise ValueError(
            f"the run in {run_dir} cannot be resumed, the network before its spiking part is missing: {path}"
        )
    if run.found.protocol.epochs != protocol.epochs:
        raise ValueError(
            f"the run in {run_dir} cannot be given more epochs: its fixed artificial layers would have more too. "
            f"Separate learning from them goes on in another folder (--out) with --pretrained {path}"
        )


def _check_same(run_dir: Path, found: Checkpoint, network: HybridNetwork, protocol: Protocol, digest: str) -> None:
    """Raise ValueError if the run differs in more than its number of epochs."""
    then = {**found.network.config, **found.protocol._asdict()}
    now = {**network.config, **protocol._asdict()}
    names = [name for name in then | now if not _same(then.get(name), now.get(name))]
    if names and names != ["epochs"]:
        changed = ", ".join(f"{name} ({then.get(name)!r}, now {now.get(name)!r})" for name in names)
        raise ValueError(f"the run in {run_dir} cannot be resumed, it has another {changed}")
    if found.images != digest:
        raise ValueError(f"the run in {run_dir} cannot be resumed, it has other images")


def _check_more_epochs(run_dir: Path, found: Checkpoint, protocol: Protocol) -> None:
    """Raise ValueError if the run cannot have the number of epochs of ``protocol``."""
    then = found.protocol
    if found.epoch > protocol.epochs:
        why = f"{found.epoch} are trained already"
    elif not _is_finished(found, then):
        why = f"its schedule is for {then.epochs}; a run may be given more epochs once it is finished"
    elif found.epoch < then.epochs:
        why = f"it has ended at epoch {found.epoch}, flat for {then.patience} epochs, and more would change nothing"
    elif then.schedule != "steps":
        why = f"the schedule {then.schedule!r} ends with the run, at a learning rate of almost nothing"
    else:
        return
    raise ValueError(
        f"the run in {run_dir} cannot be resumed, it has another epochs ({then.epochs}, now {protocol.epochs}): {why}"
    )


def _is_finished(found: Checkpoint, protocol: Protocol) -> bool:
    """True if nothing of ``protocol`` is left to train."""
    planned = (*found.continued, found.protocol.epochs)[0]
    return protocol.ends_flat(found.epoch, found.flat, planned) or found.epoch >= protocol.epochs


def _same(one: object, other: object) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return torch.equal(one, other)
    return type(one) is type(other) and one == other
