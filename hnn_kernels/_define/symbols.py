"""The symbols that a step is traced with: they take torch's operators and functions, and make expressions of them.

What torch makes of an operation is part of its meaning, since the reference runs the same function with tensors. So
``2 / x`` is ``x.reciprocal() * 2`` and ``x ** 3`` is ``x * x * x``, as on tensors.
"""

import linecache
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import torch

from .._generate.expressions import Expression

_OURS = (str(Path(__file__).parents[1]), str(Path(torch.__file__).parent))


class TraceError(TypeError):
    """A step that cannot be traced. The message has the file, the line and the text of the place."""


def refuse(reason: str) -> NoReturn:
    """Raise an error that names the line of the user's source.

    Raises:
        TraceError: always.
    """
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_OURS):
        frame = frame.f_back
    raise _at(frame.f_code.co_filename, frame.f_lineno, reason)


def _at(file: str, line: int, reason: str) -> TraceError:
    text = linecache.getline(file, line).strip()
    return TraceError(f"{file}:{line}: {reason}" + (f"\n    {text}" if text else ""))


def located(error: TypeError) -> TraceError:
    """Return an error that a step ran into as one that names the line of the user's source."""
    place = None
    frame = error.__traceback__
    while frame is not None:
        if not frame.tb_frame.f_code.co_filename.startswith(_OURS):
            place = frame
        frame = frame.tb_next
    reason = str(error).partition("\n")[0]
    return TraceError(reason) if place is None else _at(place.tb_frame.f_code.co_filename, place.tb_lineno, reason)


class _DType:
    """Stands for the dtype of a symbol, which depends on the call."""


_DTYPE = _DType()


def value(given: Any) -> Expression | float:
    """Return the expression of a symbol, or a number; a condition counts as 1 or 0."""
    if isinstance(given, Symbol):
        return Expression("where", (given.expression, 1, 0)) if given.condition else given.expression
    if isinstance(given, int | float):
        return float(given)
    if isinstance(given, torch.Tensor):
        refuse("a step takes no tensor from outside: make it a coefficient, a parameter behind the *")
    refuse(f"a step computes with tensors and numbers; got {given!r} of type {type(given).__name__}")


def _condition(given: Any) -> Expression:
    if isinstance(given, Symbol) and given.condition:
        return given.expression  # type: ignore[return-value]
    refuse(f"a condition must be a comparison, such as v > 1; got {given!r}")


def _number(given: Any, what: str) -> float:
    if not isinstance(given, int | float):
        refuse(f"{what} must be a number; got {given!r}")
    return float(given)


def _apply(operation: str, *operands: Any) -> "Symbol":
    return Symbol(Expression(operation, map(value, operands)))


def _compare(operation: str) -> Callable:
    return lambda a, b: Symbol(Expression(operation, (value(a), value(b))), condition=True)


def _scaled(operation: str) -> Callable:
    def function(a, b, *, alpha=1):
        return _apply(operation, a, b if alpha == 1 else _apply("*", b, _number(alpha, "alpha")))

    return function


def _div(a, b, *, rounding_mode=None):
    if rounding_mode is not None:
        refuse("a division takes no rounding_mode")
    return _apply("/", a, b)


def _pow(a, n):
    if isinstance(a, int | float):
        return _apply("pow", a, n)
    if isinstance(n, Symbol):
        return _apply("pow", a, n)
    powers: dict[float, Callable] = {
        0: lambda: Symbol(1.0), 1: lambda: a, 2: lambda: a * a, 3: lambda: a * a * a, 0.5: lambda: _apply("sqrt", a),
        -0.5: lambda: _apply("/", 1, _apply("sqrt", a)), -1: lambda: _apply("/", 1, a),
        -2: lambda: _apply("/", 1, a * a),
    }  # fmt: skip
    n = _number(n, "an exponent")
    return powers[n]() if n in powers else _apply("pow", a, n)


def _clamp(a, min=None, max=None):
    # At a bound the gradient is 0, as in torch from 2.14 on.
    if min is not None:
        a = _apply("where", _compare("<=")(a, min).as_operand(), min, a)
    if max is not None:
        a = _apply("where", _compare(">=")(a, max).as_operand(), max, a)
    return a


def _where(condition, *choices):
    if len(choices) != 2:
        refuse("torch.where must have a condition and two choices")
    return Symbol(Expression("where", (_condition(condition), *map(value, choices))))


def _logical(operation: str, operands: int = 2) -> Callable:
    def function(*conditions):
        if len(conditions) != operands:
            refuse(f"{operation!r} takes {operands} conditions; got {len(conditions)}")
        return Symbol(Expression(operation, map(_condition, conditions)), condition=True)

    return function


def _to(a, *args, **kwargs):
    if a.condition or all(isinstance(one, _DType | Symbol) for one in (*args, *kwargs.values())):
        return Symbol(value(a))
    refuse("a step has one dtype, that of its state: only a condition can be turned into numbers")


def _of_tensors(operation: str) -> Callable:
    def function(a, b):
        if not (isinstance(a, Symbol) and isinstance(b, Symbol)):
            refuse(f"torch.{operation} takes two tensors; torch.clamp takes numbers")
        return _apply(operation, a, b)

    return function


def _sign(a):
    return _where(a > 0, 1, _where(a < 0, -1, 0))


