"""The memory that a launch sees, and the checks of every access.

Global memory is that of this process, in blocks that are known by their first address and size. A generic address is a
global one, or lies in a window for parameters, local or shared memory.
"""

import numpy as np

from . import native
from .threads import Threads

PARAM, LOCAL, SHARED = (np.uint64(1 << bit) for bit in (60, 61, 62))
# Accesses are noted for each two bytes, the smallest that a kernel writes.
GRANULE = 2
_MANY = -1


class Report(Exception):  # noqa: N818  (a finding about the kernel)
    """A wrong access of a kernel."""


class Shadow:
    """Which thread wrote and read each granule in this launch, to find accesses whose order nothing fixes.

    Two threads may touch a granule that one of them writes only if they are of one block, with a barrier between.
    """

    def __init__(self, granules: int, threads: Threads, of_block: bool):
        self.threads, self.of_block = threads, of_block
        self.writer, self.written, self.reader, self.read = np.zeros((4, granules), np.int32)  # thread + 1, epoch
        self.by_cache = np.zeros(granules, bool)
        # The instruction + 1 that stored there last, and one that did after another one had.
        self.stored, self.again = np.zeros((2, granules), np.int32)

    def _unordered(self, other: np.ndarray, epoch: np.ndarray, me: np.ndarray) -> np.ndarray:
        """True where the access of thread ``other - 1`` in ``epoch`` does not come before that of thread ``me``."""
        per_block = self.threads.per_block
        known = self.of_block | ((other > 0) & ((other - 1) // per_block == me // per_block))
        return (other != 0) & (other != me + 1) & ~(known & (epoch < self.threads.epoch[me]))

    def load(self, granules: np.ndarray, me: np.ndarray, by_cache: bool) -> str:
        """Note a load of ``granules``, [n, k], by the threads ``me``, [n, 1]. Return what is wrong with it, or ""."""
        writer = self.writer[granules]
        if self._unordered(writer, self.written[granules], me).any():
            return "a race: it reads what another thread writes, and no barrier is between"
        if by_cache and writer.any():
            return "a non-coherent load of what this launch wrote"
        old, epoch = self.reader[granules], self.threads.epoch[me]
        self.reader[granules] = np.where((old == 0) | (old == me + 1), me + 1, _MANY)
        if (self.reader[granules] != me + 1).any():  # some are read by several threads in this very instruction
            shared = self.reader[granules] != me + 1
            self.reader[granules[shared]] = _MANY
        self.read[granules] = np.maximum(self.read[granules], epoch)
        if by_cache:
            self.by_cache[granules] = True
        return ""

    def store(self, granules: np.ndarray, me: np.ndarray, instruction: int) -> str:
        """Note a store, as :meth:`load` does."""
        writer = self.writer[granules]
        if self._unordered(writer, self.written[granules], me).any():
            return "a race: two threads write one place, and no barrier is between"
        if self._unordered(self.reader[granules], self.read[granules], me).any():
            return "a race: it writes what another thread reads, and no barrier is between"
        if self.by_cache[granules].any():
            return "a store to what this launch loads non-coherently"
        self.again[granules[(writer != 0) & (self.stored[granules] != instruction + 1)]] = instruction + 1
        self.stored[granules] = instruction + 1
        self.writer[granules] = me + 1
        if (self.writer[granules] != me + 1).any():
            return "a race: two threads write one place in one instruction"
        self.written[granules] = self.threads.epoch[me]
        return ""


def _granules(offsets: np.ndarray, size: int) -> np.ndarray:
    return offsets[:, None] // GRANULE + np.arange(-(-size // GRANULE))


def _different(at: np.ndarray, values: np.ndarray, me: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The stores without those that repeat another one of this instruction, as Triton makes them."""
    _, first, same = np.unique(at, return_index=True, return_inverse=True)
    if len(first) == len(at) or (values != values[first][same]).any():
        return at, values, me
    return at[first], values[first], me[first]


class Memory:
    """The state spaces of one launch.

    Args:
        blocks: the starts and sizes of the blocks of global memory, [n] each, by rising start.
        threads: the threads.
        shared_bytes, local_bytes: the shared memory of a block, and the local memory of a thread.
        parameters: the bytes of the kernel's parameters.
    """

    def __init__(self, blocks, threads: Threads, shared_bytes: int, local_bytes: int, parameters: bytes):
        self.starts, self.sizes = blocks
        granules = -(-self.sizes.astype(np.int64) // GRANULE)
        self.first = np.concatenate([[0], np.cumsum(granules)])
        self.shadow = Shadow(int(self.first[-1]), threads, of_block=False)
        self.threads = threads
        count = len(threads.epoch)
        grid = -(-count // threads.per_block)
        self.shared_bytes, self.local_bytes = shared_bytes, local_bytes
        self.shared = np.full(grid * shared_bytes, 0xFF, np.uint8)
        self.shared_shadow = Shadow(-(-self.shared.size // GRANULE), threads, of_block=True)
        self.local = np.full(count * local_bytes, 0xFF, np.uint8)
        self.local_written = np.zeros(self.local.size, bool)
        self.parameters = np.frombuffer(bytes(parameters), np.uint8)
        self.loads = self.stores = 0

    def load(self, space: str, addresses: np.ndarray, size: int, me: np.ndarray, by_cache: bool) -> np.ndarray:
        """The bytes, [n, size], that the threads ``me`` load from ``addresses``; raises a :class:`Report`."""
        space, addresses = self._space(space, addresses, size)
        if space == "global":
            granules = self._global(addresses, size)
            self._check(self.shadow.load(granules, me[:, None], by_cache))
            self.loads += addresses.size
            return native.gather(addresses, size)
        if space == "param":
            return self._in(self.parameters, self._inside(addresses, size, self.parameters.size, space), size)
        if space == "shared":
            at = self._inside(addresses, size, self.shared_bytes, space) + self._block(me)
            granules = _granules(at, size)
            if not self.shared_shadow.writer[granules].all():
                raise Report("a load of shared memory that nothing has written")
            self._check(self.shared_shadow.load(granules, me[:, None], False))
            return self._in(self.shared, at, size)
        at = self._inside(addresses, size, self.local_bytes, space) + me * self.local_bytes
        if not self._in(self.local_written, at, size).all():
            raise Report("a load of local memory that the thread has not written")
        return self._in(self.local, at, size)

    def store(self, space: str, addresses: np.ndarray, values: np.ndarray, me: np.ndarray, instruction: int) -> None:
        """Store the bytes, [n, size]; ``instruction`` is the place of the store in the code."""
        size = values.shape[1]
        space, addresses = self._space(space, addresses, size)
        if space == "global":
            self._check(self.shadow.store(self._global(addresses, size), me[:, None], instruction))
            self.stores += addresses.size
            native.scatter(addresses, values)
        elif space == "shared":
            at = self._inside(addresses, size, self.shared_bytes, space) + self._block(me)
            at, values, me = _different(at, values, me)
            self._check(self.shared_shadow.store(_granules(at, size), me[:, None], instruction))
            self.shared[at[:, None] + np.arange(size)] = values
        elif space == "local":
            at = (self._inside(addresses, size, self.local_bytes, space) + me * self.local_bytes)[:, None]
            self.local[at + np.arange(size)] = values
            self.local_written[at + np.arange(size)] = True
        else:
            raise Report(f"a store to the {space} space")

    def stored_twice(self) -> list[int]:
        """The instructions that stored where another one had, in global memory that nothing in this launch reads.

        One instruction that stores to a place again may do so in scratch memory, of which a loop reads a part.
        """
        return np.unique(self.shadow.again[(self.shadow.again != 0) & (self.shadow.reader == 0)] - 1).tolist()

    def _block(self, me: np.ndarray) -> np.ndarray:
        return me // self.threads.per_block * self.shared_bytes

    @staticmethod
    def _check(wrong: str) -> None:
        if wrong:
            raise Report(wrong)

    @staticmethod
    def _in(memory: np.ndarray, at: np.ndarray, size: int) -> np.ndarray:
        return memory[at[:, None] + np.arange(size)]

    @staticmethod
    def _space(space: str, addresses: np.ndarray, size: int) -> tuple[str, np.ndarray]:
        """The space that is meant, and the addresses in it."""
        window = addresses[0] >> np.uint64(60)
        if space in ("", "generic"):
            space = {0: "global", 1: "param", 2: "local", 4: "shared"}.get(int(window), "global")
        if (addresses % np.uint64(size)).any():
            raise Report(
                f"a misaligned access: {int(addresses[(addresses % np.uint64(size)) != 0][0]):#x} for {size} bytes"
            )
        if space == "global":
            return space, addresses
        return space, addresses & np.uint64((1 << 60) - 1)

    @staticmethod
    def _inside(addresses: np.ndarray, size: int, room: int, space: str) -> np.ndarray:
        at = addresses.astype(np.int64)
        if (at + size > room).any():
            raise Report(f"an access out of bounds: byte {int(at.max())} of {room} of the {space} space")
        return at

    def _global(self, addresses: np.ndarray, size: int) -> np.ndarray:
        """The granules; an address must lie in a block."""
        index = np.searchsorted(self.starts, addresses, "right") - 1
        offset = addresses - self.starts[index]  # an address before all blocks wraps, and is outside
        outside = (index < 0) | (offset + np.uint64(size) > self.sizes[index]) | (offset > self.sizes[index])
        if outside.any():
            at = np.flatnonzero(outside)[0]
            beyond = int(addresses[at]) - int(self.starts[index[at]]) - int(self.sizes[index[at]])
            raise Report(
                f"an access out of bounds: {size} bytes at {int(addresses[at]):#x}, {beyond} bytes behind the end of "
                f"the block before it ({outside.sum()} of {addresses.size} threads)"
            )
        return self.first[index][:, None] + _granules(offset.astype(np.int64), size)
