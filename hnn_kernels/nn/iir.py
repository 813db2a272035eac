"""The IIR filter as a module, and as the axon or synapse of a layer."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .. import _checks, filters
from .._recurrence import Recurrence
from ..functional import iir


class IIR(nn.Module):
    """A linear filter over all time steps: :func:`hnn_kernels.iir` as a layer.

    It also serves as the axon or the synapse of a :class:`hnn_kernels.nn.LIF`.

    Args:
        feedback, feedforward: ``[P, ...]`` and ``[Q + 1, ...]``, as for :class:`hnn_kernels.IIR`. Its presets fit:
            ``nn.IIR(*hnn_kernels.IIR.dual_exponential(4, 1))``.
        learn: train the coefficients. They become parameters, ``[P, *shape]`` and ``[Q + 1, *shape]``. Nothing
            constrains them, so training can leave the stable region.
        shape: shape of one learnt coefficient, which broadcasts against the features: ``(C, 1, 1)`` is one per channel,
            the features' own shape one per neuron. ``()`` keeps the shape as given, which for floats is one per layer.
        backend: as for :func:`hnn_kernels.iir`.

    Shape:
        ``[T, B, *features]`` to ``[T, B, *features]``.

    Raises:
        TypeError, ValueError: an argument of the wrong type, or coefficients that do not broadcast to ``shape``.
    """

    feedback: Tensor | tuple[float, ...]
    feedforward: Tensor | tuple[float, ...]

    def __init__(
        self,
        feedback: Tensor | Sequence[float | Tensor],
        feedforward: Tensor | Sequence[float | Tensor],
        *,
        learn: bool = False,
        shape: Sequence[int] = (),
        backend: str | None = None,
    ) -> None:
        super().__init__()
        learn = _checks.flag("learn", learn)
        shape = _checks.shape("shape", shape)
        self.backend = backend
        for name, given, least in (("feedback", feedback, 0), ("feedforward", feedforward, 1)):
            value = _coefficients(name, given)
            if len(value) < least:
                raise ValueError(f"{name} must have at least one coefficient; got none")
            if learn and len(value):
                value = torch.as_tensor(value, dtype=torch.get_default_dtype())
                setattr(self, name, nn.Parameter(_spread(name, value, shape)))
            elif isinstance(value, Tensor):
                self.register_buffer(name, value)
            else:
                setattr(self, name, value)

    @property
    def coefficients(self) -> filters.IIR:
        """The coefficients as :func:`hnn_kernels.lif` takes them for ``axon`` or ``synapse``."""
        return filters.IIR(self.feedback, self.feedforward)

    def forward(
        self,
        x: Tensor,
        *,
        state: Tensor | None = None,
        return_state: bool = False,
        recurrence: Recurrence | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Return the filtered ``x``; with ``return_state`` also the state with which a later call continues.

        ``recurrence`` is what a :class:`hnn_kernels.nn.Recurrent` passes.
        """
        y, new_state = iir(
            x, self.feedback, self.feedforward, state=state, return_state=return_state,
            backend=recurrence or self.backend,  # type: ignore[arg-type]
        )  # fmt: skip
        return y if new_state is None else (y, new_state)

    def extra_repr(self) -> str:
        def show(value) -> str:
            if isinstance(value, Tensor):
                return f"{'learnt' if isinstance(value, nn.Parameter) else 'fixed'}{tuple(value.shape)}"
            return "(" + ", ".join(f"{c:.4g}" for c in value) + ")"

        return f"feedback={show(self.feedback)}, feedforward={show(self.feedforward)}"


def _coefficients(name: str, given: Tensor | Sequence[float | Tensor]) -> Tensor | tuple[float, ...]:
    """Copy ``given``: to a tensor if it has one in it, else to floats."""
    if isinstance(given, Tensor):
        _checks.floating(name, given)
        if given.dim() == 0:
            raise ValueError(f"{name} must have the order of the filter as its first axis; got a tensor without axes")
        return given.detach().clone()
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise TypeError(f"{name} must be a tensor or a sequence of coefficients; got {type(given).__name__}")
    if any(isinstance(c, Tensor) for c in given):
        return torch.stack(torch.broadcast_tensors(*(torch.as_tensor(c) for c in given))).detach().clone()
    return tuple(_checks.number(f"{name}[{i}]", c) for i, c in enumerate(given))


def _spread(name: str, value: Tensor, shape: tuple[int, ...]) -> Tensor:
    if not shape:
        return value.clone()
    missing = len(shape) - (value.dim() - 1)
    try:
        spread = value.reshape(len(value), *(1,) * missing, *value.shape[1:]).expand(len(value), *shape)
    except RuntimeError:
        raise ValueError(
            f"{name} must broadcast to the shape {shape} behind its first axis; got shape {tuple(value.shape)}"
        ) from None
    return spread.clone()  # may not fit into memory, which torch says
