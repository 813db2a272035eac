"""The one list of what a layer is made of: its tensors, its outputs, its settings, and the numbers of its options.

Everything that has to agree on a layer is derived from this module: the operators' schemas, their fake kernels, their
batching rule and autograd (``_ops/``), the Triton kernels' constants and operands (``_triton/``), and the C++ header
``csrc/layer.h``, which ``make generate`` writes. A compiled module tells the :func:`digest` of the list that it was
built for, and is not used with another.
"""

import hashlib
import math
from collections import namedtuple
from collections.abc import Iterable
from typing import Any, NamedTuple

# -- options -----------------------------------------------------------------------------------------------------------


def _numbered(*names: str) -> dict[str, int]:
    return {name: number for number, name in enumerate(names)}


def name_of(option: dict[str, int], number: int) -> str:
    """Return the name of the value that has this number."""
    return next(name for name, known in option.items() if known == number)


# The kernels know the value of an option by its number, which is its place here. (The surrogates have surrogates.py.)
RESETS = _numbered("filter", "subtract", "zero", "none")
RESET_GRADS = _numbered("full", "one_step", "detach")
READOUTS = _numbered("spikes", "count", "none")
# What is read of the membrane potential V[t]: nothing, all of it, or one value per neuron.
POTENTIALS = _numbered("none", "train", "last", "max", "mean")
# The `reset` of a layer without a membrane, its synapse filter alone (hnn_kernels.iir). No reset gets this number.
NO_MEMBRANE = -1

# -- tensors -----------------------------------------------------------------------------------------------------------

# Kinds. With B the batch and T the time steps:
TRAIN = "train"  # [T, B, *features]; without T where it is constant in time, or one value stands for all steps
COEFFICIENT = "coefficient"  # broadcasts against *features; a float takes its place where it is None
FILTER_COEFFICIENT = "filter coefficient"  # [P, ...] or [Q + 1, ...], which broadcasts behind its first axis
STATE = "state"  # [B, *features]
FILTER_STATE = "filter state"  # [P + Q, B, *features]
CHECKPOINTS = "checkpoints"  # [ceil(T / K) - 1, values of a whole state, neurons], in the order of the kernel


class Operand(NamedTuple):
    """A tensor that goes into a layer or comes out of it, its kind, and the part of the layer that it belongs to."""

    name: str
    kind: str
    part: str


LAYER = "layer"
MEMBRANE = "membrane"
MEMBRANE_COEFFICIENTS = ("decay", "reset_decay", "threshold", "reset_potential")
# The first one decays into the membrane potential.
MEMBRANE_STATES = ("v", "r")
# In the order in which a signal passes them. The membrane is between the two.
FILTERS = ("synapse", "axon")
FILTER_SIDES = ("feedback", "feedforward")


def _filter(part: str) -> Iterable[Operand]:
    yield from (Operand(f"{part}_{side}", FILTER_COEFFICIENT, part) for side in FILTER_SIDES)
    yield Operand(f"{part}_state", FILTER_STATE, part)


# The tensors that a layer is differentiated by. Bit i of an operator's `needs` asks for the gradient of the i-th.
OPERANDS = (
    Operand("current", TRAIN, LAYER),
    *(Operand(name, COEFFICIENT, MEMBRANE) for name in MEMBRANE_COEFFICIENTS),
    *(Operand(name, STATE, MEMBRANE) for name in MEMBRANE_STATES),
    *(operand for part in FILTERS for operand in _filter(part)),
)
# The state, in the order of a checkpoint. It goes in before the first step and comes out after the last.
STATE_OPERANDS = tuple(operand for operand in OPERANDS if operand.kind in (STATE, FILTER_STATE))
# What forward keeps for backward alone: the step of the potential's maximum, in the state's dtype, and checkpoints.
KEPT_OPERANDS = (Operand("peak", STATE, LAYER), Operand("checkpoints", CHECKPOINTS, LAYER))
# The possible outputs of forward. An operator returns those that the call has (Layer.outputs), in this order.
OUTPUT_OPERANDS = (
    Operand("out", TRAIN, LAYER), Operand("potential", TRAIN, LAYER), *STATE_OPERANDS, *KEPT_OPERANDS,
)  # fmt: skip


