"""A step as expressions: what torch makes of an operation, its derivative, and what is kept for it."""

import copy
import math
import pickle
from functools import partial

import pytest
import torch

from hnn_kernels import SURROGATES, fire, neuron, neurons
from hnn_kernels._define.derive import lowered
from hnn_kernels._define.fire import set_smooth
from hnn_kernels._define.kept import choose
from hnn_kernels._generate.expressions import Expression, Writer, cpp_number, in_order, repeated
from support.defined import adaptive, delay, lif
from support.expressions import evaluate

# Steps of one output, as functions of x and v. The points below have ties and zeros. None is at a bound of clamp, where
# releases of torch have different gradients.
FUNCTIONS = {
    "sums": lambda x, v: 1 + x - 2 + (3 - v) + torch.add(x, v, alpha=2) - torch.sub(v, x) + torch.rsub(x, 1),
    "products": lambda x, v: 2 * x * v * 3 + torch.square(x) - (-v),
    "quotients": lambda x, v: x / 3 + 2 / (3 + v) + x / (3 + v) + torch.reciprocal(4 + x),
    "powers": lambda x, v: x**2 + v**3 + (4 + x) ** 0.5 + (4 + x) ** -2 + (4 + v) ** -0.5 + v**1 + x**0 / (4 + x) ** -1,
    "other powers": lambda x, v: (4 + x) ** 1.7 + 2**v + 1.5**x + (4 + x) ** v + x**4,
    "exponentials": lambda x, v: torch.exp(x) + (4 + v).log() + torch.exp2(x) + torch.tanh(v) + x.sigmoid(),
    "roots": lambda x, v: torch.sqrt(4 + x) + torch.rsqrt(4 + v),
    "waves": lambda x, v: torch.sin(x) * torch.cos(v) + torch.atan(x) + torch.erfc(v),
    "steps": lambda x, v: x.floor() + v.ceil() * x + torch.round(1.5 * x) + torch.sign(v) * x,
    "bounds": lambda x, v: (
        x.clamp(-1.1, 0.6) + torch.clamp(v, max=1.1) + v.clamp_min(0.1) * 2 + torch.relu(x) + v.relu()
    ),
    "extremes": lambda x, v: torch.maximum(x, v) + 3 * torch.minimum(2 * x, v) + abs(x) * 2 + v.abs(),
    "choices": lambda x, v: torch.where(x > v, x, 2 * v) + torch.where((x < 1) & ~(v >= 0) | (x == v), x, 0),
    "conditions as numbers": lambda x, v: (x > 0) * v + (v <= 0.5).to(v.dtype) * x + (x != v).float(),
    "a detached part": lambda x, v: x * v.detach() + (x * v).detach(),
    "constants": lambda x, v: torch.zeros_like(x) + torch.ones_like(v) * x + torch.full_like(x, 3.0) + 0 * v,
    "the same twice": lambda x, v: (x * v) * (x * v) + torch.exp(x * v),
}


def _spikes(surrogate, x, v):
    return fire(x - v, surrogate, 0.7) * v + fire(x + v, surrogate, 1.3)


FUNCTIONS |= {name: partial(_spikes, name) for name in SURROGATES}
POINTS = (-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 1.75)


@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_value_and_derivative_are_those_of_torch(name, smooth):
    function = FUNCTIONS[name]
    layer = neuron(states=("v",))(lambda x, v: (function(x, v), v))
    step, adjoint = lowered(layer.step, smooth)
    grids = torch.meshgrid(*[torch.tensor(POINTS).double()] * 2, indexing="ij")
    x, v = (grid.flatten().requires_grad_() for grid in grids)
    before = set_smooth(smooth)
    try:
        expected = function(x, v)
    finally:
        set_smooth(before)
    values = {step.x: x.detach(), step.states[0]: v.detach()}
    torch.testing.assert_close(evaluate(step.outputs[0], values), expected.detach(), rtol=1e-14, atol=1e-14)
    values |= {adjoint.grad_outputs[0]: torch.ones_like(x), adjoint.after[0]: torch.full_like(x, 0.5)}
    grads = torch.autograd.grad((expected + 0.5 * v).sum(), (x, v), allow_unused=True)
    for got, want in zip((adjoint.x, *adjoint.states), grads, strict=True):
        torch.testing.assert_close(evaluate(got, values), want, rtol=1e-12, atol=1e-12)


