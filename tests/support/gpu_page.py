"""A check of docs/gpu-tables.md against the machine code of a kernel."""

import functools

from benchmarks.gpu import page as gpu_page
from benchmarks.gpu.model import STEPS, Kernel


@functools.cache
def rows() -> dict[tuple[str, ...], dict[str, str]]:
    return gpu_page.read(gpu_page.TABLES.read_text())


def check(kernel: Kernel) -> None:
    """Check that ``kernel`` is as the page says.

    Values that do not depend on the compiler's version must be equal. The others may be a little worse: another version
    of ptxas changes registers and instructions by a few per cent.
    """
    row = rows()[kernel.backend, kernel.layer, kernel.direction, kernel.dtype]
    for i, steps in enumerate(STEPS):
        if steps not in kernel.calls:
            continue

        def said(column: str, i=i) -> float:
            values = row[column].split(" / ")
            return float(values[min(i, len(values) - 1)])

        assert kernel.spilled == said("spilled") == 0
        assert kernel.calls[steps].lanes == said("neurons per thread")
        assert kernel.calls[steps].shared == said("shared")
        assert abs(kernel.bytes(steps) - said("bytes")) <= 0.051
        assert kernel.registers <= 1.2 * said("registers")
        assert kernel.instructions(steps) <= 1.2 * said("instructions")
