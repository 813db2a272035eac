"""What a GPU should take for a kernel, from the kernel's machine code and the GPU's data sheet. Nothing is measured.

docs/gpu.md explains the model.
"""

import re
from pathlib import Path
from typing import NamedTuple

from .machine_code import Loop

_ARGUMENTS = (Path(__file__).parents[2] / "csrc" / "cuda" / "arguments.h").read_text()


class Architecture(NamedTuple):
    """What a multiprocessor holds: CUDA C++ Programming Guide, "Technical Specifications per Compute Capability"."""

    shared_bytes: int
    warps: int = 64
    blocks: int = 32
    registers: int = 65536
    # From the guide's chapter on occupancy: registers are given to warps in these portions, and every block takes some
    # shared memory for the system.
    register_portion: int = 256
    reserved_bytes: int = 1024


ARCHITECTURES = {80: Architecture(164 << 10), 90: Architecture(228 << 10), 100: Architecture(228 << 10)}


class GPU(NamedTuple):
    """A device: ``bytes_per_s`` of its memory, and the clock that is assumed for it, in Hz."""

    bytes_per_s: float
    multiprocessors: int = 132
    clock: float = 1.755e9
    capability: int = 90


# NVIDIA's data sheets of the H100 SXM and the H200 SXM, which are the same chip with different memory.
GPUS = {"H100 SXM": GPU(3.35e12), "H200 SXM": GPU(4.8e12)}
SCHEDULERS = 4  # per multiprocessor; each issues one instruction of a warp per clock
# Clocks: https://pmc.ncbi.nlm.nih.gov/articles/PMC10448217/table/t0015, which has the clock, too.
MEMORY_LATENCY = 400
ARITHMETIC_LATENCY = 4
LAUNCH_S = 3e-6  # assumed

SIZES = {"fp32": 4, "bf16": 2}


