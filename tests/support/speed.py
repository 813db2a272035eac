"""Speed on a busy machine: the CPU time of one thread, divided by that of a plain torch operation.

A thread's CPU time has no waiting for a processor in it. The two are timed in turns, so that anything that slows the
machine slows both. It needs a process of its own whose allocator keeps the memory that is freed: otherwise most of the
time is page faults, whose number depends on what ran before. The fixed cost of a call is measured beside a no-op
autograd Function (``benchmarks/studies/overhead.py``).

    python tests/support/speed.py          # prints the ratios of the main operations, and the fixed costs
    python tests/support/speed.py --save   # saves them, for every instruction set that the processor runs
"""

import contextlib
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

import hnn_kernels
from benchmarks.core.definitions import LAYERS
from hnn_kernels import IIR, _extensions, keep_what_is_freed

SHAPE = (25, 16, 512)
_ATTEMPTS, _ROUNDS, _CALLS = 3, 15, 3
_SMALL_CALLS = 50
FIXED = "fixed cost"  # in the place of an instruction set
BASELINE = Path(__file__).with_name("speed.json")

Call = Callable[[], object]


def operations() -> dict[str, Call]:
    """The main operations on ``SHAPE``, with gradients where they have any."""
    generator = torch.Generator().manual_seed(0)
    current = torch.randn(SHAPE, generator=generator).add_(0.5).requires_grad_()
    grad = torch.randn(SHAPE, generator=generator)
    rate, log_std = torch.rand(SHAPE[1:], generator=generator), torch.full(SHAPE[1:], -1.0)
    axon = IIR.dual_exponential(4, 1)
    learnt = IIR(*(torch.tensor(c)[:, None].repeat(1, SHAPE[-1]).requires_grad_() for c in axon))

    def trained(run: Callable[[torch.Tensor], torch.Tensor], *others: torch.Tensor) -> Call:
        return lambda: torch.autograd.grad(run(current), (current, *others), grad)

    return {
        "plain": trained(torch.sigmoid),
        "lif": trained(lambda x: hnn_kernels.lif(x, 0.7, 0.7)[0]),
        "lif_axon": trained(lambda x: hnn_kernels.lif(x, 0.7, 0.7, axon=axon)[0]),
        "lif_axon_learnt": trained(lambda x: hnn_kernels.lif(x, 0.7, 0.7, axon=learnt)[0], *learnt),
        "lif_definition": trained(lambda x: LAYERS["lif"](x)[0]),
        "iir": trained(lambda x: hnn_kernels.iir(x, *axon)[0]),
        "encode_gaussian": lambda: hnn_kernels.encode_gaussian(rate, log_std, SHAPE[0], seed=1),
        "encode_poisson": lambda: hnn_kernels.encode_poisson(rate, SHAPE[0], seed=1),
    }


def fixed_costs() -> dict[str, float]:
    """The time of small calls over that of a no-op autograd Function both ways, by the names of the study."""
    from benchmarks.studies import overhead

    def repeated(call: Call) -> Call:
        return lambda: [call() for _ in range(_SMALL_CALLS)]

    current, grad = torch.zeros(overhead.SHAPE, requires_grad=True), torch.ones(overhead.SHAPE)
    defined = overhead.both(lambda: LAYERS["lif"](current, return_state=False)[0], (current,), grad)
    small = overhead.layers() | overhead.steps() | {("lif_definition", "cpu"): defined}
    plain = repeated(small["lif", overhead.NO_OP])
    return {op: ratio(repeated(call), plain) for (op, name), call in small.items() if name != overhead.NO_OP}


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Run torch, and with it the kernels, in the calling thread alone."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def ratio(run: Call, plain: Call) -> float:
    """The median time of ``run`` over that of ``plain``, in turns: the least of some attempts."""

    def seconds(call: Call) -> float:
        call()  # pays for what the other left in the caches
        start = time.thread_time()
        for _ in range(_CALLS):
            call()
        return time.thread_time() - start

    with one_thread():
        return min(statistics.median(seconds(run) / seconds(plain) for _ in range(_ROUNDS)) for _ in range(_ATTEMPTS))


def too_slow(ratios: dict[str, float], saved: dict[str, float], allowed: float) -> dict[str, tuple[float, float]]:
    """Ratio and saved ratio of what takes more than ``allowed`` times as long as saved.

    Raises:
        KeyError: there is no saved ratio for an operation.
    """
    return {name: (value, saved[name]) for name, value in ratios.items() if value > allowed * saved[name]}


def instruction_set() -> str:
    """``"avx512"``, ``"avx2"`` or ``"default"``."""
    return _extensions.cpu.build_info()["instruction_set"]


def measured() -> dict[str, float]:
    """The ratios of the main operations with the current instruction set."""
    calls = operations()
    plain = calls.pop("plain")
    return {name: round(ratio(call, plain), 2) for name, call in calls.items()}


def main() -> None:
    """Measure, and print or save."""
    keep_what_is_freed()
    fixed = {name: round(value, 2) for name, value in fixed_costs().items()}
    if "--save" not in sys.argv:
        print(json.dumps({instruction_set(): measured(), FIXED: fixed}))
        return
    saved = json.loads(BASELINE.read_text()) if BASELINE.exists() else {}
    saved[FIXED] = fixed
    for name in _extensions.cpu.instruction_sets():
        _extensions.cpu.use_instruction_set(name)
        saved[instruction_set()] = measured()
    BASELINE.write_text(json.dumps(saved, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
