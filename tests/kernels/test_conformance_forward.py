"""The spikes, counts and states of every kernel backend against the reference."""

import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hnn_kernels import LIFState
from support.comparisons import equal_bits, hold_forward, hold_smooth, hold_state
from support.layers import DTYPES, KINDS, LOW, in_double, inputs, run, tensors
from support.targets import dtype_id

# Lengths around the widths that kernels tile, vectorise or launch by.
SIZES = (1, 3, 17, 63, 64, 65, 127, 500)


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_id)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("state", [False, True], ids=["zero", "state"])
@pytest.mark.parametrize("steps", [None, 9], ids=["train", "constant"])
def test_spikes_and_state(target, dtype, kind, state, steps):
    shape = (2, 3, 5) if steps else (9, 2, 3, 5)
    arguments = inputs(shape, dtype=dtype, device=target.device, kind=kind, state=state, steps=steps)
    out, carried = hold_forward(target, arguments)
    assert out.dtype == dtype
    assert out.shape == (9, 2, 3, 5)
    assert 0.1 < out.float().mean() < 0.6
    assert carried.v.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_id)
@pytest.mark.parametrize("state", [False, True], ids=["zero", "state"])
@pytest.mark.parametrize("steps", [None, 9], ids=["train", "constant"])
def test_count_is_the_sum_of_the_train(target, dtype, state, steps):
    shape = (2, 3, 5) if steps else (9, 2, 3, 5)
    arguments = inputs(shape, dtype=dtype, device=target.device, kind="mixed", state=state, steps=steps)
    train, state_of_train = run(arguments, target.backend)
    count, state_of_count = run(arguments, target.backend, readout="count")
    assert count.dtype == dtype
    equal_bits(count, train.sum(0, dtype=torch.float64).to(dtype), "count")
    equal_bits(state_of_count.v, state_of_train.v, "state.v")
    equal_bits(state_of_count.r, state_of_train.r, "state.r")


@pytest.mark.parametrize("dtype", LOW, ids=dtype_id)
def test_count_is_summed_wide_and_rounded_once(target, dtype):
    """Added up in bfloat16, 301 ones would stop at 256. (Smooth ones: so many spikes are refused there.)"""
    current = torch.full((301, 1, 2), 3.0, dtype=dtype, device=target.device)
    arguments = {"current": current, "steps": None, "decay": 0.0, "reset_decay": 0.0, "threshold": 1.0}
    arguments |= {"smooth": True, "sigma": 0.05}
    count, _ = run(arguments, target.backend, readout="count")
    assert count.tolist() == [[torch.tensor(301.0).to(dtype).item()] * 2]
    assert count.min() > 256


@pytest.mark.parametrize("neurons", SIZES)
def test_odd_numbers_of_neurons(target, neurons):
    hold_forward(target, inputs((5, 1, neurons), device=target.device, kind="neuron", state=True))
    hold_forward(target, inputs((3, neurons, 1), device=target.device))


@pytest.mark.parametrize("steps", [1, 2, 3, 31, 64, 101])
def test_odd_numbers_of_steps(target, steps):
    hold_forward(target, inputs((steps, 2, 7), device=target.device, kind="scalar"))
    hold_forward(target, inputs((2, 7), device=target.device, steps=steps))


@pytest.mark.parametrize(
    ("shape", "steps"),
    [((0, 2, 3), None), ((2, 3), 0), ((5, 0, 3), None), ((0, 3), 5), ((5, 2, 0), None), ((5, 2, 3, 0, 4), None),
     ((0, 0, 0), None)],
    ids=["T=0", "T=0 constant", "B=0", "B=0 constant", "no features", "an empty feature axis", "nothing"],
)  # fmt: skip
@pytest.mark.parametrize("readout", ["spikes", "count"])
@pytest.mark.parametrize("state", [False, True], ids=["zero", "state"])
def test_empty(target, shape, steps, readout, state):
    arguments = inputs(shape, device=target.device, steps=steps, state=state)
    out, carried = run(arguments, target.backend, readout=readout)
    expected, expected_state = run(arguments, "reference", readout=readout)
    equal_bits(out, expected, "out")
    equal_bits(carried.v, expected_state.v, "state.v")
    equal_bits(carried.r, expected_state.r, "state.r")