def names(operands: Iterable[Operand], *kinds: str) -> tuple[str, ...]:
    """Return the names of the ``operands``, or of those that have one of the ``kinds``."""
    return tuple(operand.name for operand in operands if not kinds or operand.kind in kinds)


TENSORS = names(OPERANDS)
OUTPUTS = names(OUTPUT_OPERANDS)
COEFFICIENTS = names(OPERANDS, COEFFICIENT)
FILTER_COEFFICIENTS = names(OPERANDS, FILTER_COEFFICIENT)
STATES = names(STATE_OPERANDS)
KEPT = names(KEPT_OPERANDS)
# The arguments of backward before the layer's: a gradient of every output that has one, and what was kept.
GRADIENTS = tuple(f"grad_{name}" for name in OUTPUTS if name not in KEPT)
INCOMING = (*GRADIENTS, *KEPT)

# -- settings ----------------------------------------------------------------------------------------------------------


class Setting(NamedTuple):
    """An argument of the operators that is not a tensor: its name, its type in a schema, and its default.

    With ``step`` it is an option of the formula of a time step (``csrc/neuron.h``, ``_triton/formula.py``). The default
    of such a setting is that of the usual layer, which some kernels have as a constant.
    """

    name: str
    type: str
    default: Any
    step: bool = False


SETTINGS = (
    # T of a current that is constant in time.
    Setting("steps", "SymInt?", None),
    # The float that stands for a coefficient whose tensor is None, and the floats for a filter's coefficients. A filter
    # that is absent has no feedforward coefficient in either form.
    *(Setting(f"{name}_value", "float", math.nan) for name in COEFFICIENTS),
    *(Setting(f"{name}_values", "float[]", ()) for name in FILTER_COEFFICIENTS),
    # The surrogate's width, the factor of its derivative, and its number. Where one of the floats varies between the
    # calls of a compiled graph, a float64 tensor of both in the host's memory takes their place.
    Setting("width", "float", 1.0),
    Setting("scale", "float", 1.0),
    Setting("varying_surrogate", "Tensor?", None),
    Setting("surrogate", "int", 0, step=True),
    Setting("reset", "int", RESETS["filter"], step=True),
    Setting("reset_grad", "int", RESET_GRADS["full"], step=True),  # forward ignores it
    Setting("smooth", "bool", False, step=True),
    Setting("tie_fires", "bool", True, step=True),
    Setting("potential", "int", POTENTIALS["none"], step=True),
    Setting("readout", "int", READOUTS["spikes"]),
    Setting("return_state", "bool", True),
    # Forward keeps the state before the steps K, 2K, ... where this K is above 0.
    Setting("checkpoint_every", "int", 0),
)
OPTIONS = tuple(setting for setting in SETTINGS if setting.step)

# -- the operators' schemas --------------------------------------------------------------------------------------------

_TYPES = {"current": "Tensor"}
_ARGUMENTS = (
    *(f"{_TYPES.get(name, 'Tensor?')} {name}" for name in TENSORS),
    *(f"{setting.type} {setting.name}" for setting in SETTINGS),
)
# Forward returns the outputs that the call has, in the order of OUTPUTS.
FORWARD_SCHEMA = f"({', '.join(_ARGUMENTS)}) -> Tensor[]"
# Backward returns the gradients that are needed, in the order of TENSORS.
BACKWARD_SCHEMA = f"({', '.join((*(f'Tensor? {name}' for name in INCOMING), *_ARGUMENTS, 'int needs'))}) -> Tensor[]"


def digest(surrogates: Iterable[str]) -> str:
    """Return a text that changes with everything that the kernels and Python must agree on."""
    agreed = (
        FORWARD_SCHEMA, BACKWARD_SCHEMA, OPERANDS, OUTPUT_OPERANDS, NO_MEMBRANE, tuple(surrogates),
        *(tuple(option.items()) for option in (RESETS, RESET_GRADS, READOUTS, POTENTIALS)),
    )  # fmt: skip
    return hashlib.sha256(repr(agreed).encode()).hexdigest()[:16]


# -- one call ----------------------------------------------------------------------------------------------------------


def record(name: str, fields: Iterable[str], defaults: Iterable[Any] = ()) -> Any:
    """Make a named tuple. A type checker takes it for ``Any``: it can only read fields that are written out."""
    return namedtuple(name, tuple(fields), defaults=tuple(defaults))


