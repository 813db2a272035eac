"""What every row of a run shares: where and when it was measured, and with what."""

import datetime
import os
from importlib import metadata
from typing import Any, NamedTuple

import torch

from hnn_models.training.device import device_name
from hnn_models.training.provenance import commit

from ..records.rows import Row
from .cases import Case


class Machine(NamedTuple):
    """The columns that all rows of a run have in common."""

    run: str
    device: str
    threads: int
    torch: str
    triton: str
    cuda: str
    commit: str
    date: str

    @classmethod
    def here(cls, device: torch.device) -> "Machine":
        """This one, at this moment."""
        now = datetime.datetime.now()
        name = device_name(device)
        if device.type == "cpu":
            name = f"{name}, {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}"
        return cls(
            now.isoformat(timespec="seconds"), name, torch.get_num_threads(), torch.__version__, _triton(),
            torch.version.cuda or "", commit(), now.date().isoformat(),
        )  # fmt: skip

    def row(self, case: Case, provider: str, **figures: Any) -> Row:
        """A row with these ``figures``; all others are empty."""
        empty = dict.fromkeys(Row._fields) | {"mode": "both", "buffers": "", "version": "", "note": ""}
        own = {"op": case.op, "case": case.name, "dtype": case.dtype, "provider": provider}
        return Row(**(empty | own | self._asdict() | figures))


def _triton() -> str:
    try:
        return metadata.version("triton")
    except metadata.PackageNotFoundError:
        return ""
