"""The host's part of a call on a GPU, measured without one: every launch is done at once, and does nothing.

    PYTHONPATH=tests:. python -m emulator.host_time [--turns 30]

A small layer runs forward and backward on tensors of the device that is not there, in turns with a no-op autograd
Function of the same tensors. The figures are medians of the processor's time, in microseconds. All threads are on one
processor: on two, half of the time is that of waking autograd's thread, which varies.
"""

import argparse
import os
import time

from emulator import device

device.install(run=False)

# Only now, since torch must find the device.
from benchmarks.gpu.host.facts import leave  # noqa: E402
from benchmarks.studies.overhead import NO_OP, layers, micros  # noqa: E402

SHAPE = (25, 4, 32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=30, help="turns of each (default: %(default)s)")
    turns = parser.parse_args().turns
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    found = micros(layers("cuda", SHAPE), turns, time.process_time, lambda: None)
    for (form, name), micro in found.items():
        more = "" if name == NO_OP else f", {micro - found[form, NO_OP]:6.1f} us over the no-op"
        print(f"{form:16} {name:8} {micro:7.1f} us{more}")


if __name__ == "__main__":
    main()
    leave(0)
