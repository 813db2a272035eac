"""The host's cost of a small call: forward and backward, over a no-op autograd Function of the same tensors."""

import time

import torch

from ...studies.overhead import NO_OP, layers, micros
from . import facts

TURNS = 12


def main() -> None:
    """Say the medians of each form and backend."""
    say, _ = facts.given(__doc__)
    torch.set_num_threads(1)
    before = torch.cuda.synchronize if say.device == "cuda" else lambda: None
    found = micros(layers(say.device), TURNS, time.perf_counter, before)
    for (form, backend), one in found.items():
        if backend != NO_OP:
            more = one - found[form, NO_OP]
            say.say(f"{form}, {backend}", f"{one:.1f} us a call, {more:.1f} us over the no-op")


if __name__ == "__main__":
    main()
    facts.leave(0)