# By the name that torch gives a function or a method.
_FUNCTIONS: dict[str, Callable] = {
    "add": _scaled("+"), "sub": _scaled("-"), "subtract": _scaled("-"), "rsub": lambda a, b: _apply("-", b, a),
    "mul": lambda a, b: _apply("*", a, b), "multiply": lambda a, b: _apply("*", a, b), "div": _div, "divide": _div,
    "true_divide": _div, "neg": lambda a: _apply("negative", a), "negative": lambda a: _apply("negative", a),
    "reciprocal": lambda a: _apply("/", 1, a), "square": lambda a: _apply("*", a, a), "pow": _pow,
    "rsqrt": lambda a: _apply("/", 1, _apply("sqrt", a)), "sigmoid": lambda a: _apply("sigmoid", a),
    "abs": lambda a: _apply("abs", a), "absolute": lambda a: _apply("abs", a),
    "maximum": _of_tensors("maximum"), "minimum": _of_tensors("minimum"), "exp2": lambda a: _apply("pow", 2, a),
    "clamp": _clamp, "clip": _clamp, "clamp_min": lambda a, min: _clamp(a, min), "where": _where,
    "clamp_max": lambda a, max: _clamp(a, None, max),
    "relu": lambda a, inplace=False: _apply("where", (a <= 0).as_operand(), 0, a), "sign": _sign, "sgn": _sign,
    "detach": lambda a: _apply("detach", a), "clone": lambda a, **_: a, "zeros_like": lambda a, **_: Symbol(0.0),
    "ones_like": lambda a, **_: Symbol(1.0), "full_like": lambda a, n, **_: Symbol(_number(n, "a fill")),
    "logical_and": _logical("and"), "logical_or": _logical("or"), "logical_not": _logical("not", 1),
    "to": _to, "type_as": _to, "float": _to, "double": _to, "type": _to,
}  # fmt: skip
for _name in ("exp", "log", "sqrt", "tanh", "sin", "cos", "atan", "erfc", "floor", "ceil", "round"):
    _FUNCTIONS[_name] = partial(_apply, _name)
for _operation, _names in {
    "<": ("lt", "less"), ">": ("gt", "greater"), "<=": ("le", "less_equal"), ">=": ("ge", "greater_equal"),
    "==": ("eq",), "!=": ("ne", "not_equal"),
}.items():  # fmt: skip
    _FUNCTIONS |= dict.fromkeys(_names, _compare(_operation))

ALLOWED = tuple(sorted(_FUNCTIONS))


def _call(name: str, args: Any, kwargs: Any) -> Any:
    function = _FUNCTIONS.get(name)
    if function is None:
        refuse(f"a step cannot call {name}; it has torch's functions {', '.join(ALLOWED)}, and hnn_kernels.fire")
    try:
        return function(*args, **kwargs)
    except TraceError:
        raise
    except TypeError as error:
        refuse(f"{name} cannot be called so in a step: {error}")


def _method(name: str) -> Callable:
    return lambda self, *args: _FUNCTIONS[name](self, *args)


def _reflected(name: str) -> Callable:
    return lambda self, other: _FUNCTIONS[name](other, self)


def _refused(reason: str) -> Callable:
    return lambda self, *args, **kwargs: refuse(reason)


class Symbol:
    """A value of a step that is traced: an expression, or a number. A ``condition`` is true or false."""

    __slots__ = ("condition", "expression")

    def __init__(self, expression: Expression | float, condition: bool = False):
        self.expression, self.condition = expression, condition

    def as_operand(self) -> "Symbol":
        """Return the condition as an operand that is not turned into a number."""
        return Symbol(self.expression)

    __hash__ = None  # type: ignore[assignment]
    __add__, __radd__ = _method("add"), _reflected("add")
    __sub__, __rsub__ = _method("sub"), _reflected("sub")
    __mul__, __rmul__ = _method("mul"), _reflected("mul")
    __truediv__ = _method("div")
    __pow__, __rpow__ = _method("pow"), _reflected("pow")
    __lt__, __gt__, __le__, __ge__ = _method("lt"), _method("gt"), _method("le"), _method("ge")
    __eq__, __ne__ = _method("eq"), _method("ne")
    __neg__, __abs__ = _method("neg"), _method("abs")
    __and__, __or__, __invert__ = _method("logical_and"), _method("logical_or"), _method("logical_not")

    def __rtruediv__(self, other):
        return _apply("*", _apply("/", 1, self), other)

    def __pos__(self):
        return self

    __bool__ = _refused(
        "a step has no if, while, and, or, not, min or max that depends on values: use torch.where, &, |, ~, "
        "torch.minimum or torch.maximum"
    )
    __float__ = __int__ = __index__ = __complex__ = __round__ = __trunc__ = __divmod__ = _refused(
        "a step has no numbers from values: math, float(), int() and round() take none; use torch's functions"
    )
    __iter__ = __getitem__ = __len__ = __contains__ = _refused("a step sees one neuron, which has no axes and no items")
    __iadd__ = __isub__ = __imul__ = __itruediv__ = __ipow__ = _refused(
        "a step must not change a tensor in place: write v = v + ..., since the tensor may be the caller's"
    )
    __setitem__ = _refused("a step must not change a tensor in place: use torch.where")
    __array_ufunc__ = __array__ = _refused("a step takes no functions of NumPy: use torch's")
    __matmul__ = __rmatmul__ = __mod__ = __floordiv__ = _refused(
        "a step has the operators + - * / **, comparisons, &, | and ~"
    )

    @property
    def dtype(self) -> Any:
        """Stands for the dtype of the call."""
        return _DTYPE

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name in _FUNCTIONS:
            return lambda *args, **kwargs: _call(name, (self, *args), kwargs)
        return refuse(f"a step cannot use .{name}; it has torch's functions {', '.join(ALLOWED)}")

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        name = getattr(function, "__name__", str(function)).strip("_")
        aliases = {"truediv": "div", "radd": "add", "rmul": "mul", "rsub": "rsub"}
        return _call(aliases.get(name, name), args, kwargs or {})

    def __repr__(self) -> str:
        return f"Symbol({self.expression!r})"
