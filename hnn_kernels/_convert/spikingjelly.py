"""SpikingJelly 2, 0.0.0.0.12 and 0.0.0.0.14: neurons that get all time steps in one call.

Where the built-in layer has a neuron's equations, it takes its place; else a neuron by definition does.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .. import _checks
from .._define.layer import Neuron
from ..filters import IIR
from ..functional import lif
from ..state import LIFState, state_dtype
from . import spikingjelly_steps as steps
from .rules import Library, Rule, coefficients_of, full_name
from .steps import Defined, Shape, defined, run
from .swap import arguments

# By the name of a surrogate: its shape for the number alpha.
_SHAPES: dict[str, Callable[[float], Shape]] = {
    "Sigmoid": lambda alpha: ("sigmoid", 1 / alpha, 1.0),
    "ATan": lambda alpha: ("arctan", 2 / (math.pi * alpha), 1.0),
    "Erf": lambda alpha: ("gaussian", 1 / (math.sqrt(2) * alpha), 1.0),
    "PiecewiseExp": lambda alpha: ("exponential", 1 / alpha, 1.0),
    "PiecewiseQuadratic": lambda alpha: ("triangle", 1 / alpha, 1.0),
    "Rect": lambda alpha: ("rectangle", 1 / (2 * alpha), 1.0),
    "SoftSign": lambda alpha: ("fast_sigmoid", 1 / alpha, 1.0),
    "SuperSpike": lambda alpha: ("fast_sigmoid", 1.0, 2 * alpha),
}
_SURROGATES = ("spikingjelly.activation_based.surrogate", "spikingjelly.clock_driven.surrogate")
# Where a coefficient has another name than the attribute.
_NAMES = {"steepness": "delta_T"}


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


# -- what a module becomes ---------------------------------------------------------------------------------------------


def _shape(function: Any) -> Shape | str:
    """Return the shape of a surrogate, or why it has none here."""
    kind = type(function)
    known = _SHAPES.get(kind.__name__) if kind.__module__ in _SURROGATES else None
    if known is None:
        return f"hnn_kernels has no surrogate like {full_name(kind)}"
    if not function.spiking:
        return "its surrogate is not in spiking mode"
    if not isinstance(function.alpha, int | float) or function.alpha <= 0:
        return f"the alpha of its surrogate is {function.alpha!r}, and not a number above 0"
    return known(function.alpha)


def _stays(module: Any) -> str:
    """Return why the library has to compute the module's steps; empty where it has not."""
    if getattr(module, "step_mode", "m") != "m":
        return (
            "its step_mode is 's', one step in a call: set 'm' (functional.set_step_mode), or use hnn_kernels.unroll "
            "where the loop over time is yours"
        )
    if getattr(module, "_neuron_precision", None) is not None:
        return "it has a precision of its own"
    if getattr(module, "backend", "torch") == "lava":
        return "its backend is lava"
    if isinstance(module.surrogate_function, nn.Module) and _checks.has_hooks(module.surrogate_function):
        return "its surrogate has hooks, which a call for each step would reach"
    return ""


def _layer(module: Any, decay: Any, gain: Any, rest: float = 0.0, synapse: Any = None) -> Layer | str:
    """Return the layer of a module, or why there is none.

    ``gain`` is a factor of the input, or None. ``synapse`` is the decay of a current, or None.
    """
    shape = _stays(module) or _shape(module.surrogate_function)
    if isinstance(shape, str):
        return shape
    surrogate, width, scale = shape
    hard = module.v_reset is not None
    options = {
        "reset": "zero" if hard else "subtract", "reset_grad": "detach" if module.detach_reset else "full",
        "surrogate": surrogate, "sigma": width, "surrogate_scale": scale,
    }  # fmt: skip
    coefficients = {"decay": decay, "threshold": module.v_threshold - rest}
    coefficients |= {"reset_potential": module.v_reset - rest} if hard else {}
    coefficients |= {} if gain is None else {"gain": gain}
    coefficients |= {} if synapse is None else {"synapse": synapse}
    return Layer(coefficients, options, rest)


def _rest(module: Any) -> float:
    return 0.0 if module.v_reset is None else module.v_reset


def _integrate(module: Any) -> Layer | str:
    return _layer(module, 1.0, None)


def _leaky(module: Any) -> Layer | str:
    return _layer(module, 1 - 1 / module.tau, 1 / module.tau if module.decay_input else None, _rest(module))


