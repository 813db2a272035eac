"""Neurons whose output comes back to them one step later."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from .. import _checks
from .._define import layer
from .._define.recurrent import OneToOne
from .._ops.recurrent import Weights
from .._recurrence import Recurrence
from ..products import for_product
from ..state import RecurrentState, state_dtype
from .iir import IIR
from .lif import LIF
from .neuron import Neuron
from .products import SpikeLinear


class Recurrent(nn.Module):
    """Neurons with recurrent connections, over all time steps::

        out[t] = neurons at step t of (current[t] + weight(out[t-1]))        out[-1] = 0, or that of the state

    ``out`` is what the neurons send: their spikes, or with an axon the filtered train.

    All neurons reach all with a module as ``weight``. For an ``nn.Linear`` (and an ``nn.SpikeLinear``, whose products
    go over the spikes alone), the whole loop is one operator: its steps are the neurons' kernels, and the gradients of
    the matrix, the bias and the neurons' coefficients are taken over all steps at once. Any other module, a convolution
    or a Linear with hooks, is called once per step. Each neuron reaches itself alone with a number or a tensor.

    The module keeps no state, as the others.

    Args:
        neurons: an :class:`LIF`, an :class:`IIR` or a :class:`Neuron`, with any of their options; or what
            :func:`hnn_kernels.neuron` returned, with the defaults of its coefficients. Of several outputs the first one
            comes back.
        weight: a module that turns the output of a step, ``[B, *features]``, into a current of the same shape; or a
            float, or a tensor that broadcasts against the features. A tensor is kept as a buffer, and an
            ``nn.Parameter`` is trained.

    Shape:
        That of the neurons.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: a value that is not allowed.
    """

    weight: Any

    def __init__(self, neurons: LIF | IIR | Neuron | layer.Neuron, weight: nn.Module | Tensor | float) -> None:
        super().__init__()
        if isinstance(neurons, layer.Neuron):
            neurons = Neuron(neurons)
        if not isinstance(neurons, LIF | IIR | Neuron):
            raise TypeError(
                "neurons must be an hnn_kernels.nn.LIF, IIR or Neuron, or what hnn_kernels.neuron returned; "
                f"got {type(neurons).__name__}"
            )
        self.neurons = neurons
        if isinstance(weight, nn.Module | nn.Parameter):
            self.weight = weight
        elif isinstance(weight, Tensor):
            _checks.floating("weight", weight)
            self.register_buffer("weight", weight.detach().clone())
        else:
            self.weight = _checks.number("weight", weight)

    def forward(
        self,
        current: Tensor,
        *,
        steps: int | None = None,
        state: RecurrentState | None = None,
        return_state: bool = False,
    ) -> Any:
        """Return what the neurons return for the current with its recurrent part.

        With ``return_state`` also return the :class:`hnn_kernels.RecurrentState` with which a later call continues.
        ``steps`` is for a current that is constant in time, ``[B, *features]``; an :class:`IIR` takes none.
        """
        if steps is not None and isinstance(self.neurons, IIR):
            raise TypeError(f"steps must be None over an nn.IIR, which takes a train; got {steps!r}")
        _checks.current(current, steps)
        shape = current.shape[1:] if steps is None else current.shape
        options: dict[str, Any] = {"return_state": return_state}
        if steps is not None:
            options["steps"] = steps
        out = None
        if state is not None:
            if not isinstance(state, tuple) or len(state) != 2:
                raise TypeError(
                    f"state must be a RecurrentState that an earlier call returned; got {type(state).__name__}"
                )
            out, options["state"] = state
            _checks.state("state.out", out, shape, state_dtype(current.dtype), current.device)
        recurrence = self._recurrence(current, shape, out)
        result = self.neurons(current, recurrence=recurrence, **options)
        if not return_state:
            return result
        result, after = result
        assert recurrence.last is not None
        return result, RecurrentState(recurrence.last, after)

    def _recurrence(self, current: Tensor, shape: Sequence[int], out: Tensor | None) -> Recurrence:
        weight, backend = self.weight, self.neurons.backend
        if isinstance(weight, nn.Module):
            return Recurrence(weight, self._matrix(current, shape), None, out, backend)
        if isinstance(weight, Tensor):
            dtypes = current.dtype, state_dtype(current.dtype)
            _checks.coefficient("weight", weight, shape[1:], dtypes, current.device)
        return Recurrence(lambda sent: weight * sent, None, OneToOne(weight), out, backend)

    def _matrix(self, current: Tensor, shape: Sequence[int]) -> Weights | None:
        """Return the weight as a matrix; None where it is none, or where a call of its module may do more."""
        module = self.weight
        if type(module) not in (nn.Linear, SpikeLinear) or "forward" in vars(module):
            return None
        if getattr(module, "backend", None) is not None:
            return None
        if _checks.has_hooks(module) or nn.modules.module._has_any_global_hook():
            return None
        weight, bias = module.weight, module.bias
        if tuple(weight.shape) != (shape[-1],) * 2 or len(shape) < 2:
            raise ValueError(
                f"weight must be a matrix of the last axis of the features {tuple(shape[1:])} with itself; "
                f"got shape {tuple(weight.shape)}"
            )
        weight, bias = for_product("current", current, weight, bias)
        return Weights(weight, bias, None, type(module) is SpikeLinear)

    def extra_repr(self) -> str:
        if isinstance(self.weight, nn.Module):
            return ""
        if isinstance(self.weight, Tensor):
            kind = "learnt" if isinstance(self.weight, nn.Parameter) else "fixed"
            return f"weight={kind}{tuple(self.weight.shape)}"
        return f"weight={self.weight:.4g}"
