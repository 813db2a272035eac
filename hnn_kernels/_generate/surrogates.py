"""Write the formulas of :mod:`hnn_kernels.surrogates` as C++ and as Triton.

A formula is called with symbols in the place of tensors, whose operators make an expression instead of a value.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import NamedTuple

# -- expressions -------------------------------------------------------------------------------------------------------


def _operator(operation: str) -> tuple[Callable, Callable]:
    """Return the methods for ``self operation other`` and ``other operation self``."""
    return lambda a, b: Expression(operation, (a, b)), lambda b, a: Expression(operation, (a, b))


@dataclass(frozen=True)
class Expression:
    """An operation on expressions and numbers; without operands it is a variable."""

    operation: str
    operands: tuple = ()

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


def _call(function: str, *operands) -> Expression:
    if function == "where" and not any(isinstance(o, Expression) for o in operands[1:]):
        raise TypeError(f"m.where must have x or s in one of its choices; got the numbers {operands[1]}, {operands[2]}")
    return Expression(function, operands)


def repeated(root: Expression) -> list[Expression]:
    """Return the operations that occur in an expression more than once, inner ones first."""
    inner_first: dict[Expression, int] = {}

    def visit(e):
        if isinstance(e, Expression) and e.operands:
            if e not in inner_first:
                for operand in e.operands:
                    visit(operand)
            inner_first[e] = inner_first.get(e, 0) + 1

    visit(root)
    return [e for e, times in inner_first.items() if times > 1]


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
    for operations, binds in ((("<", ">", "<=", ">="), COMPARISON), ("+-", SUM), ("*/", PRODUCT))
    for operation in operations
}
# The functions of hnn_kernels.surrogates.TensorMath.
_CPP = _OPERATORS | {
    "where": _calls("where_", 3),
    "abs": _calls("abs_"),
    "exp2": _calls("exp2_"),
    "scaled_exp2": _calls("scaled_exp2_", 2),
    "erfc": _calls("erfc_"),
    "atan": _calls("atan_"),
    "fma": _calls("fma_", 3),
}
_TRITON = _OPERATORS | {
    "where": _calls("tl.where", 3),
    "abs": _calls("tl.abs"),
    "exp2": _calls("tl.exp2"),
    "scaled_exp2": Syntax("tl.exp2({}) * {}", PRODUCT, (CHOICE, SIGN)),
    "erfc": _calls("erfc"),
    "atan": _calls("atan"),
    "fma": Syntax("{} * {} + {}", SUM, (PRODUCT, SIGN, PRODUCT)),
}
_SYMBOLS = SimpleNamespace(**{name: partial(_call, name) for name in _CPP.keys() - _OPERATORS.keys()})


def _cpp_number(value: float) -> str:
    return f"broadcast<V>({value!r})" if value else "V{}"


class Writer:
    """Writes expressions in a language. Once an expression has a name, it is written as that name."""

    def __init__(self, syntax: dict[str, Syntax], number: Callable[[float], str]):
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

    def body(self, formula: Callable, declaration: str, end: str) -> list[str]:
        """Return the lines that compute a formula of ``x`` and ``inverse_width``, and nothing twice."""
        result = formula(Expression("x"), Expression("inverse_width"), _SYMBOLS)
        lines = []
        for e in repeated(result):
            name = "abcdefghijklmnopqrstuvw"[len(self.names)]
            lines.append(f"{declaration}{name} = {self.text(e)}{end}")
            self.names[e] = name
        return [*lines, f"return {self.text(result)}{end}"]


# -- files -------------------------------------------------------------------------------------------------------------

MARK = "Generated from hnn_kernels/surrogates.py by `make generate`."
_FUNCTIONS = (("primitive", "p", "P(x)"), ("density", "p_prime", "P'(x)"))  # with the fields of a Surrogate


def cpp(surrogates: dict) -> str:
    """Return the text of ``csrc/surrogates.h``."""
    constants = ["k" + name.title().replace("_", "") for name in surrogates]
    lines = [
        f"// {MARK}",
        "// P(x) and P'(x) of the distance x = V - V_th to the threshold.",
        "#ifndef HNN_NAMESPACE",
        '#error "included by neuron.h: see there"',
        "#endif",
        "",
        "namespace HNN_NAMESPACE {",
        "",
        f"enum Surrogate {{ {', '.join(constants)}, kSurrogates }};  // the last counts them",
    ]
    for function, formula, _ in _FUNCTIONS:
        lines += ["", "template <class V>", f"HNN_INLINE V {function}(int surrogate, V x, V inverse_width) {{"]
        lines.append("  switch (surrogate) {")
        for constant, surrogate in zip(constants, surrogates.values(), strict=True):
            lines.append(f"    case {constant}: {{" if surrogate.number else f"    default: {{  // {constant}")
            body = Writer(_CPP, _cpp_number).body(getattr(surrogate, formula), "const auto ", ";")
            lines += [*(f"      {line}" for line in body), "    }"]
        lines += ["  }", "}"]
    return "\n".join([*lines, "", "}  // namespace HNN_NAMESPACE", ""])


def triton(surrogates: dict) -> str:
    """Return the text of ``hnn_kernels/_triton/surrogates.py``."""
    lines = [
        f"# {MARK}",
        '"""The surrogates of the distance x = V - V_th to the threshold, as device functions."""',
        "",
        "import triton",
        "import triton.language as tl",
        "",
        "from .functions import atan, erfc",
    ]
    for function, formula, title in _FUNCTIONS:
        lines += ["", "", "@triton.jit", f"def {function}(x, inverse_width, surrogate: tl.constexpr):"]
        lines.append(f'    """{title} of the surrogate that has this number."""')
        for name, surrogate in surrogates.items():
            lines.append(f"    {'elif' if surrogate.number else 'if'} surrogate == {surrogate.number}:  # {name}")
            lines += [f"        {line}" for line in Writer(_TRITON, repr).body(getattr(surrogate, formula), "", "")]
        lines += ["    else:", f"        tl.static_assert(surrogate < {len(surrogates)})"]
    return "\n".join([*lines, ""])
