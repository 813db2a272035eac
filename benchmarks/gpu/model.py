"""The predicted time of a kernel on a GPU, from its machine code and the GPU's data sheet. Nothing is measured.

docs/gpu.md explains the model.
"""

import re
from pathlib import Path
from typing import NamedTuple

from .machine_code import Loop

_ARGUMENTS = (Path(__file__).parents[2] / "csrc" / "cuda" / "arguments.h").read_text()


class Architecture(NamedTuple):
    """The limits of a multiprocessor: CUDA C++ Programming Guide, "Technical Specifications per Compute Capability"."""

    shared_bytes: int
    warps: int = 64
    blocks: int = 32
    registers: int = 65536
    # From the guide's chapter on occupancy: warps get registers in portions of this size, and every block reserves some
    # shared memory for the system.
    register_portion: int = 256
    reserved_bytes: int = 1024


ARCHITECTURES = {80: Architecture(164 << 10), 90: Architecture(228 << 10), 100: Architecture(228 << 10)}


class GPU(NamedTuple):
    """A device.

    Attributes:
        bytes_per_s: the bandwidth of its memory.
        multiprocessors: their number.
        clock: the assumed clock, in Hz.
        capability: the compute capability, a key of ``ARCHITECTURES``.
    """

    bytes_per_s: float
    multiprocessors: int = 132
    clock: float = 1.755e9
    capability: int = 90


# From NVIDIA's data sheets of the H100 SXM and the H200 SXM, the same chip with different memory.
GPUS = {"H100 SXM": GPU(3.35e12), "H200 SXM": GPU(4.8e12)}
SCHEDULERS = 4  # per multiprocessor; each issues one instruction of a warp per clock
# In clocks, from https://pmc.ncbi.nlm.nih.gov/articles/PMC10448217/table/t0015, which also has the clock.
MEMORY_LATENCY = 400
ARITHMETIC_LATENCY = 4
LAUNCH_S = 3e-6  # assumed

SIZES = {"fp32": 4, "bf16": 2}


