"""The choice of what a step keeps for its adjoint: rows of memory against operations that are done again."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from .._generate.expressions import Expression, in_order
from .derive import Adjoint, depending
from .trace import Step, Value

# The cost of an operation, in additions of a vector. Functions without an instruction go lane by lane.
_COSTS = {
    "/": 8, "sqrt": 8, "exp": 16, "exp2": 10, "scaled_exp2": 10, "tanh": 30, "log": 100, "sin": 100, "cos": 100,
    "pow": 200, "erfc": 100, "atan": 100, "floor": 16, "ceil": 16, "round": 16, "negative": 0.5,
}  # fmt: skip
# A row is written once and read once. It lies in the L2 cache: a segment's rows fill half of it, so each row also makes
# segments shorter.
_ROW = 3.0
_READ_INPUT = 1.0


class Kept(NamedTuple):
    """The values that a step leaves for its adjoint.

    Attributes:
        rows: the expressions that are kept of each step.
        before: by the variable of a state, the row that holds it one step earlier.
    """

    rows: tuple[Expression, ...]
    before: dict[Expression, int]


def _cost(e: Expression) -> float:
    return _COSTS.get(e.operation, 1.0)


class _Choice:
    """One step and the roots of its adjoint: what they read, and what it costs."""

    def __init__(self, step: Step, roots: Sequence[Value]):
        self.step, self.roots = step, roots
        forward = (*step.outputs, *step.after)
        self.varying = depending(forward, (step.x, *step.states))
        self.after = {
            state: new if isinstance(new, Expression) and new in self.varying else state
            for state, new in zip(step.states, step.after, strict=True)
        }
        self.states_alone = set(in_order(step.after))
        self.operations = {e for e in self.varying if e.operands}

    def needed(self, rows: Iterable[Expression]) -> list[Expression]:
        """Return what backward computes or reads where these rows are there."""
        return in_order(self.roots, set(rows).__contains__)

    def resolve(self, rows: Iterable[Expression]) -> Kept:
        """Return the rows with those of the states that backward cannot do without."""
        chosen = dict.fromkeys(rows)
        before: dict[Expression, Expression] = {}
        for e in self.needed(chosen):
            if e in self.after and e not in chosen:
                # Two states that become one value still begin as two.
                before[e] = e if self.after[e] in before.values() else self.after[e]
        for row in before.values():
            chosen.setdefault(row)
        order = list(chosen)
        return Kept(tuple(order), {state: order.index(row) for state, row in before.items() if row is not state})

    def cost(self, rows: Iterable[Expression]) -> float:
        """Return the cost of a step and its adjoint where these rows are kept."""
        kept = self.resolve(rows)
        again = [e for e in self.needed(kept.rows) if e in self.operations and e not in kept.rows]
        extra = [e for e in in_order(kept.rows) if e in self.operations and e not in self.states_alone]
        reads = _READ_INPUT if self.step.x in self.needed(kept.rows) and self.step.x not in kept.rows else 0.0
        return _ROW * len(kept.rows) + sum(map(_cost, again)) + sum(map(_cost, extra)) + reads


def choose(step: Step, adjoint: Adjoint, learns: bool) -> Kept:
    """Choose what is kept: the cheapest set of rows that no row more or less makes cheaper.

    Args:
        step: the step, lowered.
        adjoint: its adjoint, lowered.
        learns: True if the coefficients' gradients are wanted.
    """
    roots = (adjoint.x, *adjoint.states, *(adjoint.sums if learns else ()))
    choice = _Choice(step, roots)
    candidates = [e for e in in_order((*step.outputs, *step.after)) if e in choice.operations]
    # Conditions are no numbers, and cannot be kept as such.
    candidates = [e for e in candidates if e.operation not in _CONDITIONS]
    direct = [e for e in candidates if e in set(choice.needed(()))]
    best: tuple[float, list[Expression]] | None = None
    for start in ([], direct):
        rows, cost = list(start), choice.cost(start)
        while True:
            toggled = [[r for r in rows if r is not e] if e in rows else [*rows, e] for e in candidates]
            costs = [choice.cost(one) for one in toggled]
            if not costs or min(costs) >= cost:
                break
            cost = min(costs)
            rows = toggled[costs.index(cost)]
        if best is None or cost < best[0]:
            best = cost, rows
    assert best is not None
    return choice.resolve(best[1])


_CONDITIONS = {"<", ">", "<=", ">=", "==", "!=", "and", "or", "not"}
