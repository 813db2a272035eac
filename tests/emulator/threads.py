"""The threads of a launch, and their places in it."""

import numpy as np


class Threads:
    """The places of a launch's threads: the blocks that they belong to, and the barriers that they have passed."""

    def __init__(self, count: int, per_block: int):
        self.per_block = per_block
        self.epoch = np.zeros(count, np.int32)


def special_registers(grid, block, count: int) -> dict[str, np.ndarray]:
    """The registers that tell each of ``count`` threads its place, by their names."""
    grid, block = ([*map(int, axes), 1, 1, 1] for axes in (grid, block))
    thread = np.arange(count, dtype=np.uint32)
    per_block = int(np.prod(block[:3]))
    special = {"%laneid": thread % per_block % 32, "%warpid": thread % per_block // 32}
    for name, number, sizes in (("tid", thread % per_block, block), ("ctaid", thread // per_block, grid)):
        for axis, letter in enumerate("xyz"):
            special[f"%{name}.{letter}"] = number // int(np.prod(sizes[:axis])) % sizes[axis]
            special[f"%n{name}.{letter}"] = np.uint32(sizes[axis])
    return special
