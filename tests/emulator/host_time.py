"""The host's part of a call on a GPU, measured without one: every launch is done at once, and does nothing.

    PYTHONPATH=tests:. python -m emulator.host_time [--turns 30]

A small layer runs forward and backward on tensors of the device that is not there, in turns with a no-op autograd
Function of the same tensors. The figures are medians of the processor's time, in microseconds.
"""

import argparse
import statistics
import time

from emulator import device

device.install(run=False)

import torch  # noqa: E402  (it must find the device)

import hnn_kernels  # noqa: E402
from benchmarks.studies.overhead import NoOp, both  # noqa: E402

SHAPE = (25, 4, 32)
CALLS = 50


def calls() -> dict[tuple[str, str], object]:
    """What is timed, by the form of the layer and the backend."""
    current = torch.zeros(SHAPE, device="cuda", requires_grad=True)
    grad = torch.ones(SHAPE, device="cuda")
    fixed = hnn_kernels.IIR.dual_exponential(4, 1)
    learnt = tuple(torch.tensor(c, device="cuda")[:, None].requires_grad_() for c in fixed)
    forms = {"lif": (None, ()), "lif_axon": (fixed, ()), "lif_axon_learnt": (hnn_kernels.IIR(*learnt), learnt)}
    found = {}
    for form, (axon, coefficients) in forms.items():
        leaves = (current, *coefficients)
        for name, backend in hnn_kernels.backends().items():
            if "cuda" in backend.devices:
                found[form, name] = both(
                    lambda axon=axon, name=name: hnn_kernels.lif(
                        current, 0.7, 0.7, axon=axon, return_state=False, backend=name
                    )[0],
                    leaves,
                    grad,
                )
        found[form, "no-op"] = both(lambda leaves=leaves: NoOp.apply(*leaves), leaves, grad)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=30, help="turns of each (default: %(default)s)")
    turns = parser.parse_args().turns
    timed = calls()
    for call in timed.values():
        for _ in range(5):
            call()
    laps: dict[tuple[str, str], list[float]] = {name: [] for name in timed}
    for _ in range(turns):
        for name, call in timed.items():
            start = time.process_time()
            for _ in range(CALLS):
                call()
            laps[name].append((time.process_time() - start) / CALLS * 1e6)
    micro = {name: statistics.median(found) for name, found in laps.items()}
    for (form, name), found in micro.items():
        more = found - micro[form, "no-op"]
        print(f"{form:16} {name:8} {found:7.1f} us" + (f", {more:6.1f} us over the no-op" if name != "no-op" else ""))


if __name__ == "__main__":
    main()