def test_no_step_hands_back_a_copy_of_the_state(target):
    arguments = inputs((0, 2, 3), device=target.device, state=True)
    _, carried = run(arguments, target.backend)
    before = carried.v.clone()
    arguments["state"].v.add_(1)
    assert torch.equal(carried.v, before)


@pytest.mark.parametrize("rank", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("steps", [None, 5], ids=["train", "constant"])
def test_any_number_of_feature_axes(target, rank, steps):
    shape = (5, 3, 2, 3, 4, 2)[: rank + 2]
    arguments = inputs(shape[1:] if steps else shape, device=target.device, steps=steps, state=True, kind="scalar")
    hold_forward(target, arguments)


@pytest.mark.parametrize(
    "shape",
    [(), (1,), (5,), (3, 1), (1, 5), (4, 1, 1), (1, 3, 1), (4, 1, 5), (1, 1, 1), (4, 3, 5)],
    ids=str,
)
def test_every_way_to_broadcast_a_coefficient(target, shape):
    arguments = inputs((6, 2, 4, 3, 5), device=target.device)
    for i, name in enumerate(("decay", "reset_decay", "threshold")):
        arguments[name] = torch.rand(shape, generator=torch.Generator().manual_seed(i)).add(0.2).to(target.device)
    hold_forward(target, arguments)


@pytest.mark.parametrize("name", ["decay", "reset_decay", "threshold"])
def test_coefficients_of_any_strides(target, name):
    arguments = inputs((6, 2, 3, 5), device=target.device)
    values = torch.rand(10, 6, device=target.device) + 0.2
    for view in (values[1:6, 2:5].T, values[2:3, 1:6].expand(3, 5), values[::2, 3].expand(3, 5), values[3:6, 4:5]):
        hold_forward(target, {**arguments, name: view})


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_id)
def test_a_tie_fires(target, dtype):
    """All numbers are exact in binary, so V meets the threshold exactly, at first and after decay and reset."""
    arguments = {"steps": None, "decay": 0.5, "reset_decay": 0.5, "threshold": 1.0}
    #              V:  1 ties        0.5 - 1      1.75 - 0.5 - 1 ... written out below
    current = torch.tensor([1.0, 0.0, 1.75, 1.0, 0.0], dtype=dtype, device=target.device)
    # R = 0, 1, 0.5, 0.25 + 0, ...: V = 1 (fires), -0.5, 1.75 - 0.25 - 0.5 = 1 (fires), 0.5 + 1 - 1.25 = 0.25, ...
    out, _ = run({**arguments, "current": current[:, None, None]}, target.backend)
    assert out.flatten().tolist() == [1, 0, 1, 0, 0]
    below = torch.tensor([1.0], dtype=dtype).nextafter(torch.tensor([0.0], dtype=dtype)) if dtype in DTYPES[:2] else (
        torch.tensor([1 - torch.finfo(dtype).eps / 2], dtype=dtype)
    )  # fmt: skip
    out, _ = run({**arguments, "current": below[:, None, None].to(target.device)}, target.backend)
    assert out.flatten().tolist() == [0]


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_id)
def test_quantised_currents_full_of_ties(target, dtype):
    """Currents in eighths with decay 1/2 tie often, so that a ``>`` in place of ``>=`` shows."""
    eighths = torch.randint(-8, 20, (12, 4, 64), generator=torch.Generator().manual_seed(3))
    current = (eighths / 8).to(target.device, dtype)
    arguments = {"current": current, "steps": None, "decay": 0.5, "reset_decay": 0.25, "threshold": 1.0}
    v = torch.zeros(4, 64, dtype=torch.float64)
    r, ties = v.clone(), 0
    for x in current.double().cpu():
        v = 0.5 * v + x - r
        ties += int((v == 1).sum())
        r = 0.25 * r + (v >= 1)
    assert ties > 20
    out, state = run(arguments, target.backend)
    expected, expected_state = run(in_double(arguments), "reference")
    # Twelve halvings of eighths fit float32's 24 bits, so every dtype computes exactly, on a GPU too.
    assert torch.equal(out.double(), expected)
    assert torch.equal(state.v.double(), expected_state.v)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_id)