def _simple_leaky(module: Any) -> Layer | str:
    if module.v_reset is None:
        return "without v_reset its step is an error"
    return _leaky(module)


def _parametric(module: Any) -> Layer | str:
    rate = module.w.sigmoid()
    return _layer(module, 1 - rate, rate if module.decay_input else None, _rest(module))


def _current_based(module: Any) -> Layer | str:
    return _layer(module, module.v_decay, None, 0.0, module.c_decay)


def _definition(make: Callable[..., Neuron], *names: str) -> Callable[[Any], Defined | str]:
    """Return the function that gives the neuron of a module; ``names`` are its coefficients beside those of a reset."""

    def given(module: Any) -> Defined | str:
        return _defined(make, module, {name: getattr(module, _NAMES.get(name, name)) for name in names})

    return given


def _defined(make: Callable[..., Neuron], module: Any, coefficients: dict[str, Any]) -> Defined | str:
    """Return the neuron of a module with these coefficients beside those of a reset, or why there is none."""
    shape = _stays(module) or _shape(module.surrogate_function)
    if isinstance(shape, str):
        return shape
    # The old MultiStep forms keep V of all steps without being asked.
    options = (shape, module.v_reset is not None, module.detach_reset, getattr(module, "store_v_seq", True))
    neuron = defined(make, *options, *(getattr(module, name) for name in steps.FLAGS.get(make, ())))
    return Defined(neuron, coefficients | {"threshold": module.v_threshold, "reset": _rest(module)})


def _before(given: Callable[[Any], Defined | str], module: Any) -> Defined | str:
    """Return the neuron of an IzhikevichNode of 0.0.0.0.14, or why there is none."""
    if module.detach_reset and module.v_reset:
        return "with detach_reset, what a spike sets V to has a gradient in this version"
    return given(module)


def _activation_aware(module: Any) -> Defined | str:
    given = _defined(steps.activation_aware, module, {"offset": module.v_offset})
    return given if isinstance(given, str) else given._replace(axis=module.channel_dim)


def _resonate(module: Any) -> Defined | str:
    angle = module.omega * module.dt
    factors = {"alpha": math.exp(module.b * module.dt), "cosine": math.cos(angle), "sine": math.sin(angle)}
    return _defined(steps.resonate, module, factors)


def _complementary(module: Any) -> Defined | str:
    if module.store_state_seqs:
        return "it keeps all its states (store_state_seqs)"
    shape = _stays(module) or _shape(module.surrogate_function)
    if isinstance(shape, str):
        return shape
    return Defined(
        defined(steps.complementary, shape, module.training), {"tau": module.tau, "threshold": module.v_threshold}
    )


def _multi_level(module: Any) -> Defined | str:
    function = module.surrogate_function
    if full_name(type(function)) != "spikingjelly.activation_based.surrogate.MultiLevelSpikeCount":
        return f"its surrogate is {full_name(type(function))}, and not MultiLevelSpikeCount"
    why = _stays(module)
    if why or not function.spiking:
        return why or "its surrogate is not in spiking mode"
    levels = (float(function.max_spike_count), float(function.grad_min), float(function.grad_max))
    neuron = defined(steps.multi_level, *levels, module.detach_reset, module.store_v_seq)
    return Defined(neuron, {"decay": 1 - 1 / module.tau, "threshold": module.v_threshold})


def _gated(module: Any) -> Defined | str:
    shape = _stays(module) or _shape(module.surrogate_function)
    if isinstance(shape, str):
        return shape
    names = ("alpha", "gamma", "tau", "v_threshold", "linear_decay", "v_subreset")
    gates = {name: getattr(module, name).view(-1, 1, 1).sigmoid() for name in names}
    return Defined(defined(steps.gated, shape), gates)


def _read_out(module: Any) -> Layer | str:
    decay = 1 - 1 / module.tau if hasattr(module, "tau") else 1.0
    gain = {"gain": 1 / module.tau} if hasattr(module, "tau") else {}
    read = {"max-mem": "max", "mean-mem": "mean", "last_mem": "last"}.get(module.decode, "train")
    options = {"reset": "none", "readout": "none", "potential": read}
    return Layer({"decay": decay, "threshold": 1.0} | gain, options, 0.0)


# -- calls -------------------------------------------------------------------------------------------------------------


def _states(module: Any, x: Tensor, names: tuple[str, ...]) -> list[Tensor]:
    """Return the states before the first step, in the dtype of the state."""
    given = tuple(getattr(module, name) for name in names)
    if hasattr(module, "materialize_states"):
        given = module.materialize_states((x,), given, "m")
    return _as_states(given, x)


