"""Calls of SpikingJelly's neurons on kernels: of all time steps, of one, and of the forms of its old versions."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..filters import IIR
from ..functional import lif
from ..state import LIFState, state_dtype
from .rules import coefficients_of
from .steps import Defined, as_state, run, without_time
from .swap import arguments


class Layer(NamedTuple):
    """A call of :func:`hnn_kernels.lif`.

    Attributes:
        coefficients: decay, threshold, and those of the reset and the synapse, by the names of :func:`_call_lif`.
        options: the other arguments.
        rest: where the leak leads to. The layer's potential is the distance from it.
    """

    coefficients: Mapping[str, Any]
    options: Mapping[str, Any]
    rest: float


def _states(module: Any, x: Tensor, names: tuple[str, ...]) -> list[Tensor]:
    """Return the states before the first step, in the dtype of the state."""
    given = tuple(getattr(module, name) for name in names)
    if hasattr(module, "materialize_states"):
        given = module.materialize_states((x,), given, "m")
    return as_states(given, x)


def as_states(given: Sequence, x: Tensor) -> list[Tensor]:
    """Return states, numbers and tensors, as those before the first step of ``x``."""
    shape, dtype = x.shape[1:], state_dtype(x.dtype)
    return [
        as_state(value, shape, dtype, x.device)
        if isinstance(value, Tensor)
        else torch.full(shape, value, dtype=dtype, device=x.device)
        for value in given
    ]


def _call_lif(given: Layer, x: Tensor, states: list[Tensor], **options: Any) -> tuple[Any, list[Tensor]]:
    """Return the output of a layer and the states after it."""
    values = coefficients_of(given, x)
    decay, threshold = values.pop("decay"), values.pop("threshold")
    gain, synapse = values.pop("gain", None), values.pop("synapse", None)
    v = states[0] - given.rest if given.rest else states[0]
    filtered = history = None
    if synapse is not None:
        filtered, history = IIR((synapse,), (1.0,)), states[1][None]
    elif gain is not None:
        filtered, history = IIR((), (gain,)), v.new_empty((0, *v.shape))
    state = LIFState(v, torch.zeros_like(v), history)
    out, after = lif(x, decay, None, threshold, synapse=filtered, state=state, **values, **given.options, **options)
    assert after is not None
    v = after.v + given.rest if given.rest else after.v
    return out, [v] if synapse is None else [v, without_time(after.synapse)]  # type: ignore[arg-type]


def run_steps(module: Any, given: Layer | Defined, x: Tensor, states: list[Tensor], record: bool) -> tuple:
    """Return the spikes of all steps, the states after them, and a sequence of trains that are recorded.

    The first one is V behind its reset. A neuron by definition records by its own options, and a layer with ``record``.
    """
    if isinstance(given, Defined):
        (out, *recorded), after_all = run(given, x, states)
        return out, after_all, recorded
    if not record:
        return (*_call_lif(given, x, states), ())
    (out, v), after = _call_lif(given, x, states, potential="train")
    spikes = out.detach() if module.detach_reset else out
    v = v + given.rest if given.rest else v
    if module.v_reset is None:
        return out, after, [v - spikes * module.v_threshold]
    return out, after, [spikes * module.v_reset + (1 - spikes) * v]


def _one_step(module: Any, given: Layer | Defined, x: Tensor, states: Sequence) -> tuple[Tensor, list[Tensor]]:
    """Return the spikes of one step, and the states behind it in the dtype that the library keeps between its steps."""
    train = x.unsqueeze(0)
    out, after, _ = run_steps(module, given, train, as_states(states, train), False)
    return without_time(out), [value if value.dtype is x.dtype else value.to(x.dtype) for value in after]


def methods(names: tuple[str, ...], functional: bool = True) -> dict[str, Callable]:
    """Return the methods of a neuron with these states.

    With ``functional`` the library's own step goes through that of the functional form.
    """

    def functional_train(self, inputs, states, **kwargs):
        given = arguments(self, inputs[0])
        if given is None:
            return self._hnn_original.multi_step_functional_forward(self, inputs, states, **kwargs)
        out, after, _ = run_steps(self, given, inputs[0], as_states(states, inputs[0]), False)
        return (out,), tuple(after)

    def functional_step(self, inputs, states, **kwargs):
        given = arguments(self, inputs[0], one=True)
        if given is None:
            return self._hnn_original.single_step_functional_forward(self, inputs, states, **kwargs)
        out, after = _one_step(self, given, inputs[0], states)
        return (out,), tuple(after)

    def train(self, x_seq, *args, **kwargs):
        given = arguments(self, x_seq)
        if given is None:
            return self._hnn_original.multi_step_forward(self, x_seq, *args, **kwargs)
        states, record = _states(self, x_seq, names), getattr(self, "store_v_seq", False)
        out, after, recorded = run_steps(self, given, x_seq, states, record)
        for name, value in zip(names, after, strict=True):
            setattr(self, name, value)
        if getattr(self, "store_state_seqs", False):
            self.state_seqs = recorded
        elif hasattr(self, "v_seq"):
            self.v_seq = recorded[0] if recorded else None
        return out

    found: dict[str, Callable] = {"multi_step_forward": train, "multi_step_functional_forward": functional_train}
    if functional:
        return found | {"single_step_functional_forward": functional_step}
    return found | {"single_step_forward": step_of(names, "single_step_forward")}


def step_of(names: tuple[str, ...], method: str) -> Callable:
    """Return the ``method`` that computes one step of a neuron with these states, and keeps them."""

    def step(self, x):
        given = arguments(self, x, one=True)
        if given is None:
            return getattr(self._hnn_original, method)(self, x)
        out, after = _one_step(self, given, x, [getattr(self, name) for name in names])
        for name, value in zip(names, after, strict=True):
            setattr(self, name, value)
        return out

    return step


def old_forward(self, x_seq):
    given = arguments(self, x_seq)
    if given is None:
        return self._hnn_original.forward(self, x_seq)
    out, (self.v,), (self.v_seq,) = run_steps(self, given, x_seq, _states(self, x_seq, ("v",)), True)
    return out


def gated_functional(self, inputs, states, **kwargs):
    x = inputs[0]
    given = arguments(self, x)
    if given is None or x.shape[0] != self.T:
        return self._hnn_original.multi_step_functional_forward(self, inputs, states, **kwargs)
    # The conductance of each step is a factor of the input alone.
    beta, conduct = self.beta.view(1, 1, -1, 1, 1).sigmoid(), self.conduct.view(self.T, 1, -1, 1, 1).sigmoid()
    v, _ = as_states(states, x)
    out, after = run(given, x * (1 - beta * (1 - conduct)), (v, torch.zeros_like(v)))
    return out, (after[0], after[0])


def read_out_forward(self, x_seq):
    given = arguments(self, x_seq)
    if given is None:
        return self._hnn_original.forward(self, x_seq)
    read, (self.v,) = _call_lif(given, x_seq, as_states((0.0,), x_seq))
    if self.decode == "max-abs-mem":
        high, low = read.max(0).values, read.min(0).values
        return high * (high.abs() > low.abs()) + low * (high.abs() <= low.abs())
    return list(read.unbind(0)) if given.options["potential"] == "train" else read
