"""The adjoint of a step, by reverse mode over its expressions."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from .._generate.expressions import Expression, in_order, inner
from .fire import slope
from .trace import Lowering, Step, Value


class Adjoint(NamedTuple):
    """One step of the adjoint.

    It reads the variables of the step, ``grad_outputs`` (the gradients of the outputs) and ``after`` (those of the
    states after the step).

    Attributes:
        x, states: the gradients of the input and of the states before the step.
        sums: by what does not change in time, such as a coefficient, the gradient of this step that is summed over
            time.
        coefficients: the gradients of the coefficients, from the variables ``totals`` of those sums.
    """

    grad_outputs: tuple[Expression, ...]
    after: tuple[Expression, ...]
    x: Value
    states: tuple[Value, ...]
    sums: tuple[Value, ...]
    totals: tuple[Expression, ...]
    coefficients: tuple[Value, ...]


def depending(roots: Iterable[Value], on: Iterable[Expression]) -> set[Expression]:
    """Return the expressions of the roots that depend on a variable."""
    found = set(on)
    for e in in_order(roots):
        if any(o in found for o in inner(e)):
            found.add(e)
    return found


def _where(condition: Any, a: Value, b: Value) -> Expression:
    return Expression("where", (condition, a, b))


def _extreme(e: Expression, g: Value, larger: str) -> Iterable[tuple[Any, Value]]:
    """Share the gradient of a maximum or a minimum: where both are equal, each gets a half, as in torch."""
    for a, b in (e.operands, e.operands[::-1]):
        yield a, _where(Expression("==", (a, b)), _times(g, 0.5), _where(Expression(larger, (a, b)), g, 0))


def _abs(e: Expression, g: Value) -> Iterable[tuple[Any, Value]]:
    (a,) = e.operands
    yield a, _where(Expression(">", (a, 0)), g, _where(Expression("<", (a, 0)), _negative(g), 0))


def _quotient(e: Expression, g: Value) -> Iterable[tuple[Any, Value]]:
    a, b = e.operands
    part = Expression("/", (g, b))
    return (a, part), (b, _negative(Expression("*", (part, e))))


def _power(e: Expression, g: Value) -> Iterable[tuple[Any, Value]]:
    a, n = e.operands
    less = n - 1 if isinstance(n, float) else Expression("-", (n, 1))
    yield a, _times(g, Expression("*", (n, Expression("pow", (a, less)))))
    if isinstance(n, Expression):
        yield n, _times(g, Expression("*", (e, Expression("log", (a,)))))


def _of_one(derivative: Callable) -> Callable:
    """Return the rule of a function of one operand, from ``derivative(a, its value)``."""
    return lambda e, g: [(e.operands[0], _times(g, derivative(e.operands[0], e)))]


_TWO_BY_ROOT_PI = 1.1283791670955126
# By operation: pairs of an operand and its part of the gradient, from the expression and its gradient.
_RULES: dict[str, Callable[[Any, Any], Iterable[tuple[Any, Value]]]] = {
    "+": lambda e, g: [(o, g) for o in e.operands],
    "-": lambda e, g: [(e.operands[0], g), (e.operands[1], _negative(g))],
    "*": lambda e, g: [(e.operands[0], _times(g, e.operands[1])), (e.operands[1], _times(g, e.operands[0]))],
    "/": _quotient,
    "negative": lambda e, g: [(e.operands[0], _negative(g))],
    "where": lambda e, g: [(e.operands[1], _where(e.operands[0], g, 0)), (e.operands[2], _where(e.operands[0], 0, g))],
    "fire": lambda e, g: [(e.operands[0], _times(slope(e), g))],
    "maximum": lambda e, g: _extreme(e, g, ">"),
    "minimum": lambda e, g: _extreme(e, g, "<"),
    "abs": _abs,
    "pow": _power,
    "exp": _of_one(lambda a, e: e),
    "log": _of_one(lambda a, e: Expression("/", (1, a))),
    "sqrt": _of_one(lambda a, e: 0.5 / e),
    "tanh": _of_one(lambda a, e: 1 - e * e),
    "sigmoid": _of_one(lambda a, e: e * (1 - e)),
    "sin": _of_one(lambda a, e: Expression("cos", (a,))),
    "cos": _of_one(lambda a, e: -Expression("sin", (a,))),
    "atan": _of_one(lambda a, e: 1 / Expression("fma", (a, a, 1))),
    "erfc": _of_one(lambda a, e: Expression("exp", (-Expression("*", (a, a)),)) * -_TWO_BY_ROOT_PI),
}
# Operations without a derivative: conditions, steps, and what was detached.
_CONSTANT = {"detach", "floor", "ceil", "round", "<", ">", "<=", ">=", "==", "!=", "and", "or", "not"}


def _times(a: Value, b: Value) -> Value:
    if a == 1.0:
        return b
    return a if b == 1.0 else Expression("*", (a, b))


def _negative(a: Value) -> Value:
    return Expression("negative", (a,)) if isinstance(a, Expression) else -a


def plus(a: Value | None, b: Value) -> Value:
    """Return the sum of two parts of a gradient, in one rounding where one is a product; None is nothing."""
    if a is None or a == 0.0:
        return b
    for one, other in ((b, a), (a, b)):
        if isinstance(one, Expression) and one.operation == "*":
            return Expression("fma", (*one.operands, other))
    return Expression("+", (a, b))


def _reverse(roots: Iterable[Value], seeds: dict[Expression, Value], through: set[Expression]) -> dict:
    """Walk back from the roots through the expressions ``through``; return the gradient of each that was met."""
    found = dict(seeds)
    for e in reversed(in_order(roots)):
        gradient = found.get(e)
        if gradient is None or e not in through or e.operation in _CONSTANT or not e.operands:
            continue
        for operand, part in _RULES[e.operation](e, gradient):
            if isinstance(operand, Expression):
                found[operand] = plus(found.get(operand), part)
    return found


def adjoint(step: Step) -> Adjoint:
    """Derive the adjoint of a step."""
    roots = (*step.outputs, *step.after)
    grad_outputs = tuple(Expression(f"g_{i}") for i in range(len(step.outputs)))
    after = tuple(Expression(f"a_{s.operation}") for s in step.states)
    seeds: dict[Expression, Value] = {}
    for root, gradient in zip(roots, (*grad_outputs, *after), strict=True):
        if isinstance(root, Expression):
            seeds[root] = plus(seeds.get(root), gradient)
    varying = depending(roots, (step.x, *step.states))
    found = _reverse(roots, seeds, varying)
    learnt = depending(roots, step.coefficients) - varying
    fixed = [e for e in in_order(roots) if e in learnt and e in found]
    totals = tuple(Expression(f"total_{i}") for i in range(len(fixed)))
    chained = _reverse(fixed, dict(zip(fixed, totals, strict=True)), learnt)
    return Adjoint(
        grad_outputs, after, found.get(step.x, 0.0), tuple(found.get(s, 0.0) for s in step.states),
        tuple(found[e] for e in fixed), totals, tuple(chained.get(c, 0.0) for c in step.coefficients),
    )  # fmt: skip


def lowered(step: Step, smooth: bool) -> tuple[Step, Adjoint]:
    """Return a step and its adjoint in operations that a language has."""
    lower = Lowering(smooth)
    found = adjoint(step)
    step = step._replace(outputs=tuple(map(lower, step.outputs)), after=tuple(map(lower, step.after)))
    return step, found._replace(
        x=lower(found.x), states=tuple(map(lower, found.states)), sums=tuple(map(lower, found.sums)),
        coefficients=tuple(map(lower, found.coefficients)),
    )  # fmt: skip


class Hoisted:
    """The expressions of a step and its adjoint that do not change in time, each with its place in the array h."""

    def __init__(self, step: Step, adjoint: Adjoint):
        roots = (*step.outputs, *step.after, adjoint.x, *adjoint.states, *adjoint.sums)
        varying = depending(roots, (step.x, *step.states, *adjoint.grad_outputs, *adjoint.after))
        self.values: dict[Expression, int] = {}
        read = [o for e in in_order(roots) if e in varying for o in inner(e)]
        for e in [*read, *(root for root in roots if isinstance(root, Expression))]:
            if e not in varying:
                self.values.setdefault(e, len(self.values))

    def names(self) -> dict[Expression, str]:
        """Return the place of each as text."""
        return {e: f"h[{i}]" for e, i in self.values.items()}