class Kernel(NamedTuple):
    """A kernel as compiled for one architecture.

    Attributes:
        backend: ``"cuda"`` or ``"triton"``.
        layer: ``"lif"``, ``"axon"``, ``"axon learnt"``, ``"iir"``, ``"gaussian"`` or ``"poisson"``.
        direction: ``"forward"`` or ``"backward"``.
        dtype: ``"fp32"`` or ``"bf16"``.
        registers: registers per thread.
        spilled: bytes per thread that are spilled to memory.
        loops: the loops over time in its machine code.
    """

    backend: str
    layer: str
    direction: str
    dtype: str
    registers: int
    spilled: int
    loops: list[Loop]

    @property
    def coding(self) -> bool:
        """True for the kernel of a coding."""
        return self.layer in ("gaussian", "poisson")

    @property
    def trains(self) -> tuple[int, int]:
        """The least number of values that are read and written per neuron-step."""
        if self.coding:
            return (0, 1) if self.direction == "forward" else (1, 0)
        if self.direction == "forward" or self.layer == "iir":
            return 1, 1
        return 2, 1

    @property
    def floor_bytes(self) -> int:
        """The bytes that must move per neuron-step."""
        return sum(self.trains) * SIZES[self.dtype]

    @property
    def recomputes(self) -> bool:
        """True if backward computes the steps again, in segments."""
        return self.direction == "backward" and self.layer not in ("iir", "gaussian")

    # -- from the sources: threads of a block, steps of a segment, steps of a turn -----------------------------------

    def block(self, neurons: int) -> int:
        """The threads per block."""
        if self.backend == "cuda":
            return _constant("kForwardBlock" if self.direction == "forward" or self.coding else "kBackwardBlock")
        if self.coding:
            from hnn_kernels._triton.coding import BLOCK

            return BLOCK
        from hnn_kernels._triton.launch import launch_config

        return launch_config(neurons).num_warps * 32

    @property
    def _rows(self) -> int:
        """The values per step in the CUDA kernel's shared memory: V, and the output of a learnt axon."""
        return 2 if self.layer == "axon learnt" else 1

    def segment(self, steps: int) -> int:
        """The number of steps whose potentials backward keeps at one time."""
        if self.backend == "cuda":
            return min(_constant("kSharedBytes") // (self._rows * _constant("kBackwardBlock") * 4), steps)
        from hnn_kernels._triton.launch import segment_steps

        return segment_steps(steps, learnt_filter=self.layer == "axon learnt")

    def shared_bytes(self, steps: int) -> int:
        """The shared memory of a block, in bytes."""
        if self.backend != "cuda" or not self.recomputes:
            return 0
        return self._rows * self.segment(steps) * _constant("kBackwardBlock") * 4

    def segments(self, steps: int) -> int:
        """The number of segments in ``steps``."""
        return -(-steps // self.segment(steps)) if self.recomputes else 1

    def read_again(self, steps: int) -> int:
        """The number of steps whose current backward reads twice: all but those of the last segment."""
        if not self.recomputes or self.segments(steps) == 1:
            return 0
        if self.backend == "cuda":  # here the short segment is the first
            return steps - self.segment(steps)
        return (self.segments(steps) - 1) * self.segment(steps)

    # -- the loops ----------------------------------------------------------------------------------------------------

    @property
    def turn_steps(self) -> int:
        """The number of steps in one turn of the loops."""
        if self.coding:
            return 4
        return self.segment(1000) if self.backend == "triton" and self.direction == "backward" else 8

    @property
    def steady(self) -> list[Loop]:
        """The loops that every step goes through. One of them may read a state besides the trains."""
        n, again = self.turn_steps, []
        reads, writes = (n * times for times in self.trains)
        if self.recomputes and self.backend == "cuda":  # a separate loop reads the current
            reads -= n
            again = [next(loop for loop in self.loops if loop.counts == (n, 0, True))]
        found = [loop for loop in self.loops if loop.counts[0] >= reads and loop.counts[1] == writes]
        return [min(found, key=lambda loop: loop.instructions), *again]

    @property
    def sweep(self) -> Loop | None:
        """The loop of the first sweep, which finds the state at the start of each segment."""
        if not self.recomputes:
            return None
        return next(x for x in self.loops if x.counts[0] == self.turn_steps > x.counts[1] and not x.counts[2])

    @property
    def instructions_per_step(self) -> float:
        """The instructions that are issued per neuron-step."""
        return sum(loop.instructions for loop in self.steady) / self.turn_steps

    @property
    def loop_bytes(self) -> float:
        """The bytes of the trains that are accessed per neuron-step, counted in the machine code."""
        accesses = [a for loop in self.steady for kind in (loop.loads, loop.stores) for a in kind.items()]
        states = sum(count for _, count in accesses) - sum(self.trains) * self.turn_steps
        return (sum(bits // 8 * count for bits, count in accesses) - 4 * states) / self.turn_steps

    @property
    def widths(self) -> list[int]:
        """The widths of the accesses to the trains, in bits per thread."""
        found = {bits for loop in self.steady for kind in (loop.loads, loop.stores) for bits in kind}
        return sorted(found - ({32} if self.dtype == "bf16" else set()))

    # -- the model ----------------------------------------------------------------------------------------------------

    def warps(self, capability: int, steps: int, neurons: int) -> int:
        """The number of warps that a multiprocessor holds."""
        limits, warps = ARCHITECTURES[capability], self.block(neurons) // 32
        portion = limits.register_portion
        registers = -(-self.registers * 32 // portion) * portion * warps
        shared = self.shared_bytes(steps) + limits.reserved_bytes
        blocks = min(limits.blocks, limits.warps // warps, limits.registers // registers, limits.shared_bytes // shared)
        return blocks * warps

    def bytes_per_neuron(self, steps: int) -> float:
        """The bytes that move per neuron in ``steps``."""
        size = SIZES[self.dtype]
        if self.coding:
            parameters = 1 if self.layer == "poisson" else 2 if self.direction == "forward" else 3
            return self.floor_bytes * steps + parameters * size
        moved = self.floor_bytes * steps + self.read_again(steps) * size
        learnt = self.layer == "axon learnt"
        if self.recomputes:  # the states at the starts of the segments, written and read
            moved += 2 * 4 * (4 if learnt else 2) * (self.segments(steps) - 1)
            moved += 4 * 3 if learnt else 0  # the coefficients' gradients
        return moved

    def instructions(self, steps: int) -> float:
        """The instructions that are issued per neuron in ``steps``. Triton's kernels always run whole turns."""
        whole = steps if self.backend == "cuda" and not self.coding else -(-steps // self.turn_steps) * self.turn_steps
        issued = whole * self.instructions_per_step
        again = self.read_again(steps)
        return issued + (again * self.sweep.instructions / self.turn_steps if again else 0)

    def seconds(self, gpu: GPU, steps: int, neurons: int) -> dict[str, float]:
        """The least time by each of the four bounds, in seconds."""
        held = self.warps(gpu.capability, steps, neurons) * 32 * gpu.multiprocessors
        passes = 2 if self.recomputes else 1
        # A step has four operations in sequence: R * V_th, V minus that, V >= V_th, R + O. The adjoint has as many.
        chain = 0 if self.coding else 4 * passes * ARITHMETIC_LATENCY
        reads = 0 if not self.trains[0] else steps / self.turn_steps * passes
        warps = -(-neurons // 32)
        return {
            "memory": neurons * self.bytes_per_neuron(steps) / gpu.bytes_per_s,
            "issue": -(-warps // (gpu.multiprocessors * SCHEDULERS)) * self.instructions(steps) / gpu.clock,
            "latency": max(1.0, neurons / held) * (reads * MEMORY_LATENCY + steps * chain) / gpu.clock,
            "launch": LAUNCH_S,
        }


def _constant(name: str) -> int:
    """The value of a constant in csrc/cuda/arguments.h."""
    value, shift = re.search(rf"constexpr \w+ {name} = (\d+)(?: << (\d+))?;", _ARGUMENTS).groups()
    return int(value) << int(shift or 0)
