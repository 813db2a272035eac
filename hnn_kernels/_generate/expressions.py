"""Expressions, and their text in a language: a formula that is called with symbols makes one instead of a value."""

import math
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from functools import partial
from types import SimpleNamespace
from typing import NamedTuple
from weakref import WeakValueDictionary

# -- expressions -------------------------------------------------------------------------------------------------------


def _operator(operation: str) -> tuple[Callable, Callable]:
    """Return the methods for ``self operation other`` and ``other operation self``."""
    return lambda a, b: Expression(operation, (a, b)), lambda b, a: Expression(operation, (a, b))


class Expression:
    """An operation on expressions and numbers; without operands it is a variable. Equal ones are one object."""

    __slots__ = ("__weakref__", "operands", "operation")
    operation: str
    operands: "tuple[Expression | float, ...]"

    def __new__(cls, operation: str, operands: Iterable = ()) -> "Expression":
        given = tuple(o if isinstance(o, Expression) else float(o) for o in operands)
        # By their text, numbers of another sign or NaN are told apart.
        key = (operation, *(o if isinstance(o, Expression) else repr(o) for o in given))
        found = _KNOWN.get(key)
        if found is None:
            found = super().__new__(cls)
            found.operation, found.operands = operation, given
            _KNOWN[key] = found
        return found

    __add__, __radd__ = _operator("+")
    __sub__, __rsub__ = _operator("-")
    __mul__, __rmul__ = _operator("*")
    __truediv__, __rtruediv__ = _operator("/")
    __lt__, __gt__ = _operator("<")[0], _operator(">")[0]
    __le__, __ge__ = _operator("<=")[0], _operator(">=")[0]

    def __neg__(self):
        return Expression("negative", (self,))

    def __bool__(self):
        raise TypeError("a surrogate's formula chooses by m.where(condition, a, b)")

    def __repr__(self) -> str:
        return f"{self.operation}({', '.join(map(repr, self.operands))})" if self.operands else self.operation

    def __reduce__(self):
        return Expression, (self.operation, self.operands)


_KNOWN: WeakValueDictionary[tuple, Expression] = WeakValueDictionary()


def inner(e: Expression) -> list[Expression]:
    """Return the operands of an expression that are no numbers."""
    return [o for o in e.operands if isinstance(o, Expression)]


def in_order(roots: Iterable["Expression | float"], ends: Callable[[Expression], bool] = lambda e: False) -> list:
    """Return the expressions that the roots are made of, each once, operands first.

    ``ends`` tells of those whose operands are left out.
    """
    found: dict[Expression, None] = {}
    ahead = [(root, False) for root in reversed(list(roots)) if isinstance(root, Expression)]
    while ahead:
        e, done = ahead.pop()
        if e in found:
            continue
        if done or ends(e):
            found[e] = None
        else:
            ahead.append((e, True))
            ahead += [(o, False) for o in reversed(inner(e))]
    return list(found)


def call(function: str, *operands) -> Expression:
    """Return the call of a function of a formula."""
    if function == "where" and not any(isinstance(o, Expression) for o in operands[1:]):
        raise TypeError(f"m.where must have x or s in one of its choices; got the numbers {operands[1]}, {operands[2]}")
    return Expression(function, operands)


def repeated(*roots: "Expression | float", known: Container[Expression] = ()) -> list[Expression]:
    """Return the operations that occur in the roots more than once, inner ones first; what is ``known`` is left out."""
    order = [e for e in in_order(roots, known.__contains__) if e.operands and e not in known]
    times = dict.fromkeys(order, 0)
    for e in [*(o for one in order for o in inner(one)), *roots]:
        if e in times:
            times[e] += 1
    return [e for e in order if times[e] > 1]


# -- languages ---------------------------------------------------------------------------------------------------------

# An operation that binds tighter has a higher number. A call, a name and a number have the highest.
CHOICE, COMPARISON, SUM, PRODUCT, SIGN, ATOM = range(6)


class Syntax(NamedTuple):
    """The text of an operation, its binding strength, and those that its operands must have."""

    text: str
    binds: int
    operands: tuple[int, ...]


def _calls(name: str, operands: int = 1) -> Syntax:
    return Syntax(f"{name}({', '.join(['{}'] * operands)})", ATOM, (CHOICE,) * operands)


