"""Triton's code of neurons by definition on the emulated device, against the reference."""

import pytest
import torch

from hnn_kernels import neurons
from support.comparisons import same_numbers
from support.defined import (
    hold,
    hold_gradients_of_the_field,
    hold_results_of_the_field,
    inputs,
)
from support.layers import DTYPES
from support.recurrent import FEATURES, current, layer, loop, tensors
from support.recurrent import gradients as recurrent_gradients
from support.targets import dtype_id, turn_of_another

CASES = [
    *(("lif", dtype) for dtype in DTYPES), *(("adaptive", dtype) for dtype in DTYPES), ("strange", torch.float32),
    ("strange", torch.float64), ("delay", torch.float32),
]  # fmt: skip


@pytest.fixture(autouse=True)
def taken_in_turns(request, neuron_target):
    """Each case takes seconds to compile, so it is compiled for one architecture."""
    number = request.node.callspec.indices.get("name", 0) + request.node.callspec.indices.get("case", 0)
    if turn_of_another(number):
        pytest.skip("compiled for another architecture")


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{dtype_id(case[1])}")
def test_every_dtype(neuron_target, case):
    """13 steps, of which one segment holds no more than 8 where much is kept."""
    name, dtype = case
    hold(neuron_target, name, inputs(name, (13, 3, 5, 7), dtype=dtype, kind="channel", state=True))


@pytest.mark.parametrize("name", neurons.__all__)
def test_the_field(neuron_target, name):
    hold_results_of_the_field(neuron_target, name, (40, 3, 20))
    hold_gradients_of_the_field(neuron_target, name)


@pytest.mark.parametrize("case", [{}, {"checkpoint_every": 32}], ids=str)
def test_many_steps(neuron_target, case):
    hold(neuron_target, "adaptive", inputs("adaptive", (101, 1, 37), kind="float"), **case)


@pytest.mark.parametrize("case", ["adaptive", "delay"])
def test_a_constant_input(neuron_target, case):
    hold(neuron_target, case, inputs(case, (2, 5, 7), steps=20, state=True, kind="neuron"))


@pytest.mark.parametrize("case", [("filter", "vector"), ("axon", "number"), ("two outputs", "vector")], ids=str)
def test_a_recurrence_of_each_neuron_with_itself(neuron_target, case):
    """The recurrence is in the one kernel over all steps."""
    neuron, weight = case
    x = current((13, 3, FEATURES)).to(neuron_target.device)
    made, plain = (
        layer(neuron, weight, name).to(neuron_target.device) for name in (neuron_target.backend, "reference")
    )
    for got, expected in zip(tensors(made(x, return_state=True)), tensors(loop(plain, x)), strict=True):
        same_numbers(neuron_target, got.cpu(), expected.cpu(), str(case))
    expected = recurrent_gradients(plain, x, loop)
    for name, got in recurrent_gradients(made, x, return_state=True).items():
        torch.testing.assert_close(got.cpu(), expected[name].cpu(), rtol=1e-4, atol=1e-4, msg=name)
