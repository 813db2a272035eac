"""Norse 1: modules that get ``[T, B, *features]`` in one call, and cells in a ``Lift``, as neurons by definition."""

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import _checks
from .._define.layer import Neuron
from . import norse_steps as steps
from .rules import ONE_STEP, Library, Rule, constant_in_graphs, full_name
from .steps import Defined, Shape, defined, run, without_time
from .swap import arguments, of_library


class Kind(NamedTuple):
    """The computation of a class.

    Attributes:
        make: defines its neuron.
        names: the parameters that are coefficients under their own names.
        rates: the coefficients that are dt times a parameter, each with the sign of dt and the parameter.
        state: the class of its state, in Norse's ``functional``.
        start: by the name of a state, the parameter that it is before the first step; 0 for the others.
        fires: False if it has no spikes.
    """

    make: Callable[..., Neuron]
    names: tuple[str, ...]
    rates: Mapping[str, tuple[int, str]]
    state: str
    start: Mapping[str, str] = MappingProxyType({"v": "v_leak"})
    fires: bool = True


_MEMBRANE = {"rate": (1, "tau_mem_inv")}
_SYNAPSE = {"rate": (1, "tau_mem_inv"), "drop": (-1, "tau_syn_inv")}
_SPIKE = ("v_leak", "v_th", "v_reset")
_KINDS = {
    "lif.LIF": Kind(steps.lif, _SPIKE, _SYNAPSE, "lif.LIFFeedForwardState"),
    "lif_box.LIFBox": Kind(steps.box, _SPIKE, _MEMBRANE, "lif_box.LIFBoxFeedForwardState"),
    "iaf.IAF": Kind(steps.integrate, ("v_th", "v_reset"), {}, "iaf.IAFFeedForwardState", {"v": "v_reset"}),
    "leaky_integrator.LI": Kind(
        steps.leak, ("v_leak",), _SYNAPSE, "leaky_integrator.LIState", {"v": "v_leak"}, False
    ),
    "leaky_integrator_box.LIBox": Kind(
        steps.leak_box, ("v_leak",), _MEMBRANE, "leaky_integrator_box.LIBoxState", {"v": "v_leak"}, False
    ),
    "lif_ex.LIFEx": Kind(steps.exponential, ("steepness", *_SPIKE), _SYNAPSE, "lif_ex.LIFExFeedForwardState"),
    "lif_adex.LIFAdEx": Kind(
        steps.adaptive_exponential, ("steepness", "adaptation_current", "adaptation_spike", *_SPIKE),
        _SYNAPSE | {"slow": (1, "tau_ada_inv")}, "lif_adex.LIFAdExFeedForwardState",
    ),
    "lsnn.LSNN": Kind(
        steps.adaptive, ("beta", *_SPIKE), _SYNAPSE | {"slow": (1, "tau_adapt_inv")}, "lsnn.LSNNFeedForwardState",
        {"v": "v_leak", "b": "v_th"},
    ),
    "lif_refrac.LIFRefrac": Kind(steps.refractory, _SPIKE, _SYNAPSE, "lif_refrac.LIFRefracFeedForwardState"),
    "izhikevich.Izhikevich": Kind(
        steps.izhikevich, ("sq", "mn", "bias", "a", "b", "c", "d", "v_th"), {"rate": (1, "tau_inv")},
        "izhikevich.IzhikevichState", {},
    ),
}  # fmt: skip
# Where a coefficient has another name than the parameter.
_NAMES = {"steepness": "delta_T"}
# These get all time steps themselves.
_WHOLE = (
    "lif.LIF",
    "iaf.IAF",
    "leaky_integrator.LI",
    "lif_ex.LIFEx",
    "lif_adex.LIFAdEx",
    "lsnn.LSNN",
    "izhikevich.Izhikevich",
)
_MODULE = "norse.torch.module."
# A Linear and an LICell in one.
LI_WITH_WEIGHTS = f"{_MODULE}leaky_integrator.LILinearCell"
_CELLS = {f"{_MODULE}{name}Cell": kind for name, kind in _KINDS.items()}


def known_cell(cell: Any) -> Kind | None:
    """Return what a cell of the library computes; None for any other module."""
    return _CELLS.get(full_name(of_library(type(cell))))


