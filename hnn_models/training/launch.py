"""The processes that share a run: what a launcher's variables say, and when they are believed.

``RANK``, ``WORLD_SIZE``, ``LOCAL_RANK``, ``MASTER_ADDR`` and ``MASTER_PORT`` together form a launch; torchrun sets all.
``WORLD_SIZE`` above 1 or ``RANK`` above 0 without the others is half a launch, and refused. What is left over of one
(``LOCAL_RANK`` alone, say) is ignored. SLURM's and MPI's own variables never form a launch: a batch script and an
interactive shell run one process, whatever number of tasks was asked for; each of several tasks of ``srun``, ``mpirun``
or ``jsrun`` is refused, because all would write the same run. An empty variable is an unset one.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from ..data.batches import Share

TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")

# Launchers that start processes and do not set these: how many there are, and which one this is.
_OTHERS = (
    ("srun", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),
    ("mpirun", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
    ("mpirun", "PMI_SIZE", "PMI_RANK"),
    ("mpirun", "MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK"),
    ("jsrun", "JSM_NAMESPACE_SIZE", "JSM_NAMESPACE_RANK"),
)


class Launch(NamedTuple):
    """The processes of a run and this one among them: ``rank`` of ``world``, the ``local_rank``-th on its machine.

    They meet at ``address`` and ``port``.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    address: str = ""
    port: int = 0

    @property
    def share(self) -> Share:
        """This process's share of every batch."""
        return Share(self.rank, self.world)


ALONE = Launch()


def launch() -> Launch:
    """The launch that this process is part of; :data:`ALONE` where it is the only process.

    Raises:
        ValueError: half a launch, a variable that is not what it must be, or a task of ``srun``, ``mpirun`` or
            ``jsrun`` that has others beside it.
    """
    given = _given()
    world, rank = _number(given, "WORLD_SIZE", 1), _number(given, "RANK", 0)
    if world == 1 and rank == 0:
        _check_others(given)
        return ALONE
    here = [f"{name}={given[name]}" for name in ("RANK", "WORLD_SIZE") if name in given]
    missing = [name for name in TORCHRUN if name not in given]
    if missing:
        raise ValueError(
            f"{' and '.join(here)} tell{'s' if len(here) == 1 else ''} of several processes, but {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not set: start them with torchrun, or unset "
            f"{' '.join(name for name in TORCHRUN if name in given)}"
        )
    if rank >= world:
        raise ValueError(f"RANK must be below WORLD_SIZE; got {' and '.join(here)}")
    local_rank, port = _number(given, "LOCAL_RANK", 0), _number(given, "MASTER_PORT", 1)
    if local_rank > rank:
        raise ValueError(f"LOCAL_RANK must not be above RANK; got LOCAL_RANK={local_rank} and RANK={rank}")
    return Launch(rank, world, local_rank, given["MASTER_ADDR"], port)


@contextmanager
def without_leftovers() -> Iterator[None]:
    """Import Lightning inside: it reads these variables as it is imported, whether they form a launch or not."""
    try:
        believed = launch() != ALONE
    except ValueError:  # said by whoever trains
        believed = False
    names = () if believed else ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")
    hidden = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)


def _given() -> dict[str, str]:
    """The variables that are set, and not empty."""
    found = {}
    for name in (
        "RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT",
        "SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_JOB_NAME", "SLURM_PTY_PORT",
        "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "PMI_SIZE", "PMI_RANK",
        "MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK", "JSM_NAMESPACE_SIZE", "JSM_NAMESPACE_RANK",
    ):  # fmt: skip
        value = os.environ.get(name, "").strip()
        if value:
            found[name] = value
    return found


def _check_others(given: dict[str, str]) -> None:
    for launcher, count, which in _OTHERS:
        tasks, number = (_count(given.get(one, "")) for one in (count, which))
        if launcher == "srun" and number == 0 and _is_interactive(given):
            continue
        if tasks > 1 or number > 0:
            told = ", ".join(f"{one}={given[one]}" for one in (count, which) if one in given)
            raise ValueError(
                f"this is one of several tasks of {launcher} ({told}), which do not share a run: start one task, in it "
                f"torchrun for several processes; or unset {count} {which} where each task has a folder of its own"
            )


def _is_interactive(given: dict[str, str]) -> bool:
    """True in a shell that ``srun --pty`` or ``salloc`` opened: of its tasks only the first runs commands."""
    return "SLURM_PTY_PORT" in given or given.get("SLURM_JOB_NAME") in ("bash", "interactive")


def _number(given: dict[str, str], name: str, least: int) -> int:
    """The variable's number, which must be at least ``least``, and is that where it is not set."""
    if name not in given:
        return least
    if not given[name].isascii() or not given[name].isdigit() or int(given[name]) < least:
        raise ValueError(f"the variable {name} must be a whole number of at least {least}; got {given[name]!r}")
    return int(given[name])


def _count(word: str) -> int:
    """The number that ``word`` is; 0 where it is none."""
    return int(word) if word.isascii() and word.isdigit() else 0
