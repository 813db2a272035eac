"""The state that a layer carries from one call to the next, and its dtype."""

from typing import NamedTuple

import torch
from torch import Tensor


class LIFState(NamedTuple):
    """The state that a LIF layer carries from one call to the next, in the state dtype.

    ``v`` and ``r`` are ``[B, *features]``.
    ``v`` is what decays into the next step's membrane potential (V[t-1], after an immediate reset) and ``r`` the reset
    variable R[t] that the next step subtracts (zeros with another reset than ``"filter"``). ``synapse`` and ``axon``
    are the filters' states as :func:`hnn_kernels.iir` returns them, or None where the call has no such filter.
    """

    v: Tensor
    r: Tensor
    synapse: Tensor | None = None
    axon: Tensor | None = None


def state_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of state and arithmetic for an input ``dtype``: float64 for float64, float32 otherwise."""
    return torch.float64 if dtype == torch.float64 else torch.float32