def known_step(cell: Any) -> tuple[Kind | None, bool]:
    """Return what a step of a cell, or of one that is marked, computes, and if its weights come before."""
    name = full_name(of_library(type(cell)))
    return (_KINDS["leaky_integrator.LI"], True) if name == LI_WITH_WEIGHTS else (_CELLS.get(name), False)


# A compiler takes alpha, which may be a tensor, for a constant.
@constant_in_graphs
def _shape(module: Any) -> Shape | str:
    """Return the shape of the surrogate, empty for one without a gradient, or why it has none here."""
    p = getattr(module.p, "lif", module.p)
    if p.method == "heaviside":
        return ()
    if p.method == "super":
        return ("fast_sigmoid", 1.0, 2.0)
    alpha = float(p.alpha)
    shapes = {
        "triangle": lambda: ("triangle", 1.0, alpha),
        "tanh": lambda: ("sigmoid", 1 / (2 * alpha), 2 / alpha),
        "heavi_erfc": lambda: ("gaussian", 1 / (math.sqrt(2) * alpha), 2 / alpha),
    }
    if p.method not in shapes:
        return f"hnn_kernels has no surrogate like the method {p.method!r}"
    return shapes[p.method]() if alpha > 0 else f"its alpha is {alpha}, and not above 0"


def arguments_of(kind: Kind, module: Any, record: bool) -> Defined | str:
    """Return the neuron of a module or a cell, which records its states with ``record``; or why there is none."""
    if kind.fires and "adjoint" in module.activation.__name__:
        return "its gradient is that of the adjoint method, which differs from that of its steps"
    p, extra = module.p, {}
    if hasattr(p, "rho_reset"):
        p, extra = p.lif, {"rho_reset": p.rho_reset}
    options: tuple = (record,)
    if kind.fires:
        shape = _shape(module)
        if isinstance(shape, str):
            return shape
        options = (shape, record)
    if kind.make is steps.box:
        resets = sys.modules["norse.torch.functional.reset"]
        if p.reset_method is not resets.reset_value and p.reset_method is not resets.reset_subtract:
            return "hnn_kernels does not know its reset_method"
        options = (*options, p.reset_method is resets.reset_subtract)
    coefficients = extra | {name: getattr(p, _NAMES.get(name, name)) for name in kind.names}
    for name, (sign, parameter) in kind.rates.items():
        coefficients[name] = sign * module.dt * getattr(p, parameter)
    return Defined(defined(kind.make, *options), coefficients)


def _whole(kind: Kind, module: Any) -> Defined | str:
    return arguments_of(kind, module, module.record_states)


def _lifted(module: Any) -> Defined | str:
    cell = module.lifted_module
    kind = known_cell(cell)
    if kind is None:
        return ""
    if _checks.has_hooks(cell):
        return "its cell has hooks, which a call for each step would reach"
    return arguments_of(kind, cell, False)


# -- calls -------------------------------------------------------------------------------------------------------------


def flat(state: Any) -> list:
    """Return the tensors of a state, in the order of the neuron's states."""
    return [value for part in state for value in (flat(part) if isinstance(part, tuple) else [part])]


def _like(state: Any, values: list) -> Any:
    """Return a state of the same class with these values, which are taken off the list."""
    return type(state)(*(_like(part, values) if isinstance(part, tuple) else values.pop(0) for part in state))


def _call(given: Defined, x: Tensor, state: Any, steps: int | None = None) -> tuple[Tensor, Any]:
    before = [torch.as_tensor(value) for value in flat(state)]
    (out, *recorded), after = run(given, x, before, steps)
    # A state of another dtype than the input's makes the library's output one of that dtype.
    out = out.to(torch.promote_types(x.dtype, before[0].dtype if before[0].dim() else x.dtype))
    return out, _like(state, list(recorded or after))


def state_class(kind: Kind) -> Any:
    """Return the class of a state."""
    place, name = kind.state.split(".")
    return getattr(sys.modules[f"norse.torch.functional.{place}"], name)


def inner_state_class(kind: Kind) -> Any:
    """Return the class of the state that the first part of a state is; None where all parts are tensors."""
    whole = kind.make is steps.refractory
    return sys.modules["norse.torch.functional.lif"].LIFFeedForwardState if whole else None