_FIELDS = (*TENSORS, *(setting.name for setting in SETTINGS))
_DEFAULTS = dict.fromkeys(TENSORS[1:]) | {setting.name: setting.default for setting in SETTINGS}
_Call: Any = record("_Call", _FIELDS, (_DEFAULTS[name] for name in _FIELDS[1:]))


# The bits of a call's kind: the parts whose state it returns, and its other outputs.
_BITS = {name: 1 << i for i, name in enumerate((MEMBRANE, *FILTERS, "out", "potential", *KEPT))}


def _outputs_of(kind: int) -> tuple[str, ...]:
    return tuple(o.name for o in OUTPUT_OPERANDS if kind & _BITS[o.name if o.part == LAYER else o.part])


# Where a call has each filter's feedforward coefficients, as a tensor and as floats: by position, which costs less.
_FEEDFORWARD = tuple(
    (_BITS[part], _FIELDS.index(f"{part}_feedforward"), _FIELDS.index(f"{part}_feedforward_values")) for part in FILTERS
)
_OUTPUTS = tuple(_outputs_of(kind) for kind in range(1 << len(_BITS)))


class Layer(_Call):
    """A call of a layer: the checked arguments that the operators share, by name.

    The default of a tensor is None, which is a state of zeros or an absent filter.
    """

    __slots__ = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of a step, ``[B, *features]``."""
        return self.current.shape[1:] if self.steps is None else self.current.shape

    @property
    def length(self) -> int:
        """The number of time steps, T."""
        return self.current.shape[0] if self.steps is None else self.steps

    @property
    def count(self) -> bool:
        """True if the read-out is the sum of the spikes over time."""
        return self.readout == READOUTS["count"]

    def timed(self, name: str) -> bool:
        """Return True if this tensor of kind :data:`TRAIN` has a time axis."""
        if name == "out":
            return self.readout == READOUTS["spikes"]
        return self.potential == POTENTIALS["train"] if name == "potential" else self.steps is None

    # torch.compile traces the methods below. It cannot trace properties of a named tuple, so these are methods.

    def surrogate_shape(self) -> tuple[float | Any, float | Any]:
        """The surrogate's width and scale: floats, or tensors without axes where one of them varies."""
        if self.varying_surrogate is None:
            return self.width, self.scale
        return self.varying_surrogate[0], self.varying_surrogate[1]

    def has(self, part: str) -> bool:
        """Return True if the layer has this part."""
        if part in FILTERS:
            return self._taps(part, "feedforward") > 0
        return part == LAYER or self.reset != NO_MEMBRANE

    def outputs(self) -> tuple[str, ...]:
        """Return the names of the :data:`OUTPUTS` that the forward call has."""
        kind = _BITS["checkpoints"] if self.checkpoint_every > 0 else 0
        if self.readout != READOUTS["none"]:
            kind |= _BITS["out"]
        if self.potential != POTENTIALS["none"]:
            kind |= _BITS["potential"]
            if self.potential == POTENTIALS["max"]:
                kind |= _BITS["peak"]
        if self.return_state:
            if self.reset != NO_MEMBRANE:
                kind |= _BITS[MEMBRANE]
            for bit, tensor, values in _FEEDFORWARD:
                given = self[tensor]
                if (len(self[values]) if given is None else given.shape[0]) > 0:
                    kind |= bit
        return _OUTPUTS[kind]

    def taps(self, part: str) -> tuple[int, int]:
        """Return the numbers of a filter's coefficients, (P, Q + 1), or (0, 0) if it is absent."""
        return (self._taps(part, "feedback"), self._taps(part, "feedforward")) if self.has(part) else (0, 0)

    def _taps(self, part: str, side: str) -> int:
        given = getattr(self, f"{part}_{side}")
        return len(getattr(self, f"{part}_{side}_values")) if given is None else given.shape[0]

    def depth(self, part: str) -> int:
        """Return P + Q of a filter, the number of values that its state keeps; 0 if it is absent."""
        return max(sum(self.taps(part)) - 1, 0)

    def state_depth(self) -> int:
        """Return the number of values of a neuron's whole state, which a checkpoint keeps."""
        return len(MEMBRANE_STATES) + sum(self.depth(part) for part in FILTERS)
