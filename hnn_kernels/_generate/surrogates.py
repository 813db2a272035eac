"""Write the formulas of :mod:`hnn_kernels.surrogates` as C++ and as Triton.

A formula is called with symbols in the place of tensors, whose operators make an expression instead of a value.
"""

from collections.abc import Callable

from .expressions import CPP, SYMBOLS, TRITON, Expression, Writer, cpp_number


def _body(writer: Writer, formula: Callable, declaration: str, end: str) -> list[str]:
    """Return the lines that compute a formula of ``x`` and ``inverse_width``, and nothing twice."""
    result = formula(Expression("x"), Expression("inverse_width"), SYMBOLS)
    lines = writer.shared([result], declaration, end, "abcdefghijklmnopqrstuvw".__getitem__)
    return [*lines, f"return {writer.text(result)}{end}"]


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
            body = _body(Writer(CPP, cpp_number), getattr(surrogate, formula), "const auto ", ";")
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
            lines += [f"        {line}" for line in _body(Writer(TRITON, repr), getattr(surrogate, formula), "", "")]
        lines += ["    else:", f"        tl.static_assert(surrogate < {len(surrogates)})"]
    return "\n".join([*lines, ""])