@pytest.mark.parametrize("readout", ["spikes", "count"])
def test_a_current_that_is_not_finite(target, value, dtype, readout):
    """NaN never fires and stays in its own neuron; infinity does what IEEE arithmetic says."""
    arguments = inputs((6, 2, 40), dtype=dtype, device=target.device)
    arguments["current"][2, 1, 7] = value
    arguments["current"][0, 0, 39] = value
    out, state = run(arguments, target.backend, readout=readout)
    expected, expected_state = run(arguments, "reference", readout=readout)
    equal_bits(out, expected, "out")
    hold_state(target, state, expected_state, torch.ones_like(state.v, dtype=torch.bool))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf], ids=str)
def test_a_coefficient_tensor_that_is_not_finite(target, value):
    """A float must be finite; a tensor is not looked into (that would wait for the device), so IEEE rules hold."""
    for name in ("decay", "reset_decay", "threshold"):
        arguments = inputs((6, 2, 40), device=target.device, kind="neuron", state=True)
        arguments[name][11] = value
        out, state = run(arguments, target.backend)
        expected, expected_state = run(arguments, "reference")
        equal_bits(out, expected, f"out with {name}")
        hold_state(target, state, expected_state, torch.ones_like(state.v, dtype=torch.bool), name)


@pytest.mark.parametrize(
    "coefficients",
    [
        (0.0, math.exp(-1 / 4), 1.0),
        (1.0, 1.0, 1.0),
        (-0.5, -0.5, 0.7),
        (0.9, 0.0, -0.3),
        (0.3, 1.1, 0.0),
        (1e-45, 0, 1),
    ],
    ids=["ancestor", "no leak", "negative", "negative threshold", "zero threshold", "subnormal"],
)
def test_unusual_coefficients(target, coefficients):
    decay, reset_decay, threshold = coefficients
    arguments = inputs((20, 2, 33), device=target.device, state=True)
    hold_forward(target, {**arguments, "decay": decay, "reset_decay": reset_decay, "threshold": threshold})


@pytest.mark.parametrize("scale", [1e-42, 1e30], ids=["subnormal", "huge"])
def test_extreme_scales(target, scale):
    """The layer is scale-free: currents and threshold together, down into subnormal numbers and up to 1e30."""
    arguments = inputs((8, 2, 33), device=target.device)
    hold_forward(
        target, {**arguments, "current": arguments["current"] * scale, "threshold": representable_scale(scale)}
    )


def representable_scale(scale: float) -> float:
    return torch.tensor(scale, dtype=torch.float32).item()


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_id)
@pytest.mark.parametrize("readout", ["spikes", "count"])
@pytest.mark.parametrize("steps", [None, 6], ids=["train", "constant"])
def test_smooth(target, dtype, readout, steps):
    shape = (2, 3, 5) if steps else (6, 2, 3, 5)
    arguments = inputs(shape, dtype=dtype, device=target.device, kind="mixed", state=True, steps=steps)
    hold_smooth(target, arguments, smooth=True, readout=readout)


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.integers(0, 6), batch=st.integers(0, 4), features=st.lists(st.integers(0, 5), max_size=3),
    kind=st.sampled_from(KINDS), dtype=st.sampled_from(DTYPES), state=st.booleans(), seed=st.integers(0, 1000),
)  # fmt: skip
def test_any_shape(target, steps, batch, features, kind, dtype, state, seed):
    shape = (steps, batch, *features)
    hold_forward(target, inputs(shape, dtype=dtype, device=target.device, kind=kind, state=state, seed=seed))


def test_the_state_is_given_and_taken_by_value(target):
    """No input is written to."""
    arguments = inputs((5, 2, 3, 5), device=target.device, kind="mixed", state=True)
    given = list(tensors(arguments).values())
    before = [t.clone() for t in given]
    _, state = run(arguments, target.backend)
    run({**arguments, "state": LIFState(*state)}, target.backend, readout="count")
    for got, expected in zip(given, before, strict=True):
        assert torch.equal(got, expected)
