"""The record of all measurements: one CSV form, rows only ever appended."""

from typing import NamedTuple


class Row(NamedTuple):
    """A measurement, or why there is none (``note``; then the figures are empty).

    Times are of one call, in milliseconds. ``bytes_moved`` is what must move by the operation's formula;
    ``share_of_copy`` the achieved bandwidth over that of a copy in the same run, ``peak_bytes`` the most memory
    allocated during a call above what was there before, ``tape_bytes`` what is kept from forward for backward.
    """

    run: str  # one id for all rows of a run: date and time
    op: str
    case: str  # "25x64x500"
    dtype: str
    mode: str  # forward, backward, both
    buffers: str  # reused, fresh (CPU); rotated (GPU)
    provider: str
    version: str
    q25_ms: float | None
    median_ms: float | None
    q75_ms: float | None
    ns_per_neuron_step: float | None
    bytes_moved: int | None
    gb_per_s: float | None
    share_of_copy: float | None
    first_call_ms: float | None  # with compilation
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