def part_names(kind: Kind) -> tuple[str, ...]:
    """Return the names of the tensors of a state, in the order of the neuron's states."""
    outer, inner = state_class(kind)._fields, inner_state_class(kind)
    return outer if inner is None else (*inner._fields, *outer[1:])


def state_of(outer: Any, inner: Any, parts: Sequence[Tensor]) -> Any:
    """Return the state of these tensors, in its class and that of its first part, which may be None."""
    return outer(*parts) if inner is None else outer(inner(*parts[:-1]), parts[-1])


def first_parts(module: Any, names: tuple[str, ...], start: Mapping[str, str], x: Tensor) -> list[Tensor]:
    """Return the states before the first step, ``x``, in a graph: as the class makes them, but for ``requires_grad``.

    The class sets that, and no graph can hold it.
    """
    p = getattr(module.p, "lif", module.p)
    parts = [torch.zeros_like(x)] * len(names)
    for i, name in enumerate(names):
        if name in start:
            parts[i] = parts[i] + torch.as_tensor(getattr(p, start[name])).detach()
        elif hasattr(module, "spiking_method"):  # Izhikevich's has its first state
            parts[i] = parts[i] + getattr(module.spiking_method.s, name).detach()
    return parts


def _first(module: Any, kind: Kind | None, x: Tensor, like: Tensor) -> Any:
    """Return the state before the first of all steps of ``x``; the library makes its own from ``like``."""
    if not torch.compiler.is_compiling() or kind is None:
        return module.state_fallback(like)
    parts = first_parts(module, part_names(kind), kind.start, x[0])
    return state_of(state_class(kind), inner_state_class(kind), parts)


def _forward(kind: Kind) -> Callable:
    """Return the forward of a class that gets all time steps."""

    def forward(self: Any, input_tensor: Any, state: Any = None) -> Any:
        given = arguments(self, input_tensor)
        if given is None:
            return self._hnn_original.forward(self, input_tensor, state)
        return _call(given, input_tensor, state or _first(self, kind, input_tensor, input_tensor))

    return forward


def _cell_forward(self: Any, input_tensor: Any, state: Any = None) -> Any:
    given = arguments(self, input_tensor, one=True)
    if given is None:
        return self._hnn_original.forward(self, input_tensor, state)
    before = state or _first(self, known_cell(self), input_tensor[None], input_tensor)
    out, after = _call(given, input_tensor, before, 1)
    return without_time(out), after


def _lift_forward(self: Any, x: Any) -> Any:
    train, state = x if isinstance(x, tuple) else (x, None)
    given = arguments(self, train)
    if given is None:
        return self._hnn_original.forward(self, x)
    cell = self.lifted_module
    return _call(given, train, state or _first(cell, known_cell(cell), train, train[0]))


# -- the table ---------------------------------------------------------------------------------------------------------

# Cells whose step in a call of its own takes longer than the library's.
_SUMS = {
    f"{_MODULE}{name}": f"it does not fire, so a step is {step} that torch has: hnn_kernels.unroll has one call for all"
    for name, step in (
        ("leaky_integrator.LICell", "a few sums"),
        ("leaky_integrator_box.LIBoxCell", "a few sums"),
        ("leaky_integrator.LILinearCell", "a product and a few sums"),
    )
}

_RULES = {
    f"{_MODULE}{name}": Rule(
        "a neuron by definition", partial(_whole, _KINDS[name]), {"forward": _forward(_KINDS[name])}, True
    )
    for name in _WHOLE
}
_RULES |= {
    name: Rule(ONE_STEP, partial(arguments_of, kind, record=False), {"forward": _cell_forward}, True)
    for name, kind in _CELLS.items()
    if name not in _SUMS
}
_LIFTED = "its cell over all steps, a neuron by definition"
_LIFT = Rule(_LIFTED, _lifted, {"forward": _lift_forward}, True, "lifted_module")

LIBRARY = Library(
    "norse",
    ("1.",),
    _RULES | {f"{_MODULE}lift.Lift": _LIFT},
    _SUMS,
    tuple(f"{_MODULE}snn.{name}" for name in ("SNN", "SNNCell", "SNNRecurrent", "SNNRecurrentCell")),
)
