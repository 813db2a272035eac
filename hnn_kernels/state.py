"""The state that a layer carries from one call to the next, and its dtype."""

from typing import NamedTuple

import torch
from torch import Tensor


class LIFState(NamedTuple):
    """The state that a LIF layer carries from one call to the next, in the state dtype.

    Attributes:
        v: ``[B, *features]``, the value that decays into the next membrane potential: V[t-1], after an immediate reset.
        r: ``[B, *features]``, the reset variable R[t] that the next step subtracts; zeros with another reset than
            ``"filter"``.
        synapse, axon: the states of the filters as :func:`hnn_kernels.iir` returns them, ``[P + Q, B, *features]``;
            None if the call has no such filter.
    """

    v: Tensor
    r: Tensor
    synapse: Tensor | None = None
    axon: Tensor | None = None


def state_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of state and arithmetic for an input ``dtype``: float64 for float64, float32 otherwise."""
    return torch.float64 if dtype == torch.float64 else torch.float32
