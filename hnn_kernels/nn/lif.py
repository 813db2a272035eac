"""The LIF layer as a module."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .. import checks
from ..functional import READOUTS, RESETS, lif
from ..ops import RESET_GRADS
from ..reference import LIFState
from ..surrogates import SURROGATES

# The ancestor's (SNN-IIR) time constant of 4 steps.
RESET_DECAY = math.exp(-1 / 4)
COEFFICIENTS = ("decay", "reset_decay", "threshold")


def _expand(name: str, value: Tensor, shape: tuple[int, ...]) -> Tensor:
    try:
        return value.expand(shape).clone()
    except RuntimeError:
        raise ValueError(f"{name} must broadcast to the shape {shape}; got shape {tuple(value.shape)}") from None


class LIF(nn.Module):
    """Leaky integrate-and-fire neurons over all time steps; :func:`hnn_kernels.lif` as a layer.

    Stateless: a call starts from zero unless it is given a state, and nothing has to be reset between batches.

    Args:
        decay: membrane decay per step, ``exp(-1 / tau)`` with ``tau`` in steps. Default 0, the paper's ancestor
            (SNN-IIR): no membrane filter.
        reset_decay: decay of the reset variable per step. Default ``exp(-1 / 4)``, the ancestor's ``tau_m = 4``.
        threshold: firing threshold.
        learn: names of the coefficients to train, among ``"decay"``, ``"reset_decay"``, ``"threshold"``. They become
            parameters in float32; nothing constrains them, as in the ancestor.
        shape: shape of the learnt coefficients, broadcast against the features: ``()`` one for the layer,
            ``(C, 1, 1)`` one per channel, the features' own for one per neuron.
        sigma, reset, reset_grad, surrogate, readout, smooth, backend: as for :func:`hnn_kernels.lif`.

    Shape:
        ``[T, B, *features]``, or ``[B, *features]`` with ``steps``, to ``[T, B, *features]`` (``[B, *features]`` with
        ``readout="count"``).
    """

    def __init__(
        self,
        decay: float | Tensor = 0.0,
        reset_decay: float | Tensor = RESET_DECAY,
        threshold: float | Tensor = 1.0,
        *,
        learn: Sequence[str] = (),
        shape: Sequence[int] = (),
        sigma: float = 0.4,
        reset: str = "filter",
        reset_grad: str = "full",
        surrogate: str = "gaussian",
        readout: str = "spikes",
        smooth: bool = False,
        backend: str | None = None,
    ) -> None:
        super().__init__()
        if isinstance(learn, str) or not isinstance(learn, Sequence):
            raise TypeError(f"learn must be a sequence of names, such as ('decay',); got {learn!r}")
        shape = checks.shape("shape", shape)
        for name in learn:
            checks.option("learn", name, COEFFICIENTS)
        checks.option("reset", reset, RESETS)
        checks.option("reset_grad", reset_grad, RESET_GRADS)
        checks.option("surrogate", surrogate, SURROGATES)
        checks.option("readout", readout, READOUTS)
        checks.flag("smooth", smooth)
        for name, value in zip(COEFFICIENTS, (decay, reset_decay, threshold), strict=True):
            if isinstance(value, Tensor):
                checks.floating(name, value)
                value = value.detach().clone()
            else:
                value = checks.number(name, value)
            if name in learn:
                value = torch.as_tensor(value, dtype=torch.get_default_dtype())
                setattr(self, name, nn.Parameter(_expand(name, value, shape) if shape else value))
            elif isinstance(value, Tensor):
                self.register_buffer(name, value)
            else:
                setattr(self, name, value)
        self.sigma = checks.number("sigma", sigma, positive=True)
        self.reset = reset
        self.reset_grad = reset_grad
        self.surrogate = surrogate
        self.readout = readout
        self.smooth = smooth
        self.backend = backend

    def forward(
        self, current: Tensor, *, steps: int | None = None, state: LIFState | None = None, return_state: bool = False
    ) -> Tensor | tuple[Tensor, LIFState]:
        """The spike train (or count) of ``current``; with ``return_state`` also the state that continues it."""
        out, new_state = lif(
            current, self.decay, self.reset_decay, self.threshold, sigma=self.sigma, steps=steps, state=state,
            reset=self.reset, reset_grad=self.reset_grad, surrogate=self.surrogate, readout=self.readout,
            smooth=self.smooth, backend=self.backend,
        )  # fmt: skip
        return (out, new_state) if return_state else out

    def extra_repr(self) -> str:
        def show(name: str) -> str:
            value = getattr(self, name)
            if isinstance(value, Tensor):
                return f"{name}={'learnt' if isinstance(value, nn.Parameter) else 'fixed'}{tuple(value.shape)}"
            return f"{name}={value:.4g}"

        shown = [show(name) for name in COEFFICIENTS]
        defaults = {"reset": "filter", "reset_grad": "full", "surrogate": "gaussian", "readout": "spikes"}
        shown += [f"{name}={getattr(self, name)!r}" for name, value in defaults.items() if getattr(self, name) != value]
        return ", ".join([*shown, f"sigma={self.sigma:g}"])