def _as_states(given: tuple, x: Tensor) -> list[Tensor]:
    like: dict = {"dtype": state_dtype(x.dtype), "device": x.device}
    return [
        value.to(**like).expand(x.shape[1:]) if isinstance(value, Tensor) else torch.full(x.shape[1:], value, **like)
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
    return out, [v] if synapse is None else [v, after.synapse[0]]  # type: ignore[index]


def _run(module: Any, given: Layer | Defined, x: Tensor, states: list[Tensor], record: bool) -> tuple:
    """Return the spikes, the states after them, and V behind its reset at all steps, if it is recorded."""
    if isinstance(given, Defined):
        (out, *recorded), after_all = run(given, x, states)
        return out, after_all, recorded[0] if recorded else None
    if not record:
        return (*_call_lif(given, x, states), None)
    (out, v), after = _call_lif(given, x, states, potential="train")
    spikes = out.detach() if module.detach_reset else out
    v = v + given.rest if given.rest else v
    if module.v_reset is None:
        return out, after, v - spikes * module.v_threshold
    return out, after, spikes * module.v_reset + (1 - spikes) * v


def _multi_step(names: tuple[str, ...]) -> dict[str, Callable]:
    """Return the methods of a neuron with these states."""

    def functional(self, inputs, states, **kwargs):
        given = arguments(self, inputs[0])
        if given is None:
            return self._hnn_original.multi_step_functional_forward(self, inputs, states, **kwargs)
        out, after, _ = _run(self, given, inputs[0], _as_states(states, inputs[0]), False)
        return (out,), tuple(after)

    def forward(self, x_seq, *args, **kwargs):
        given = arguments(self, x_seq)
        if given is None:
            return self._hnn_original.multi_step_forward(self, x_seq, *args, **kwargs)
        out, after, v_seq = _run(self, given, x_seq, _states(self, x_seq, names), getattr(self, "store_v_seq", False))
        for name, value in zip(names, after, strict=True):
            setattr(self, name, value)
        if hasattr(self, "v_seq"):
            self.v_seq = v_seq
        return out

    return {"multi_step_functional_forward": functional, "multi_step_forward": forward}


def _old_forward(self, x_seq):
    given = arguments(self, x_seq)
    if given is None:
        return self._hnn_original.forward(self, x_seq)
    out, after, self.v_seq = _run(self, given, x_seq, _states(self, x_seq, ("v",)), True)
    self.v = after[0]
    return out


def _gated_functional(self, inputs, states, **kwargs):
    x = inputs[0]
    given = arguments(self, x)
    if given is None or x.shape[0] != self.T:
        return self._hnn_original.multi_step_functional_forward(self, inputs, states, **kwargs)
    # The conductance of each step is a factor of the input alone.
    beta, conduct = self.beta.view(1, 1, -1, 1, 1).sigmoid(), self.conduct.view(self.T, 1, -1, 1, 1).sigmoid()
    v, _ = _as_states(states, x)
    out, after = run(given, x * (1 - beta * (1 - conduct)), (v, torch.zeros_like(v)))
    return out, (after[0], after[0])


def _read_out_forward(self, x_seq):
    given = arguments(self, x_seq)
    if given is None:
        return self._hnn_original.forward(self, x_seq)
    read, (self.v,) = _call_lif(given, x_seq, _as_states((0.0,), x_seq))
    if self.decode == "max-abs-mem":
        high, low = read.max(0).values, read.min(0).values
        return high * (high.abs() > low.abs()) + low * (high.abs() <= low.abs())
    return list(read.unbind(0)) if given.options["potential"] == "train" else read


# -- the table ---------------------------------------------------------------------------------------------------------

_V, _NEURON = ("v",), "a neuron by definition"
_MEMBRANES = {
    "IFNode": (_integrate, "lif, decay 1"),
    "LIFNode": (_leaky, "lif, decay 1 - 1/tau, input times 1/tau with decay_input"),
    "ParametricLIFNode": (_parametric, "lif, decay 1 - sigmoid(w), input times sigmoid(w) with decay_input"),
}
_MODULES = {
    "IFNode": "integrate_and_fire", "HalfThresholdIFNode": "integrate_and_fire", "SimpleIFNode": "integrate_and_fire",
    "NonSpikingIFNode": "integrate_and_fire", "LIFNode": "lif", "SimpleLIFNode": "lif", "NonSpikingLIFNode": "lif",
    "ParametricLIFNode": "plif", "CUBALIFNode": "lif_variants", "KLIFNode": "lif_variants",
    "ComplementaryLIFNode": "lif_variants", "GatedLIFNode": "lif_variants", "LIAFNode": "lif_variants",
    "ActivationAwareIFNode": "integrate_and_fire", "TernaryIFNode": "ternary", "TernaryLIFNode": "ternary",
    "RAFNode": "resonate", "QIFNode": "nonlinear_if", "EIFNode": "nonlinear_if", "IzhikevichNode": "adapt",
    "ILIFNode": "ilif",
}  # fmt: skip


_BEFORE = ("QIFNode", "EIFNode", "IzhikevichNode", "KLIFNode")  # neurons by definition that 0.0.0.0.14 has too


def _new(name: str) -> str:
    return f"spikingjelly.activation_based.neuron.{_MODULES[name]}.{name}"


def _rules() -> dict[str, Rule]:
    rules: dict[str, Rule] = {}
    for name, (given, mapping) in _MEMBRANES.items():
        rule = Rule(mapping, given, _multi_step(_V), states=_V)
        rules |= {_new(name): rule, f"spikingjelly.activation_based.neuron.{name}": rule}
        old = Rule(mapping, given, {"forward": _old_forward})
        rules |= {f"spikingjelly.{place}.neuron.MultiStep{name}": old for place in ("clock_driven", "cext")}
    by_lif = {
        "HalfThresholdIFNode": (_integrate, _V, "lif, decay 1, from half the threshold"),
        "SimpleIFNode": (_integrate, _V, "lif, decay 1"),
        "SimpleLIFNode": (_simple_leaky, _V, "lif, as LIFNode"),
        "CUBALIFNode": (_current_based, ("v", "c"), "lif, decay v_decay, synapse c_decay"),
    }
    for name, (given, states, mapping) in by_lif.items():
        rules[_new(name)] = Rule(mapping, given, _multi_step(states), states=states)
    by_definition = {
        "KLIFNode": (_definition(steps.klif, "k", "tau"), _V),
        "ComplementaryLIFNode": (_complementary, ("v", "m")),
        "QIFNode": (_definition(steps.quadratic, "tau", "v_rest", "v_c", "a0"), _V),
        "EIFNode": (_definition(steps.exponential, "tau", "v_rest", "theta_rh", "steepness"), _V),
        "IzhikevichNode": (_definition(steps.izhikevich, "tau", "v_rest", "v_c", "a0", "a", "b", "tau_w"), ("v", "w")),
        "ILIFNode": (_multi_level, _V),
        "TernaryIFNode": (_definition(steps.ternary), _V),
        "TernaryLIFNode": (_definition(steps.ternary_leaky, "tau"), _V),
        "ActivationAwareIFNode": (_activation_aware, _V),
        "RAFNode": (_resonate, ("v", "u")),
    }  # fmt: skip
    for name, (definition, states) in by_definition.items():
        rules[_new(name)] = Rule(_NEURON, definition, _multi_step(states), True, states=states)
        if name in _BEFORE:
            old_one = partial(_before, definition) if name == "IzhikevichNode" else definition
            rules[f"spikingjelly.activation_based.neuron.{name}"] = rules[_new(name)]._replace(arguments=old_one)
    old_name = "spikingjelly.clock_driven.neuron.MultiStepEIFNode"
    rules[old_name] = Rule(_NEURON, by_definition["EIFNode"][0], {"forward": _old_forward}, True)
    rules[_new("GatedLIFNode")] = Rule(_NEURON, _gated, {"multi_step_functional_forward": _gated_functional}, True)
    for name in ("NonSpikingIFNode", "NonSpikingLIFNode"):
        rules[_new(name)] = Rule("lif without spikes, its potential", _read_out, {"forward": _read_out_forward})
    return rules


_STEP = "it gets one step in a call: use its MultiStep form"

LIBRARY = Library(
    "spikingjelly",
    ("2.", "0.0.0.0.12", "0.0.0.0.14"),
    _rules(),
    {_new("LIAFNode"): "its output is a Python function of the potential"}
    | {f"spikingjelly.clock_driven.neuron.{name}": _STEP for name in (*_MEMBRANES, "EIFNode")},
    (
        "spikingjelly.activation_based.neuron.",
        "spikingjelly.clock_driven.neuron.",
        "spikingjelly.cext.neuron.",
    ),
)
