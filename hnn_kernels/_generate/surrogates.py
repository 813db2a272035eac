"""Write the formulas of :mod:`hnn_kernels.surrogates` as C++ and as Triton.

A formula is called with symbols in the place of tensors, whose operators make an expression instead of a value.
"""

from collections.abc import Callable
from types import SimpleNamespace

from .expressions import CPP, SYMBOLS, TRITON, Expression, Writer, cpp_number


def _body(writer: Writer, formula: Callable, declaration: str, end: str) -> list[str]:
    """Return the lines that compute a formula of ``x`` and the surrogate's extent, and nothing twice."""
    inverse, scale, period = (Expression(name) for name in ("inverse_width", "scale", "period"))
    # The fields of hnn_kernels.surrogates.Extent, which this program does not import.
    extent = SimpleNamespace(inverse=inverse, height=scale * inverse, period=period)
    result = formula(Expression("x"), extent, SYMBOLS)
    lines = writer.shared([result], declaration, end, "abcdefghijklmnopqrstuvw".__getitem__)
    return [*lines, f"return {writer.text(result)}{end}"]


# -- files -------------------------------------------------------------------------------------------------------------

MARK = "Generated from hnn_kernels/surrogates.py by `make generate`."
# Their formulas, the fields of a Surrogate, and what they take.
_FUNCTIONS = (
    ("primitive", "p", "P(x)", ("x", "inverse_width", "period")),
    ("density", "p_prime", "scale * P'(x)", ("x", "inverse_width", "scale", "period")),
)


def cpp(surrogates: dict) -> str:
    """Return the text of ``csrc/surrogates.h``."""
    constants = ["k" + name.title().replace("_", "") for name in surrogates]
    lines = [
        f"// {MARK}",
        "// P(x) and scale * P'(x) of the distance x = V - V_th to the threshold. The period is that of their peaks.",
        "#ifndef HNN_NAMESPACE",
        '#error "included by neuron.h: see there"',
        "#endif",
        "",
        "namespace HNN_NAMESPACE {",
        "",
        f"enum Surrogate {{ {', '.join(constants)}, kSurrogates }};  // the last counts them",
    ]
    for function, formula, _, parameters in _FUNCTIONS:
        taken = ", ".join(f"V {name}" for name in parameters)
        lines += ["", "template <class V>", f"HNN_INLINE V {function}(int surrogate, {taken}) {{"]
        lines.append("  switch (surrogate) {")
        for constant, surrogate in zip(constants, surrogates.values(), strict=True):
            lines.append(f"    case {constant}: {{" if surrogate.number else f"    default: {{  // {constant}")
            body = _body(Writer(CPP, cpp_number), getattr(surrogate, formula), "const auto ", ";")
            lines += [*(f"      {line}" for line in body), "    }"]
        lines += ["  }", "}"]
    return "\n".join([*lines, "", "}  // namespace HNN_NAMESPACE", ""])


def triton(surrogates: dict) -> str:
    """Return the text of ``hnn_kernels/_triton/surrogates.py``."""
    lines = [
        f"# {MARK}",
        '"""The surrogates of the distance x = V - V_th to the threshold, as device functions.',
        "",
        "``period`` is that of their peaks, for those that have several.",
        '"""',
        "",
        "import triton",
        "import triton.language as tl",
        "",
        "from .functions import atan, erfc",
    ]
    for function, formula, title, parameters in _FUNCTIONS:
        lines += ["", "", "@triton.jit", f"def {function}({', '.join(parameters)}, surrogate: tl.constexpr):"]
        lines.append(f'    """{title} of the surrogate that has this number."""')
        for name, surrogate in surrogates.items():
            lines.append(f"    {'elif' if surrogate.number else 'if'} surrogate == {surrogate.number}:  # {name}")
            lines += [f"        {line}" for line in _body(Writer(TRITON, repr), getattr(surrogate, formula), "", "")]
        lines += ["    else:", f"        tl.static_assert(surrogate < {len(surrogates)})"]
    return "\n".join([*lines, ""])
