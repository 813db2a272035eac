"""Hashes of the CPU kernels' results, for processes that run another instruction set, or another kind of processor.

python -m support.digests
"""

import contextlib
import hashlib
import itertools

import torch

from support.codings import trains
from support.layers import DTYPES, everything, inputs

LAYERS = {
    "plain": {},
    "filters": {"synapse": (1, 1), "axon": (2, 0)},
    "general filters": {"synapse": (0, 2), "axon": (3, 1)},
    "subtract": {"reset": "subtract", "axon": (1, 0)},
    "no membrane": {"synapse": (2, 1), "membrane": False},
}


@contextlib.contextmanager
def _drawn_in_double():
    """Let torch draw in float64, in which it draws the same numbers on every kind of machine."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def digests() -> str:
    """Two hashes of the CPU kernels' results over dtypes and shapes: without the gradients, and with them."""
    forward, both = hashlib.sha256(), hashlib.sha256()
    for dtype, shape, layer in itertools.product(DTYPES, ((9, 3, 131), (4, 2, 5, 7)), LAYERS.values()):
        with _drawn_in_double():
            arguments = inputs(shape, dtype=dtype, kind="mixed", state=True, **layer)
        for name, value in everything(arguments, "cpu").items():
            raw = value.contiguous().view(torch.uint8).numpy().tobytes()
            both.update(raw)
            if name.startswith("result "):
                forward.update(raw)
    for dtype, shape in itertools.product(DTYPES, ((3, 131), (4, 2, 35))):
        for train in trains(shape, dtype):
            raw = train.view(torch.uint8).numpy().tobytes()
            forward.update(raw)
            both.update(raw)
    return f"{forward.hexdigest()} {both.hexdigest()}"


if __name__ == "__main__":
    print(digests())