class Kernel(NamedTuple):
    """A kernel and what the compilers made of it for one architecture.

    ``layer`` is one of lif, axon, axon learnt, iir, gaussian, poisson; ``direction`` forward or backward.
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
        """Whether it is a coding's."""
        return self.layer in ("gaussian", "poisson")

    @property
    def trains(self) -> tuple[int, int]:
        """How often each step of a neuron is read and written, at least."""
        if self.coding:
            return (0, 1) if self.direction == "forward" else (1, 0)
        if self.direction == "forward" or self.layer == "iir":
            return 1, 1
        return 2, 1

    @property
    def floor_bytes(self) -> int:
        """Bytes of a neuron-step that must move."""
        return sum(self.trains) * SIZES[self.dtype]

    @property
    def recomputes(self) -> bool:
        """Whether steps are computed again in segments."""
        return self.direction == "backward" and self.layer not in ("iir", "gaussian")

    # -- what the sources say: block, steps of a segment, steps of a turn ---------------------------------------------

    def block(self, neurons: int) -> int:
        """Threads per block."""
        if self.backend == "cuda":
            return _constant("kForwardBlock" if self.direction == "forward" or self.coding else "kBackwardBlock")
        if self.coding:
            from hnn_kernels._triton.coding import BLOCK

            return BLOCK
        from hnn_kernels._triton.launch import launch_config

        return launch_config(neurons).num_warps * 32

    @property
    def _rows(self) -> int:
        """Values that the CUDA kernel keeps of a step in shared memory: V, and for a learnt axon its output."""
        return 2 if self.layer == "axon learnt" else 1

    def segment(self, steps: int) -> int:
        """Steps of which backward keeps the potentials at once."""
        if self.backend == "cuda":
            return min(_constant("kSharedBytes") // (self._rows * _constant("kBackwardBlock") * 4), steps)
        from hnn_kernels._triton.launch import segment_steps

        return segment_steps(steps, learnt_filter=self.layer == "axon learnt")

    def shared_bytes(self, steps: int) -> int:
        """Shared memory of a block."""
        if self.backend != "cuda" or not self.recomputes:
            return 0
        return self._rows * self.segment(steps) * _constant("kBackwardBlock") * 4

    def segments(self, steps: int) -> int:
        """Segments in a pass over ``steps``."""
        return -(-steps // self.segment(steps)) if self.recomputes else 1

    def read_again(self, steps: int) -> int:
        """Steps of the current that backward reads twice: all but the last segment's."""
        if not self.recomputes or self.segments(steps) == 1:
            return 0
        if self.backend == "cuda":  # a short segment comes first
            return steps - self.segment(steps)
        return (self.segments(steps) - 1) * self.segment(steps)

    # -- the loops ----------------------------------------------------------------------------------------------------

    @property
    def turn_steps(self) -> int:
        """Steps of one turn of the loops."""
        if self.coding:
            return 4
        return self.segment(1000) if self.backend == "triton" and self.direction == "backward" else 8

    @property
    def steady(self) -> list[Loop]:
        """The loops that every step goes through. One may read a state, too, besides the trains."""
        n, again = self.turn_steps, []
        reads, writes = (n * times for times in self.trains)
        if self.recomputes and self.backend == "cuda":  # the current has a loop of its own
            reads -= n
            again = [next(loop for loop in self.loops if loop.counts == (n, 0, True))]
        found = [loop for loop in self.loops if loop.counts[0] >= reads and loop.counts[1] == writes]
        return [min(found, key=lambda loop: loop.instructions), *again]

    @property
    def sweep(self) -> Loop | None:
        """The loop that finds the segments' starts."""
        if not self.recomputes:
            return None
        return next(x for x in self.loops if x.counts[0] == self.turn_steps > x.counts[1] and not x.counts[2])

    @property
    def instructions_per_step(self) -> float:
        """Instructions that a neuron-step issues."""
        return sum(loop.instructions for loop in self.steady) / self.turn_steps

    @property
    def loop_bytes(self) -> float:
        """Bytes of the trains that a neuron-step accesses, counted in the machine code."""
        accesses = [a for loop in self.steady for kind in (loop.loads, loop.stores) for a in kind.items()]
        states = sum(count for _, count in accesses) - sum(self.trains) * self.turn_steps
        return (sum(bits // 8 * count for bits, count in accesses) - 4 * states) / self.turn_steps

    @property
    def widths(self) -> list[int]:
        """Widths of the accesses to the trains, in bits per thread."""
        found = {bits for loop in self.steady for kind in (loop.loads, loop.stores) for bits in kind}
        return sorted(found - ({32} if self.dtype == "bf16" else set()))

    # -- the model ----------------------------------------------------------------------------------------------------

    def warps(self, capability: int, steps: int, neurons: int) -> int:
        """Warps that a multiprocessor holds."""
        limits, warps = ARCHITECTURES[capability], self.block(neurons) // 32
        portion = limits.register_portion
        registers = -(-self.registers * 32 // portion) * portion * warps
        shared = self.shared_bytes(steps) + limits.reserved_bytes
        blocks = min(limits.blocks, limits.warps // warps, limits.registers // registers, limits.shared_bytes // shared)
        return blocks * warps

    def bytes_per_neuron(self, steps: int) -> float:
        """Bytes that a neuron moves in ``steps``."""
        size = SIZES[self.dtype]
        if self.coding:
            parameters = 1 if self.layer == "poisson" else 2 if self.direction == "forward" else 3
            return self.floor_bytes * steps + parameters * size
        moved = self.floor_bytes * steps + self.read_again(steps) * size
        learnt = self.layer == "axon learnt"
        if self.recomputes:  # states at the segments' starts, written and read
            moved += 2 * 4 * (4 if learnt else 2) * (self.segments(steps) - 1)
            moved += 4 * 3 if learnt else 0  # the coefficients' gradients
        return moved

    def instructions(self, steps: int) -> float:
        """Instructions that a neuron issues in ``steps``: Triton's kernels take whole turns."""
        whole = steps if self.backend == "cuda" and not self.coding else -(-steps // self.turn_steps) * self.turn_steps
        issued = whole * self.instructions_per_step
        again = self.read_again(steps)
        return issued + (again * self.sweep.instructions / self.turn_steps if again else 0)

    def seconds(self, gpu: GPU, steps: int, neurons: int) -> dict[str, float]:
        """The time that each of the bounds asks for."""
        held = self.warps(gpu.capability, steps, neurons) * 32 * gpu.multiprocessors
        passes = 2 if self.recomputes else 1
        # Dependent operations of a step: R * V_th, V - that, V >= V_th, R + O; and as many in the adjoint.
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
    """A constant of csrc/cuda/arguments.h."""
    value, shift = re.search(rf"constexpr \w+ {name} = (\d+)(?: << (\d+))?;", _ARGUMENTS).groups()
    return int(value) << int(shift or 0)
