"""The columns of a record, declared by :class:`Row`; :class:`Run` fills those that all rows of a run share."""

import datetime
import os
from importlib import metadata
from typing import Any, NamedTuple

import torch

from hnn_models.training.device import device_name
from hnn_models.training.provenance import commit

from ..core.cases import Case


class Row(NamedTuple):
    """A measurement, or the reason why there is none (``note``; the figures are then empty).

    Times are those of one call, in milliseconds.

    Attributes:
        run: the date and time of the run, equal for all its rows.
        op, case, dtype: the operation, the size (``"25x64x500"``) and the dtype.
        mode: ``"forward"``, ``"backward"`` or ``"both"``.
        buffers: ``"reused"`` or ``"fresh"`` on a CPU; on a GPU ``"rotated"``, or ``"graph"``: rotated ones in a
            CUDA graph, so that the host's part of a call is left out.
        provider, version: the provider, and the version of its library.
        q25_ms, median_ms, q75_ms: the quartiles of the timed calls.
        bytes_moved: the bytes that must move by the operation's formula.
        gb_per_s, share_of_copy: the bandwidth on these bytes, and its share of a copy's bandwidth in the same run.
        first_call_ms: the first call, with compilation.
        peak_bytes: the most memory during a call, above what was allocated before it.
        tape_bytes: the memory that forward keeps for backward.
        spike_rate: the spikes per neuron and step.
        note: remarks, or the reason why there are no figures.
        device, threads: the device, and torch's number of threads.
        torch, triton, cuda, commit: the versions of the libraries and of this project.
        date: the day of the run.
    """

    run: str
    op: str
    case: str
    dtype: str
    mode: str
    buffers: str
    provider: str
    version: str
    q25_ms: float | None
    median_ms: float | None
    q75_ms: float | None
    ns_per_neuron_step: float | None
    bytes_moved: int | None
    gb_per_s: float | None
    share_of_copy: float | None
    first_call_ms: float | None
    peak_bytes: int | None
    tape_bytes: int | None
    spike_rate: float | None
    note: str
    device: str
    threads: int
    torch: str
    triton: str
    cuda: str
    commit: str
    date: str


MACHINE = Row._fields[Row._fields.index("device") :]  # the columns that describe the machine and its software


class Run:
    """A run on ``device`` that begins now. Its rows share the columns ``run`` and ``MACHINE``."""

    def __init__(self, device: torch.device) -> None:
        now = datetime.datetime.now()
        name = device_name(device)
        if device.type == "cpu":
            name = f"{name}, {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}"
        self.columns: dict[str, Any] = {
            "run": now.isoformat(timespec="seconds"),
            "device": name,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "triton": _triton(),
            "cuda": torch.version.cuda or "",
            "commit": commit(),
            "date": now.date().isoformat(),
        }

    def same_machine(self, row: Row) -> bool:
        """True if ``row`` was measured on this device, with as many threads and the same libraries of torch."""
        return all(getattr(row, name) == self.columns[name] for name in ("device", "threads", "torch"))

    def row(self, case: Case, provider: str, **columns: Any) -> Row:
        """A row with these ``columns``. The other columns are empty, and ``mode`` is ``"both"``."""
        empty = dict.fromkeys(Row._fields) | {"mode": "both", "buffers": "", "version": "", "note": ""}
        own = {"op": case.op, "case": case.name, "dtype": case.dtype, "provider": provider}
        return Row(**(empty | own | self.columns | columns))


def _triton() -> str:
    try:
        return metadata.version("triton")
    except metadata.PackageNotFoundError:
        return ""
