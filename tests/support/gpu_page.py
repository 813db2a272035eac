"""A check of docs/gpu.md against the machine code of a kernel."""

import functools

from benchmarks.gpu import page as gpu_page
from benchmarks.gpu.model import ARCHITECTURES, Kernel


@functools.cache
def rows() -> dict[tuple[str, ...], dict[str, str]]:
    return gpu_page.read(gpu_page.PAGE.read_text())


def check(kernel: Kernel, capability: int) -> None:
    """Check that ``kernel`` is as the page says.

    Values that do not depend on the compiler's version must be equal. The others may be a little worse: another version
    of ptxas changes registers and instructions by a few per cent.
    """
    row = rows()[kernel.backend, kernel.layer, kernel.direction, kernel.dtype]

    def said(column: str) -> str:
        values = row[column].split(" / ")
        return values[0] if len(values) == 1 else values[list(ARCHITECTURES).index(capability)]

    assert kernel.spilled == int(said("spilled")) == 0
    assert kernel.loop_bytes == float(said("bytes")) == kernel.floor_bytes
    assert "+".join(map(str, kernel.widths)) == said("bits per access")
    assert kernel.registers <= 1.2 * int(said("registers"))
    assert kernel.instructions_per_step <= 1.2 * float(said("instructions"))
