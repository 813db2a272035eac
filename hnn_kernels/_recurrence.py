"""A recurrent call: the current of a step gets a part that is made of the output one step earlier.

A :class:`Recurrence` takes the place of the backend in a call of :func:`hnn_kernels.lif`, :func:`hnn_kernels.iir` or a
neuron by definition. They check their arguments as ever, and hand over the call of all steps.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from ._ops import kinds, recurrent
from .state import state_dtype


class InOneKernel(Protocol):
    """A recurrence that some neurons have in their own kernel."""

    def run(
        self, kind: kinds.Kind, call: Any, out: Tensor | None, backend: str | None
    ) -> tuple[Tensor, Sequence[Tensor]] | None:
        """Return the output of the last step and the outputs of a call; None where it has no kernel here."""


class Recurrence:
    """The recurrent part of a call.

    Args:
        weight: returns the recurrent part of a current, of the output one step earlier.
        matrix: the same as a product with a matrix, or None. Its ``out`` is not read.
        kernel: the same in the neurons' own kernel, or None.
        out: the output before the first step, in the state dtype; None for zeros.
        backend: the backend that is asked for.

    Attributes:
        last: after the call, the output of its last step, in the state dtype.
    """

    def __init__(
        self,
        weight: Callable[[Tensor], Tensor],
        matrix: recurrent.Weights | None,
        kernel: InOneKernel | None,
        out: Tensor | None,
        backend: str | None,
    ):
        self.weight, self.matrix, self.kernel, self.out, self.backend = weight, matrix, kernel, out, backend
        self.last: Tensor | None = None

    def run(self, call: Any, run: Callable[[Any, str | None], Sequence[Tensor]]) -> Sequence[Tensor]:
        """Run a call that was checked; return its outputs in their order.

        ``run`` runs a call that is not recurrent, on the backend that is asked for.
        """
        kind = kinds.kinds[type(call)]
        current, *others = kind.tensors(call)
        length, shape = kinds.size(kind, call)
        dtype = state_dtype(current.dtype)
        if not length:
            self.last = current.new_zeros(shape, dtype=dtype) if self.out is None else self.out.clone()
            return run(call, self.backend)
        found = None if self.kernel is None else self.kernel.run(kind, call, self.out, self.backend)
        if found is not None:
            self.last, outputs = found
            return outputs
        out = None if self.out is None else self.out.to(current.dtype)
        backend = kind.choose(call, self.backend)
        if self.matrix is not None and backend != "reference":
            x, train, *states = recurrent.apply(kind, backend, self.matrix._replace(out=out), call)
        else:
            x, train, states = self._loop(kind, call, out, backend)
        # A copy, which does not hold on to the train, and which a product rounds as it does the output of a step.
        self.last = train[-1].clone() if train.dtype == dtype else train[-1].to(dtype)
        if kind.plain(call):
            return (train, *states) if call.return_state else (train,)
        # Whatever else is read out is that of a layer whose current is the sum.
        return run(kind.with_tensors(call, [x, *others])._replace(steps=None), self.backend)

    def _loop(self, kind: kinds.Kind, call: Any, out: Tensor | None, backend: str) -> tuple[Tensor, Tensor, Any]:
        """Return the summed currents, the outputs, and the states after the last step."""
        current = kind.tensors(call)[0]
        length, shape = kinds.size(kind, call)
        # unbind, not current[t]: the backward of an index fills a whole [T, ...] tensor for every step.
        currents = current.unbind(0) if call.steps is None else [current] * length
        last = current.new_zeros(shape) if out is None else out
        steps = kind.steps(call, backend)
        states: Sequence[Tensor] = kinds.initial_states(kind, call)
        xs, outs = [], []
        for own in currents:
            part = self.weight(last)
            if not isinstance(part, Tensor) or part.shape != shape:
                got = f"shape {tuple(part.shape)}" if isinstance(part, Tensor) else type(part).__name__
                raise ValueError(
                    f"weight must turn the output of a step, of shape {tuple(shape)}, into a current of the same "
                    f"shape; got {got}"
                )
            x = (own + part).to(current.dtype)[None]
            train, *states = steps.forward(x, states)
            last = train[0]
            xs.append(x)
            outs.append(train)
        return torch.cat(xs), torch.cat(outs), states
