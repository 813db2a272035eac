"""The predicted time of a kernel on a GPU, from its machine code and the GPU's data sheet. Nothing is measured.

docs/gpu.md explains the model.
"""

from typing import NamedTuple

from .walk import MEMORY_LATENCY, Walked

LAYERS = ("lif", "axon", "axon learnt", "iir")
DTYPES = {"fp32": "float32", "bf16": "bfloat16"}
STEPS = (25, 100)
_BYTES = {"fp32": 4, "bf16": 2}
# The compute capability of the GPUs below, and of the pages' machine code.
CAPABILITY = 90
# The limits of a multiprocessor: CUDA C++ Programming Guide, "Technical Specifications per Compute Capability". From
# its chapter on occupancy: warps get registers in portions, and every block reserves some shared memory for the system.
WARPS, BLOCKS, REGISTERS, REGISTER_PORTION = 64, 32, 65536, 256
SHARED_BYTES, RESERVED_BYTES = 228 << 10, 1 << 10
SCHEDULERS = 4  # per multiprocessor; each issues one instruction of a warp per clock


class GPU(NamedTuple):
    """A device.

    Attributes:
        bytes_per_s: the bandwidth of its memory.
        multiprocessors: their number.
        clock: the assumed clock, in Hz.
        cache_bytes: the size of its L2 cache.
    """

    bytes_per_s: float
    multiprocessors: int = 132
    clock: float = 1.755e9
    cache_bytes: int = 50 << 20


# From NVIDIA's data sheets of the H100 SXM and the H200 SXM, the same chip with different memory.
GPUS = {"H100 SXM": GPU(3.35e12), "H200 SXM": GPU(4.8e12)}
# A copy's share of that bandwidth, assumed.
COPY = 0.9


class Call(NamedTuple):
    """A launch of a kernel over many neurons.

    Attributes:
        steps: its time steps.
        lanes: the neurons of each thread.
        block: the threads of a block.
        shared: the shared memory of a block, in bytes.
        walked: what a thread does.
    """

    steps: int
    lanes: int
    block: int
    shared: int
    walked: Walked


class Kernel(NamedTuple):
    """A kernel as compiled for ``CAPABILITY``, and its calls by their time steps.

    Attributes:
        backend: ``"cuda"`` or ``"triton"``.
        layer: one of ``LAYERS``, or a form of layer of tests/support/gpu_calls.py.
        direction: ``"forward"`` or ``"backward"``.
        dtype: ``"fp32"`` or ``"bf16"``.
        name: the function's.
        registers: registers per thread.
        spilled: bytes per thread that are spilled to memory.
        calls: its calls.
    """

    backend: str
    layer: str
    direction: str
    dtype: str
    name: str
    registers: int
    spilled: int
    calls: dict[int, Call]

    @property
    def trains(self) -> tuple[int, int]:
        """The least number of values that are read and written per neuron-step."""
        alone = self.layer.startswith("iir") and "learnt" not in self.layer
        return (1, 1) if self.direction == "forward" or alone else (2, 1)

    @property
    def floor_bytes(self) -> int:
        """The bytes that must move per neuron-step."""
        return sum(self.trains) * _BYTES[self.dtype]

    def warps(self, steps: int) -> int:
        """The number of warps that a multiprocessor holds."""
        call = self.calls[steps]
        warps = call.block // 32
        registers = -(-self.registers * 32 // REGISTER_PORTION) * REGISTER_PORTION * warps
        shared = call.shared + RESERVED_BYTES
        return min(BLOCKS, WARPS // warps, REGISTERS // registers, SHARED_BYTES // shared) * warps

    def instructions(self, steps: int) -> float:
        """The instructions that are issued per neuron-step."""
        call = self.calls[steps]
        return call.walked.instructions / (call.lanes * steps)

    def bytes(self, steps: int) -> float:
        """The bytes of global memory that are accessed per neuron-step."""
        call = self.calls[steps]
        return (call.walked.bytes["LDG"] + call.walked.bytes["STG"]) / (call.lanes * steps)

    def moved(self, gpu: GPU, steps: int) -> float:
        """The bytes per neuron-step that the memory moves.

        What a thread reads besides the trains, once, comes from the L2 cache if that has room for all that the threads
        on the device read and write.
        """
        call, everything = self.calls[steps], self.bytes(steps)
        held = self.warps(steps) * 32 * call.lanes * gpu.multiprocessors
        if held * everything * steps > gpu.cache_bytes:
            return everything
        return self.trains[0] * _BYTES[self.dtype] + call.walked.bytes["STG"] / (call.lanes * steps)

    def in_flight(self, steps: int) -> float:
        """The bytes on their way from memory to a multiprocessor, on average, if its threads wait for nothing else."""
        return self._on_their_way(steps, self.calls[steps].walked.waiting)

    def sustained(self, steps: int) -> float:
        """The bytes on their way if its threads wait for their arithmetic, too."""
        return self._on_their_way(steps, self.calls[steps].walked.clocks)

    def _on_their_way(self, steps: int, clocks: int) -> float:
        return self.warps(steps) * 32 * self.calls[steps].walked.bytes["LDG"] * MEMORY_LATENCY / clocks

    def needed_in_flight(self, gpu: GPU) -> float:
        """The bytes that must be on their way to a multiprocessor for the data sheet's bandwidth (Little's law)."""
        read = self.trains[0] / sum(self.trains)
        return read * gpu.bytes_per_s / gpu.multiprocessors * MEMORY_LATENCY / gpu.clock

    def seconds(self, gpu: GPU, steps: int) -> dict[str, float]:
        """The least time per neuron-step by each of the three bounds, in seconds."""
        call = self.calls[steps]
        neurons = self.warps(steps) * 32 * call.lanes * gpu.multiprocessors  # at one time
        per_clock = gpu.multiprocessors * SCHEDULERS * 32 * gpu.clock
        return {
            "memory": self.moved(gpu, steps) / (COPY * gpu.bytes_per_s),
            "issue": self.instructions(steps) / per_clock,
            "latency": call.walked.clocks / (neurons * steps * gpu.clock),
        }

    def share(self, gpu: GPU, steps: int) -> tuple[float, str]:
        """The share of a copy's rate at which the bytes that must move do, and the bound that it comes from."""
        bounds = self.seconds(gpu, steps)
        bound = max(bounds, key=bounds.__getitem__)
        return self.floor_bytes / (COPY * gpu.bytes_per_s) / bounds[bound], bound