_OPERATORS = {"negative": Syntax("-{}", SIGN, (ATOM,))} | {
    operation: Syntax(f"{{}} {operation} {{}}", binds, (binds, binds + 1))
    for operations, binds in ((("<", ">", "<=", ">=", "==", "!="), COMPARISON), ("+-", SUM), ("*/", PRODUCT))
    for operation in operations
}
# Of conditions, which are vectors of bits.
_CONDITIONS = {
    "and": Syntax("({} & {})", ATOM, (SUM, SUM)),
    "or": Syntax("({} | {})", ATOM, (SUM, SUM)),
    "not": Syntax("~{}", SIGN, (ATOM,)),
}
# The functions of hnn_kernels.surrogates.TensorMath.
_FORMULA = ("where", "abs", "exp2", "scaled_exp2", "erfc", "atan", "round", "fma")
# Functions of one argument that the step of a neuron has beside those.
_FUNCTIONS = ("exp", "log", "sqrt", "tanh", "sin", "cos", "floor", "ceil")
CPP: Mapping[str, Syntax] = (
    _OPERATORS
    | _CONDITIONS
    | {
        "where": _calls("where_", 3),
        "abs": _calls("abs_"),
        "exp2": _calls("exp2_"),
        "scaled_exp2": _calls("scaled_exp2_", 2),
        "erfc": _calls("erfc_"),
        "atan": _calls("atan_"),
        "round": _calls("round_"),
        "fma": _calls("fma_", 3),
        "pow": _calls("pow_", 2),
    }
    | {name: _calls(f"{name}_") for name in _FUNCTIONS}
)
TRITON: dict[str, Syntax] = _OPERATORS | {
    "where": _calls("tl.where", 3),
    "abs": _calls("tl.abs"),
    "exp2": _calls("tl.exp2"),
    "scaled_exp2": Syntax("tl.exp2({}) * {}", PRODUCT, (CHOICE, SIGN)),
    "erfc": _calls("erfc"),
    "atan": _calls("atan"),
    "round": Syntax("tl.floor({} + 0.5)", ATOM, (SUM,)),
    "fma": Syntax("{} * {} + {}", SUM, (PRODUCT, SIGN, PRODUCT)),
}
# A step of a neuron, whose spikes must be those of the reference: there Triton's own - of one operand is 0 - a, which
# makes 0 of -0, and its / and its square root of float32 are approximations.
TRITON_STEP: Mapping[str, Syntax] = (
    TRITON
    | _CONDITIONS
    | {
        "negative": Syntax("{} * -1.0", PRODUCT, (PRODUCT,)),
        "/": _calls("divide", 2),
        "sqrt": _calls("square_root"),
        "pow": _calls("power", 2),
        "tanh": _calls("tanh"),
        "round": _calls("round_half_even"),
    }
    | {name: _calls(f"tl.{name}") for name in ("exp", "log", "sin", "cos", "floor", "ceil")}
)
# The functions that the formula of a surrogate is given.
SYMBOLS = SimpleNamespace(**{name: partial(call, name) for name in _FORMULA})


def cpp_number(value: float) -> str:
    """Return a number as C++, in the type V."""
    if math.isnan(value):
        return "broadcast<V>(NAN)"
    if math.isinf(value):
        return f"broadcast<V>({'-' if value < 0 else ''}HUGE_VAL)"
    return f"broadcast<V>({value!r})" if value else "V{}"


class Writer:
    """Writes expressions in a language. Once an expression has a name, it is written as that name."""

    def __init__(self, syntax: Mapping[str, Syntax], number: Callable[[float], str]):
        self.syntax, self.number = syntax, number
        self.names: dict[Expression, str] = {}

    def text(self, e: Expression | float, must_bind: int = CHOICE) -> str:
        """Return the text of an expression, in parentheses if it binds less tightly than it must."""
        if not isinstance(e, Expression):
            return self.number(float(e))
        if e in self.names or not e.operands:
            return self.names.get(e, e.operation)
        how = self.syntax[e.operation]
        text = how.text.format(*map(self.text, e.operands, how.operands))
        return f"({text})" if how.binds < must_bind else text

    def shared(self, roots: Sequence[Expression | float], declaration: str, end: str, name: Callable) -> list[str]:
        """Return the lines that give a name, ``name(its number)``, to what the roots have in common.

        What has a name already is not computed again.
        """
        lines: list[str] = []
        for e in repeated(*roots, known=self.names):
            called = name(len(lines))
            lines.append(f"{declaration}{called} = {self.text(e)}{end}")
            self.names[e] = called
        return lines
