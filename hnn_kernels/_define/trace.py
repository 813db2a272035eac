"""Trace the function of one step with symbols."""

import hashlib
import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from .._generate.expressions import Expression, in_order
from .fire import spikes
from .symbols import Symbol, TraceError, located, value

Value = Expression | float


def _numbered(e: Value, numbers: dict[Expression, int]) -> str:
    return f"#{numbers[e]}" if isinstance(e, Expression) else repr(e)


class Step(NamedTuple):
    """The step of a neuron as expressions.

    Attributes:
        x, states, coefficients: the variables of the input, of the states before the step, and of the coefficients.
        outputs: what the step returns.
        after: the states after the step.
    """

    x: Expression
    states: tuple[Expression, ...]
    coefficients: tuple[Expression, ...]
    outputs: tuple[Value, ...]
    after: tuple[Value, ...]

    def digest(self) -> str:
        """Return a text that changes with the step. It does not follow the depth, as the text of the step would."""
        numbers: dict[Expression, int] = {}
        lines = []
        for e in in_order((*self.outputs, *self.after)):
            numbers[e] = len(numbers)
            lines.append(f"{e.operation} {[_numbered(o, numbers) for o in e.operands]}")
        roots = [[_numbered(e, numbers) for e in es] for es in (self.outputs, self.after)]
        names = [[e.operation for e in es] for es in (self.states, self.coefficients)]
        return hashlib.sha256(repr((lines, roots, names)).encode()).hexdigest()[:16]


class Signature(NamedTuple):
    """The parameters of a step: its input, its states, and the coefficients with their defaults (None without)."""

    x: str
    states: tuple[str, ...]
    coefficients: dict[str, float | None]


def signature(function: Callable, states: Sequence[str], taken: Sequence[str]) -> Signature:
    """Read the parameters of a step.

    Args:
        function: the step.
        states: the names of its states.
        taken: the names that a coefficient cannot have.

    Raises:
        TypeError: the parameters are not ``(x, *states, *, coefficients)``.
        ValueError: a name that is not allowed.
    """
    parameters = inspect.signature(function).parameters.values()
    named = getattr(function, "__name__", repr(function))
    kinds = inspect.Parameter
    positional = [p.name for p in parameters if p.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)]
    if positional[1:] != list(states) or any(p.kind in (kinds.VAR_POSITIONAL, kinds.VAR_KEYWORD) for p in parameters):
        raise TypeError(
            f"{named} must have the parameters (x, {', '.join(states)}, *, coefficients), as its states "
            f"{tuple(states)} say; got {inspect.signature(function)}"
        )
    coefficients: dict[str, float | None] = {}
    for p in parameters:
        if p.kind is not kinds.KEYWORD_ONLY:
            continue
        if p.name in taken:
            raise ValueError(f"{named} must not have a coefficient called {p.name}, which is an argument of the layer")
        default: Any = None if p.default is kinds.empty else p.default
        if default is not None and not isinstance(default, int | float):
            raise TypeError(f"the default of {p.name} must be a number; got {default!r}")
        coefficients[p.name] = None if default is None else float(default)
    return Signature(positional[0], tuple(states), coefficients)


def returned(result: Any, states: Sequence[str], named: str) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Return the outputs and the states of what a step returned, ``(output or outputs, state or states)``.

    Raises:
        TypeError: it is something else.
    """
    if isinstance(result, tuple) and len(result) == 2:
        outputs, after = (one if isinstance(one, tuple | list) else (one,) for one in result)
        if len(after) == len(states) and outputs:
            return tuple(outputs), tuple(after)
    wanted = f"({', '.join(states)}{',' if len(states) == 1 else ''})"
    raise TypeError(f"{named} must return (output, {wanted}) or ((outputs, ...), {wanted}); got {result!r}")


def trace(function: Callable, parameters: Signature) -> Step:
    """Call a step with symbols.

    Raises:
        TraceError: the step does what cannot be traced; the message has the line of the source.
        TypeError: the step returns something else than outputs and states.
    """
    x = Expression("x")
    states = tuple(Expression(f"s_{name}") for name in parameters.states)
    coefficients = {name: Expression(f"c_{name}") for name in parameters.coefficients}
    given = {name: Symbol(e) for name, e in coefficients.items()}
    try:
        result = function(Symbol(x), *map(Symbol, states), **given)
    except TraceError:
        raise
    except TypeError as error:  # of what knows no symbols, such as a function of torch with a text
        raise located(error) from error
    outputs, after = returned(result, parameters.states, function.__name__)
    try:
        values = [tuple(map(value, side)) for side in (outputs, after)]
    except TraceError as error:
        code = function.__code__
        raise TraceError(f"{code.co_filename}:{code.co_firstlineno}: {function.__name__} returns what is no value: "
                         f"{error}") from None  # fmt: skip
    return Step(x, states, tuple(coefficients.values()), *values)


# -- operations that are made of others --------------------------------------------------------------------------------


def _extreme(a: Any, b: Any, comparison: str) -> Expression:
    """Return the larger or the smaller one; NaN where one is NaN."""
    chosen = Expression("or", (Expression(comparison, (a, b)), Expression("!=", (a, a))))
    return Expression("where", (chosen, a, b))


_MADE_OF: dict[str, Callable] = {
    "sigmoid": lambda a: 1 / (1 + Expression("exp", (-a,))),
    "maximum": lambda a, b: _extreme(a, b, ">"),
    "minimum": lambda a, b: _extreme(a, b, "<"),
    "detach": lambda a: a,
}


class Lowering:
    """Replaces the operations that only the derivatives know, each expression once."""

    def __init__(self, smooth: bool):
        self.smooth = smooth
        self.found: dict[Expression, Value] = {}

    def __call__(self, root: Value) -> Value:
        """Return the root without ``"fire"``, ``"detach"`` and the like."""
        if not isinstance(root, Expression):
            return root
        for e in in_order([root], self.found.__contains__):
            if e not in self.found:
                self.found[e] = self._one(e)
        return self.found[root]

    def _one(self, e: Expression) -> Value:
        if not e.operands:
            return e
        operands = [self.found[o] if isinstance(o, Expression) else o for o in e.operands]
        if e.operation == "fire":
            return self(spikes(Expression("fire", operands), self.smooth))
        if e.operation in _MADE_OF:
            return _MADE_OF[e.operation](*operands)
        return Expression(e.operation, operands)
