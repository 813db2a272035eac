"""Write a neuron as C++: the struct that ``csrc/cpu/defined.inl`` leads through time."""

from collections.abc import Iterable, Sequence

from .._generate.expressions import CPP, Expression, Writer, cpp_number, in_order
from .derive import Adjoint, Hoisted, lowered
from .kept import Kept, choose
from .trace import Step, Value

# By the name of a dtype: the type of a train's elements.
TYPES = {
    "float64": "double",
    "float32": "float",
    "bfloat16": "hnn_defined::BFloat16",
    "float16": "hnn_defined::Float16",
}
# By the name of an instruction set (csrc/cpu/isa.h): the compiler's flags.
INSTRUCTION_SETS: dict[str, tuple[str, ...]] = {
    "avx512": ("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma"),
    "avx2": ("-mavx2", "-mfma"),
    "default": (),
}


def _body(names: dict[Expression, str], roots: Sequence[Value], ends: Iterable[str]) -> list[str]:
    """Return the lines that compute the roots; ``ends`` are the lines to which each root's text is put."""
    writer = Writer(CPP, cpp_number)
    writer.names = dict(names)
    lines = writer.shared(roots, "const auto ", ";", lambda i: f"n{i}")
    return [*lines, *(end.format(writer.text(root)) for end, root in zip(ends, roots, strict=True))]


def _function(head: str, lines: Sequence[str]) -> list[str]:
    return ["  template <class V>", f"  static HNN_INLINE {head} {{", *(f"    {line}" for line in lines), "  }"]


def _array(name: str, count: int) -> tuple[list[str], list[str]]:
    """Return the lines that read an array into variables, and those that write it, with a place for each value."""
    return [f"const V {name}{i} = {name}[{i}];" for i in range(count)], [f"{name}[{i}] = {{}};" for i in range(count)]


def _variables(name: str, variables: Sequence[Expression]) -> dict[Expression, str]:
    """Return the names of the variables that :func:`_array` reads."""
    return {variable: f"{name}{i}" for i, variable in enumerate(variables)}


def _adjoint(name: str, step: Step, adjoint: Adjoint, kept: Kept, learns: bool, hoisted: Hoisted) -> list[str]:
    """Return the struct of an adjoint."""
    reading, writing = _array("s", len(step.states))
    back, backing = _array("a", len(step.states))
    names = hoisted.names() | _variables("s", step.states)
    sums = adjoint.sums if learns else ()
    roots = (adjoint.x, *adjoint.states, *sums)
    known = {row: f"row[{i}]" for i, row in enumerate(kept.rows)}
    known |= {state: f"before[{i}]" for state, i in kept.before.items()}
    reads_input = step.x not in known and step.x in in_order(roots, known.__contains__)
    adding = [
        Expression("fma", (*s.operands, Expression(f"sum[{i}]")))
        if isinstance(s, Expression) and s.operation == "*"
        else Expression("+", (Expression(f"sum[{i}]"), s))
        for i, s in enumerate(sums)
    ]
    incoming = {g: f"grad[{i}]" for i, g in enumerate(adjoint.grad_outputs)}
    incoming |= _variables("a", adjoint.after)
    ends = [
        "const V grad_x = {};",
        *backing,
        *(f"sum[{i}] = {{}};" for i in range(len(sums))),
    ]
    lines = [
        f"struct {name} {{",
        f"  static constexpr int kRows = {len(kept.rows)}, kSums = {len(sums)};",
        f"  static constexpr bool kReadsInput = {str(reads_input).lower()};",
        *_function(
            "void keep(V x, V* s, const V* h, V* row)",
            [
                *reading,
                *_body(
                    names, [*kept.rows, *step.after], [*(f"row[{i}] = {{}};" for i in range(len(kept.rows))), *writing]
                ),
            ],
        ),
        *_function(
            "void start(const V* s, V* row)",
            [f"row[{row}] = s[{step.states.index(state)}];" for state, row in kept.before.items()],
        ),
        *_function(
            "V backward(V x, const V* row, const V* before, const V* h, const V* grad, V* a, V* sum)",
            [
                *back,
                *_body({**names, **known, **incoming}, [adjoint.x, *adjoint.states, *adding], ends),
                "return grad_x;",
            ],
        ),
    ]
    if learns:
        variables = {c: f"c[{i}]" for i, c in enumerate(step.coefficients)}
        variables |= {total: f"total[{i}]" for i, total in enumerate(adjoint.totals)}
        grads = [f"grad[{i}] = {{}};" for i in range(len(step.coefficients))]
        lines += _function(
            "void chain(const V* c, const V* total, V* grad)", _body(variables, adjoint.coefficients, grads)
        )
    return [f"  {line}" for line in [*lines, "};"]]


def neuron(step: Step, smooth: bool) -> str:
    """Return the struct ``Neuron`` of a step."""
    step, adjoint = lowered(step, smooth)
    hoisted = Hoisted(step, adjoint)
    names = hoisted.names() | _variables("s", step.states)
    reading, writing = _array("s", len(step.states))
    coefficients = {c: f"c[{i}]" for i, c in enumerate(step.coefficients)}
    kinds = {
        name: choose(step, adjoint, learns)
        for name, learns in (("Fixed", False), *([("Learns", True)] if adjoint.sums else []))
    }
    lines = [
        "struct Neuron {",
        f"  static constexpr int kStates = {len(step.states)}, kCoefficients = {len(step.coefficients)},",
        f"                       kOutputs = {len(step.outputs)}, kHoisted = {len(hoisted.values)};",
        *_function(
            "void hoist(const V* c, V* h)",
            _body(coefficients, list(hoisted.values), [f"h[{i}] = {{}};" for i in hoisted.values.values()]),
        ),
        *_function(
            "void forward(V x, V* s, const V* h, V* out)",
            [
                *reading,
                *_body(
                    names,
                    [*step.outputs, *step.after],
                    [*(f"out[{i}] = {{}};" for i in range(len(step.outputs))), *writing],
                ),
            ],
        ),
        *_function("void advance(V x, V* s, const V* h)", [*reading, *_body(names, step.after, writing)]),
        *(
            line
            for name, kept in kinds.items()
            for line in _adjoint(name, step, adjoint, kept, name == "Learns", hoisted)
        ),
        *([] if "Learns" in kinds else ["  using Learns = Fixed;"]),
        "};",
    ]
    return "\n".join(lines)


def source(step: Step, named: str, dtype: str, smooth: bool, instruction_set: str) -> str:
    """Return the whole source of a neuron's kernels.

    Args:
        step: the step.
        named: the name of the neuron.
        dtype: a key of :data:`TYPES`.
        smooth: as for the layer.
        instruction_set: a key of :data:`INSTRUCTION_SETS`.
    """
    kernels = f"hnn_defined::defined_kernels<hnn_defined::Neuron, {TYPES[dtype]}>()"
    return f"""// The neuron {named}, written by hnn_kernels from its definition.
#include "cpu/defined_begin.h"
#define HNN_ISA_{instruction_set.upper()}
#include "cpu/isa.h"
#define HNN_NAMESPACE hnn_defined
#include "cpu/defined_body.inl"

namespace hnn_defined {{

{neuron(step, smooth)}

}}  // namespace hnn_defined

extern "C" __attribute__((visibility("default"))) const hnn::DefinedKernels hnn_defined_kernels;
const hnn::DefinedKernels hnn_defined_kernels = {kernels};
"""
