"""SpikingJelly 2, 0.0.0.0.12 and 0.0.0.0.14: neurons that get all time steps in one call, or one.

Where the built-in layer has a neuron's equations, it takes its place; else a neuron by definition does.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

from torch import nn

from .. import _checks
from .._define.layer import Neuron
from . import spikingjelly_steps as steps
from .rules import EACH_STEP, ONE_STEP, Library, Rule, constant_in_graphs, full_name, without_compiler
from .spikingjelly_calls import Layer, gated_functional, methods, old_forward, read_out_forward, step_of
from .steps import Defined, Shape, defined

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


# A search for a compiler takes longer than a step.
_search_once = functools.cache(without_compiler)


# No graph holds a search.
@constant_in_graphs
def _without_compiler() -> str:
    return _search_once()


def _parametric_step(module: Any) -> Defined | str:
    """Return the neuron of one step of a ParametricLIFNode, or why there is none.

    A call of lif makes its decay and its gain, each with its gradient, of one number. Over one step that takes longer
    than the library's step.
    """
    return _without_compiler() or _defined(steps.parametric, module, {"rate": module.w.sigmoid()})


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


def _old_izhikevich(given: Callable[[Any], Defined | str], module: Any) -> Defined | str:
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
    shape = _stays(module) or _shape(module.surrogate_function)
    if isinstance(shape, str):
        return shape
    neuron = defined(steps.complementary, shape, module.training, module.store_state_seqs)
    return Defined(neuron, {"tau": module.tau, "threshold": module.v_threshold})


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


# -- the table ---------------------------------------------------------------------------------------------------------

_V, _NEURON = ("v",), "a neuron by definition"
_OLD, _OLD_STEP = "spikingjelly.clock_driven.neuron", {"forward": step_of(_V, "forward")}
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


def _before(name: str, rule: Rule) -> dict[str, Rule]:
    """Return the rule of the class with this name in 0.0.0.0.14, which has no functional form."""
    given = functools.partial(_old_izhikevich, rule.arguments) if name == "IzhikevichNode" else rule.arguments
    old = rule._replace(arguments=given, methods=methods(rule.states, functional=False))
    return {f"spikingjelly.activation_based.neuron.{name}": old}


def _aside(module: Any) -> str:
    return EACH_STEP if module.step_mode == "s" else ""


def _aside_parametric(module: Any) -> str:
    # It also defines the neuron of a step, which a graph cannot do.
    step = _parametric_step(module)
    if isinstance(step, str) and module.step_mode == "s":
        return f"the library computes single steps: {step}"
    return _aside(module)


def _rules() -> dict[str, Rule]:
    rules: dict[str, Rule] = {}
    for name, (given, mapping) in _MEMBRANES.items():
        rules[_new(name)] = Rule(mapping, given, methods(_V), states=_V, aside=_aside)
        rules[f"{_OLD}.MultiStep{name}"] = Rule(mapping, given, {"forward": old_forward})
        rules[f"{_OLD}.{name}"] = Rule(f"{mapping}; {EACH_STEP}", given, _OLD_STEP)
    learnt = "ParametricLIFNode"
    rules[_new(learnt)] = rules[_new(learnt)]._replace(
        mapping=f"{_MEMBRANES[learnt][1]}; one step by a neuron by definition",
        aside=_aside_parametric,
        single=_parametric_step,
    )
    rules[f"{_OLD}.{learnt}"] = Rule(ONE_STEP, _parametric_step, _OLD_STEP, True)
    for name in _MEMBRANES:
        rules |= _before(name, rules[_new(name)])
    by_lif = {
        "HalfThresholdIFNode": (_integrate, _V, "lif, decay 1, from half the threshold"),
        "SimpleIFNode": (_integrate, _V, "lif, decay 1"),
        "SimpleLIFNode": (_simple_leaky, _V, "lif, as LIFNode"),
        "CUBALIFNode": (_current_based, ("v", "c"), "lif, decay v_decay, synapse c_decay"),
    }
    for name, (given, states, mapping) in by_lif.items():
        called = methods(states, functional=not name.startswith("Simple"))
        rules[_new(name)] = Rule(mapping, given, called, states=states, aside=_aside)
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
        rules[_new(name)] = Rule(_NEURON, definition, methods(states), True, states=states, aside=_aside)
        if name in _BEFORE:
            rules |= _before(name, rules[_new(name)])
    exponential = by_definition["EIFNode"][0]
    rules[f"{_OLD}.MultiStepEIFNode"] = Rule(_NEURON, exponential, {"forward": old_forward}, True)
    rules[f"{_OLD}.EIFNode"] = Rule(f"{_NEURON}; {EACH_STEP}", exponential, _OLD_STEP, True)
    rules[_new("GatedLIFNode")] = Rule(_NEURON, _gated, {"multi_step_functional_forward": gated_functional}, True)
    for name in ("NonSpikingIFNode", "NonSpikingLIFNode"):
        rules[_new(name)] = Rule("lif without spikes, its potential", _read_out, {"forward": read_out_forward})
    return rules


_EXTENSION = "a CUDA extension of its own computes its steps"

LIBRARY = Library(
    "spikingjelly",
    ("2.", "0.0.0.0.12", "0.0.0.0.14"),
    _rules(),
    {_new("LIAFNode"): "its output is a Python function of the potential"}
    | {
        f"spikingjelly.cext.neuron.{steps}{name}Node": _EXTENSION
        for steps in ("", "MultiStep")
        for name in ("IF", "LIF")
    },
    (
        "spikingjelly.activation_based.neuron.",
        "spikingjelly.clock_driven.neuron.",
        "spikingjelly.cext.neuron.",
    ),
)
