"""Write a neuron as device functions of Triton, which the kernels of ``_triton/defined.py`` lead through time."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from .._generate.expressions import TRITON_STEP, Expression, Writer, in_order
from .derive import Hoisted, depending, lowered
from .trace import Step, Value


class Source(NamedTuple):
    """The device functions of a neuron.

    Attributes:
        text: the functions ``hoist``, ``step``, ``adjoint``, ``adjoint_learns`` and ``chain``.
        sums: how many sums over time ``adjoint_learns`` has a part for.
        values: how many values of a step the two adjoints read.
    """

    text: str
    sums: int
    values: tuple[int, int]


def _number(dtype: str) -> Callable[[float], str]:
    # With its dtype, since Triton takes two numbers, as in a choice, for float32.
    return lambda value: (
        f"tl.full([], {repr(value) if abs(value) < float('inf') else f'float({str(value)!r})'}, {dtype})"
    )


def _variables(name: str, variables: Sequence[Expression]) -> dict[Expression, str]:
    return {variable: f"{name}[{i}]" for i, variable in enumerate(variables)}


def _function(head: str, names: dict[Expression, str], returned: Sequence[Value | Sequence[Value]], dtype: str) -> str:
    """Return a function that returns values and tuples of values."""
    writer = Writer(TRITON_STEP, _number(dtype))
    writer.names = dict(names)
    groups = [(one,) if isinstance(one, Expression | float) else tuple(one) for one in returned]
    lines = writer.shared([root for group in groups for root in group], "", "", lambda i: f"n{i}")
    texts = [
        writer.text(one) if isinstance(one, Expression | float) else f"({''.join(f'{writer.text(v)}, ' for v in one)})"
        for one in returned
    ]
    body = "".join(f"    {line}\n" for line in [*lines, f"return {', '.join(texts)}"])
    return f"@triton.jit\ndef {head}:\n{body}"


def source(step: Step, named: str, dtype: str, smooth: bool) -> Source:
    """Return the device functions of a neuron.

    Args:
        step: the step.
        named: the name of the neuron.
        dtype: the dtype of the state, ``"float32"`` or ``"float64"``.
        smooth: as for the layer.
    """
    dtype = f"tl.{dtype}"
    step, adjoint = lowered(step, smooth)
    hoisted = Hoisted(step, adjoint)
    coefficients = _variables("c", step.coefficients)
    names = hoisted.names() | _variables("s", step.states)
    incoming = names | _variables("g", adjoint.grad_outputs) | _variables("a", adjoint.after)
    totals = coefficients | _variables("total", adjoint.totals)
    kinds = {"adjoint": (), "adjoint_learns": adjoint.sums}
    functions = [
        _function("hoist(c)", coefficients, [list(hoisted.values)], dtype),
        _function("step(x, s, h)", names, [step.outputs, step.after], dtype),
        *(
            _function(f"{name}(x, s, h, g, a)", incoming, [adjoint.x, adjoint.states, sums], dtype)
            for name, sums in kinds.items()
        ),
        _function("chain(c, total)", totals, [adjoint.coefficients], dtype),
    ]
    head = (
        f"# The neuron {named}, written by hnn_kernels from its definition.\n"
        "import triton\nimport triton.language as tl\n\n"
        "from hnn_kernels._triton.functions import atan, divide, erfc, power, round_half_even, square_root, tanh\n"
    )
    forward = depending((*step.outputs, *step.after), (step.x, *step.states))
    fixed, learning = (
        len(forward.intersection(in_order((adjoint.x, *adjoint.states, *sums), forward.__contains__)))
        for sums in kinds.values()
    )
    return Source("\n\n".join([head, *functions]), len(adjoint.sums), (fixed, learning))
