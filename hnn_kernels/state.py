"""The state that a layer carries from one call to the next, and its dtype."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor


class LIFState(NamedTuple):
    """The state that a LIF layer carries from one call to the next, in the state dtype.

    ``v`` and ``r`` are ``[B, *features]``.
    ``v`` is what decays into the next step's membrane potential (V[t-1], after an immediate reset) and ``r`` the reset
    variable R[t] that the next step subtracts (zeros with another reset than ``"filter"``). ``synapse`` and ``axon``
    are the filters' states as :func:`hnn_kernels.iir` returns them, or None where the call has no such filter.

    ``torch.save`` keeps it, and ``torch.load`` reads it as it is, where ``hnn_kernels`` is imported.
    """

    v: Tensor
    r: Tensor
    synapse: Tensor | None = None
    axon: Tensor | None = None

    def detach(self) -> "LIFState":
        """The same numbers without their history, for backpropagation through time that is truncated here."""
        return self._each(Tensor.detach)

    def clone(self) -> "LIFState":
        """A copy, through which gradients flow."""
        return self._each(Tensor.clone)

    def to(self, *args, **kwargs) -> "LIFState":
        """The state on another device or in another dtype; the arguments are those of :meth:`torch.Tensor.to`."""
        return self._each(lambda tensor: tensor.to(*args, **kwargs))

    def _each(self, function: Callable[[Tensor], Tensor]) -> "LIFState":
        synapse, axon = (None if part is None else function(part) for part in self[2:])
        return LIFState(function(self.v), function(self.r), synapse, axon)


class RecurrentState(NamedTuple):
    """The state that a :class:`hnn_kernels.nn.Recurrent` carries from one call to the next.

    ``out`` is the output of the last step, ``[B, *features]`` in float32 (float64 for a float64 current), and
    ``neurons`` the state of the neurons: a :class:`LIFState`, the tensor of a filter, or the tuple of a neuron by
    definition.

    ``torch.save`` keeps it, and ``torch.load`` reads it as it is, where ``hnn_kernels`` is imported.
    """

    out: Tensor
    neurons: Any

    def detach(self) -> "RecurrentState":
        """The same numbers without their history, for backpropagation through time that is truncated here."""
        return self._each(Tensor.detach)

    def clone(self) -> "RecurrentState":
        """A copy, through which gradients flow."""
        return self._each(Tensor.clone)

    def _each(self, function: Callable[[Tensor], Tensor]) -> "RecurrentState":
        return torch.utils._pytree.tree_map_only(Tensor, function, self)


for _state in (LIFState, RecurrentState):
    # The public name is what a file holds, and what torch.load finds without being told to trust it.
    _state.__module__ = "hnn_kernels"
    torch.serialization.add_safe_globals([_state])
    # torch.export.save writes the structure of a program's outputs by this name.
    torch.utils._pytree._register_namedtuple(_state, serialized_type_name=f"hnn_kernels.{_state.__name__}")


def state_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of state and arithmetic for an input ``dtype``: float64 for float64, float32 otherwise."""
    return torch.float64 if dtype == torch.float64 else torch.float32
