"""The LIF layer as a module."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .. import _checks, filters
from .._layer import COEFFICIENTS, FILTERS, POTENTIALS, READOUTS, RESET_GRADS, RESETS
from .._recurrence import Recurrence
from ..functional import lif
from ..state import LIFState
from ..surrogates import SURROGATES
from .iir import IIR

# exp(-1 / tau) with the time constant of SNN-IIR (Fang et al. 2020), on which the paper's code is built: 4 steps.
RESET_DECAY = math.exp(-1 / 4)
# An optimizer's state knows the parameters by their order, so the axon stays in front of the synapse.
_FILTERS = FILTERS[::-1]


def _expand(name: str, value: Tensor, shape: tuple[int, ...]) -> Tensor:
    try:
        spread = value.expand(shape)
    except RuntimeError:
        raise ValueError(f"{name} must broadcast to the shape {shape}; got shape {tuple(value.shape)}") from None
    return spread.clone()  # may not fit into memory, which torch says


def hold(module: nn.Module, name: str, value: Any, learn: bool, shape: tuple[int, ...]) -> None:
    """Let a module have a coefficient: as a parameter of a shape if it is learnt, as a buffer, or as a float."""
    if isinstance(value, Tensor):
        _checks.floating(name, value)
        value = value.detach().clone()
    else:
        value = _checks.number(name, value)
    if learn:
        value = torch.as_tensor(value, dtype=torch.get_default_dtype())
        setattr(module, name, nn.Parameter(_expand(name, value, shape) if shape else value))
    elif isinstance(value, Tensor):
        module.register_buffer(name, value)
    else:
        setattr(module, name, value)


def show(module: nn.Module, name: str) -> str:
    """Return a coefficient of a module for its description."""
    value = getattr(module, name)
    if isinstance(value, Tensor):
        return f"{name}={'learnt' if isinstance(value, nn.Parameter) else 'fixed'}{tuple(value.shape)}"
    return f"{name}={value:.4g}"


class LIF(nn.Module):
    """Leaky integrate-and-fire neurons over all time steps: :func:`hnn_kernels.lif` as a layer.

    The module keeps no state. A call starts from zero unless it is given a state, so nothing has to be reset between
    batches.

    The defaults are the neuron of SNN-IIR, the program of Fang et al. 2020 on which the paper's code is built: its
    membrane keeps nothing (``decay=0``), so it is meant to stand behind a filter. A plain layer has a decay, such as
    ``LIF(0.9, reset="subtract")``.

    Args:
        decay: membrane decay per step, ``exp(-1 / tau)`` with ``tau`` in steps. The default, 0, is a neuron without a
            membrane filter.
        reset_decay: decay of the reset variable per step; ``exp(-1 / 4)`` by default. It must be None with another
            ``reset`` than ``"filter"``.
        threshold: firing threshold.
        axon, synapse: filters of the spike train and of the current, in the same kernel: an :class:`hnn_kernels.IIR`,
            or an :class:`IIR` module.
        learn: names of the coefficients to train, among ``"decay"``, ``"reset_decay"``, ``"threshold"``,
            ``"reset_potential"``, ``"axon"``, ``"synapse"``. They become parameters in torch's default dtype. Nothing
            constrains them, as in SNN-IIR.
        shape: shape of a learnt coefficient, which broadcasts against the features: ``(C, 1, 1)`` is one per channel,
            the features' own shape one per neuron. ``()`` keeps the shape as given, which for floats is one per layer.
        sigma, reset, reset_potential, reset_grad, surrogate, surrogate_scale, tie_fires, readout, potential, smooth,
            checkpoint_every, backend: as for :func:`hnn_kernels.lif`.

    Shape:
        ``[T, B, *features]``, or ``[B, *features]`` with ``steps``, to ``[T, B, *features]`` (``[B, *features]`` with
        ``readout="count"``). With a potential the output is a pair, or the potential alone with ``readout="none"``.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: a value, name or shape that is not allowed.
    """

    decay: float | Tensor
    reset_decay: float | Tensor | None
    threshold: float | Tensor
    reset_potential: float | Tensor
    axon: IIR | None
    synapse: IIR | None

    def __init__(
        self,
        decay: float | Tensor = 0.0,
        reset_decay: float | Tensor | None = None,
        threshold: float | Tensor = 1.0,
        *,
        axon: filters.IIR | IIR | None = None,
        synapse: filters.IIR | IIR | None = None,
        learn: Sequence[str] = (),
        shape: Sequence[int] = (),
        sigma: float = 0.4,
        reset: str = "filter",
        reset_potential: float | Tensor = 0.0,
        reset_grad: str = "full",
        surrogate: str = "gaussian",
        surrogate_scale: float = 1.0,
        tie_fires: bool = True,
        readout: str = "spikes",
        potential: str = "none",
        smooth: bool = False,
        checkpoint_every: int | None = None,
        backend: str | None = None,
    ) -> None:
        super().__init__()
        if isinstance(learn, str) or not isinstance(learn, Sequence):
            raise TypeError(f"learn must be a sequence of names, such as ('decay',); got {learn!r}")
        shape = _checks.shape("shape", shape)
        for name in learn:
            _checks.option("learn", name, (*COEFFICIENTS, *_FILTERS))
        _checks.option("reset", reset, RESETS)
        _checks.option("reset_grad", reset_grad, RESET_GRADS)
        _checks.option("surrogate", surrogate, SURROGATES)
        _checks.option("readout", readout, READOUTS)
        _checks.option("potential", potential, POTENTIALS)
        if readout == potential == "none":
            raise ValueError("readout and potential must not both be 'none': nothing would be returned")
        tie_fires = _checks.flag("tie_fires", tie_fires)
        smooth = _checks.flag("smooth", smooth)
        if checkpoint_every is not None:
            checkpoint_every = _checks.positive_int("checkpoint_every", checkpoint_every)
        if reset == "filter":
            reset_decay = RESET_DECAY if reset_decay is None else reset_decay
        elif reset_decay is not None or "reset_decay" in learn:
            raise ValueError(
                f"reset_decay must be None, and not learnt, with reset={reset!r}: it has no reset variable"
            )
        if reset != "zero" and ("reset_potential" in learn or isinstance(reset_potential, Tensor) or reset_potential):
            raise ValueError(
                f"reset_potential must be 0, and not learnt, with reset={reset!r}, which sets no V; 'zero' does"
            )
        for name, value in zip(COEFFICIENTS, (decay, reset_decay, threshold, reset_potential), strict=True):
            if value is None:
                self.reset_decay = None
                continue
            hold(self, name, value, name in learn, shape)
        for name, given in zip(_FILTERS, (axon, synapse), strict=True):
            if isinstance(given, filters.IIR):
                given = IIR(*given, learn=name in learn, shape=shape)
            elif name in learn:
                raise ValueError(f"learn names {name!r}, but {name} is {'None' if given is None else 'a module'}")
            elif given is not None and not isinstance(given, IIR):
                raise TypeError(f"{name} must be an IIR or None; got {type(given).__name__}")
            setattr(self, name, given)
        self.sigma = _checks.number("sigma", sigma, positive=True)
        self.surrogate_scale = _checks.number("surrogate_scale", surrogate_scale, positive=True)
        self.tie_fires = tie_fires
        self.reset = reset
        self.reset_grad = reset_grad
        self.surrogate = surrogate
        self.readout = readout
        self.potential = potential
        self.smooth = smooth
        self.checkpoint_every = checkpoint_every
        self.backend = backend

    def forward(
        self,
        current: Tensor,
        *,
        steps: int | None = None,
        state: LIFState | None = None,
        return_state: bool = False,
        filters: tuple[IIR | None, IIR | None] | None = None,
        recurrence: Recurrence | None = None,
    ) -> Any:
        """Return the spike train of ``current`` (or its count, or the axon's output), and the potential if it is read.

        With ``return_state`` also return the state with which a later call continues. ``filters`` are the synapse and
        the axon of this call, in place of the layer's own. Where all neurons of a layer share an axon, it and the
        weights behind it can change places: this layer then sends its spikes, and the layer behind has that axon as its
        synapse. ``recurrence`` is what a :class:`hnn_kernels.nn.Recurrent` passes.
        """
        synapse, axon = (self.synapse, self.axon) if filters is None else filters
        out, new_state = lif(
            current, self.decay, self.reset_decay, self.threshold, sigma=self.sigma, steps=steps, state=state,
            axon=None if axon is None else axon.coefficients,
            synapse=None if synapse is None else synapse.coefficients,
            reset=self.reset, reset_potential=self.reset_potential, reset_grad=self.reset_grad,
            surrogate=self.surrogate, surrogate_scale=self.surrogate_scale, tie_fires=self.tie_fires,
            readout=self.readout, potential=self.potential, smooth=self.smooth, return_state=return_state,
            checkpoint_every=self.checkpoint_every,
            backend=recurrence or self.backend,  # type: ignore[arg-type]
        )  # fmt: skip
        return out if new_state is None else (out, new_state)

    def extra_repr(self) -> str:
        absent = {"reset_decay"} if self.reset != "filter" else set()
        absent |= {"reset_potential"} if self.reset != "zero" else set()
        shown = [show(self, name) for name in COEFFICIENTS if name not in absent]
        defaults = {
            "reset": "filter", "reset_grad": "full", "surrogate": "gaussian", "surrogate_scale": 1.0,
            "tie_fires": True, "readout": "spikes", "potential": "none",
        }  # fmt: skip
        shown += [f"{name}={getattr(self, name)!r}" for name, value in defaults.items() if getattr(self, name) != value]
        return ", ".join([*shown, f"sigma={self.sigma:g}"])