def test_coefficients_are_differentiated_through_what_is_computed_once():
    layer = neuron(states=("v",))(lambda x, v, *, tau, gain: (v * gain, v + (gain * x - v) / (1 + tau * tau)))
    _, adjoint = lowered(layer.step, False)
    # Summed over time are the gradients of gain, and of 1 + tau * tau as a whole.
    assert len(adjoint.sums) == len(adjoint.totals) == 2
    tau = layer.step.coefficients[0]
    totals = {total: torch.tensor(float(i + 3)) for i, total in enumerate(adjoint.totals)}
    for i, total in enumerate(adjoint.totals):
        if total in in_order([adjoint.coefficients[0]]):
            found = evaluate(adjoint.coefficients[0], totals | {tau: torch.tensor(0.7)})
            assert found.item() == pytest.approx(2 * 0.7 * (i + 3))


def test_equal_expressions_are_one():
    x, v = Expression("x"), Expression("v")
    assert x * v + 1 is x * v + 1.0
    assert x * 0.0 is not x * -0.0
    assert x + v is not v + x
    assert pickle.loads(pickle.dumps(x * v)) is x * v
    root = (x * v) * (x * v) + x * v
    assert repeated(root) == [x * v]
    assert repeated(root, known={x * v: "a"}) == []


def test_depth_costs_no_time():
    e = Expression("x")
    for _ in range(300):
        e = e * e
    assert len(in_order([e])) == 301


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "V{}"), (0.1, "broadcast<V>(0.1)"), (math.inf, "broadcast<V>(HUGE_VAL)"), (-1e30, "broadcast<V>(-1e+30)")],
)
def test_numbers_of_cpp(value, text):
    assert cpp_number(value) == text
    assert Writer({}, cpp_number).text(value) == text


def test_what_is_kept_of_the_built_in_layer():
    """As the kernel that was written by hand: one row, and with learning one for each state."""
    step, adjoint = lowered(lif("filter").step, False)
    fixed, learns = (choose(step, adjoint, learns) for learns in (False, True))
    assert len(fixed.rows) == 1
    assert not fixed.before
    assert len(learns.rows) == 2
    assert set(learns.before) == set(step.states)


def test_nothing_is_kept_where_nothing_is_read():
    step, adjoint = lowered(delay.step, False)
    assert choose(step, adjoint, False).rows == ()


def test_dear_functions_are_kept_and_cheap_ones_computed_again():
    def step(x, v, *, decay):
        dear = torch.log(4 + v)
        cheap = v + 1
        return dear * dear * cheap * cheap, decay * dear + x

    lowest, adjoint = lowered(neuron(states=("v",))(step).step, False)
    kept = choose(lowest, adjoint, False)
    assert [row.operation for row in kept.rows if row.operation == "log"] == ["log"]
    assert not [row for row in kept.rows if row is lowest.states[0] + 1]


def test_two_states_that_become_one_begin_as_two():
    def step(x, v, w):
        return v * w, (torch.tanh(x), torch.tanh(x))

    lowest, adjoint = lowered(neuron(states=("v", "w"))(step).step, False)
    kept = choose(lowest, adjoint, False)
    places = [kept.before.get(s, kept.rows.index(s) if s in kept.rows else None) for s in lowest.states]
    assert None not in places
    assert len(set(places)) == 2


def test_keys_name_steps():
    assert lif("filter").key == lif("filter").key
    assert lif("filter").key != lif("filter", sigma=0.5).key
    assert adaptive.key.startswith("adaptive-")


def test_a_neuron_is_pickled_by_its_name_and_copied_as_itself():
    assert pickle.loads(pickle.dumps(neurons.plif)) is neurons.plif
    assert copy.deepcopy({"layer": neurons.plif})["layer"] is neurons.plif


def test_a_neuron_looks_like_its_function():
    assert neurons.plif.__name__ == "plif"
    assert "time constant is learnt" in neurons.plif.__doc__
    assert repr(neurons.plif).startswith("<hnn_kernels.neuron plif-")
