"""The kernels of defined neurons against the reference, which runs the definition itself."""

import pytest
import torch

from hnn_kernels import SURROGATES, _extensions
from support.comparisons import as_good_as_the_loop, close, equal_bits
from support.defined import (
    NEURONS,
    adaptive,
    built_in,
    gradients,
    hold,
    in_double,
    inputs,
    leaves,
    lif,
    replaced,
    results,
    same,
    strange,
)
from support.layers import DTYPES
from support.layouts import LAYOUTS, SHAPE


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        *((name, dtype) for name in NEURONS if name != "strange" for dtype in DTYPES),
        ("strange", torch.float32), ("strange", torch.float64),
    ],
)  # fmt: skip
def test_every_dtype(neuron_target, name, dtype):
    hold(neuron_target, name, inputs(name, (9, 3, 5, 11), dtype=dtype, kind="channel", state=True))


@pytest.mark.parametrize("kind", ["float", "layer", "channel", "neuron"])
@pytest.mark.parametrize("name", ["lif", "adaptive", "strange"])
def test_every_form_of_a_coefficient(neuron_target, name, kind):
    hold(neuron_target, name, inputs(name, (6, 2, 9, 17), kind=kind))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout(neuron_target, layout):
    arguments = inputs("adaptive", SHAPE, kind="neuron", state=True)
    values = arguments["x"]
    expected = results(adaptive, {**arguments, "x": LAYOUTS[layout](values)}, "reference")
    arguments["x"] = LAYOUTS[layout](values)
    got = results(adaptive, arguments, neuron_target)
    same(neuron_target, "adaptive", got, expected)
    grads, loop = (gradients(adaptive, arguments, backend) for backend in (neuron_target, "reference"))
    for what, value in grads.items():
        close(value, loop[what], what)


@pytest.mark.parametrize("shape", [(1, 1), (5, 1), (3, 127), (3, 128), (3, 129), (70, 2, 131), (0, 2, 3), (4, 0, 3)])
@pytest.mark.parametrize("name", ["adaptive", "delay"])
def test_odd_sizes(neuron_target, name, shape):
    hold(neuron_target, name, inputs(name, shape))


@pytest.mark.parametrize("name", ["adaptive", "strange"])
def test_a_constant_input(neuron_target, name):
    hold(neuron_target, name, inputs(name, (2, 5, 33), steps=40, state=True, kind="neuron"))


@pytest.mark.parametrize(
    ("reset", "dtype"),
    [
        *(("filter", dtype) for dtype in DTYPES),
        *((reset, torch.float32) for reset in ("subtract", "zero", "none")),
    ],
)
def test_the_built_in_layer_by_definition(neuron_target, reset, dtype):
    """Its spikes are equal, and its gradients are as good."""
    layer = lif(reset)
    arguments = inputs("lif", (30, 3, 7, 23), dtype=dtype, kind="neuron", state=True)
    if reset != "filter":
        del arguments["reset_decay"]
        arguments["state"] = arguments["state"][:1]
    got, (out, state) = results(layer, arguments, neuron_target), built_in(arguments, reset)
    equal_bits(got["output 0"], out, "spikes")
    for name in layer.states:
        equal_bits(got[name], getattr(state, name), name)

    def of_built_in(arguments):
        new = {name: value.detach().requires_grad_() for name, value in leaves(layer, arguments).items()}
        out, state = built_in(replaced(layer, arguments, new), reset)
        generator = torch.Generator().manual_seed(1)
        live = [out, *(getattr(state, name) for name in layer.states)]
        incoming = [torch.randn(v.shape, generator=generator, dtype=torch.float64).to(v.dtype) for v in live]
        return dict(zip(new, torch.autograd.grad(live, list(new.values()), incoming), strict=True))

    truth = gradients(layer, in_double(arguments), "reference")
    as_good_as_the_loop(gradients(layer, arguments, neuron_target), of_built_in(arguments), truth)


@pytest.mark.parametrize(("surrogate", "reset"), [*((name, "filter") for name in SURROGATES), ("gaussian", "zero")])
def test_smooth_mode_is_a_function_and_its_derivative(neuron_target, surrogate, reset):
    layer = lif(reset, surrogate, 0.7)
    arguments = inputs("lif", (4, 2, 3), dtype=torch.float64, kind="neuron", state=True)
    if reset == "zero":
        del arguments["reset_decay"]
        arguments["state"] = arguments["state"][:1]
    new = leaves(layer, arguments)

    def call(*values):
        given = replaced(layer, arguments, dict(zip(new, values, strict=True)))
        return tuple(results(layer, given, neuron_target, smooth=True).values())

    assert torch.autograd.gradcheck(call, tuple(v.requires_grad_() for v in new.values()))
    got, expected = (results(layer, arguments, backend, smooth=True) for backend in (neuron_target, "reference"))
    for name, value in got.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-14, atol=1e-14)


def test_smooth_mode_of_many_operations(neuron_target):
    arguments = inputs("strange", (5, 2, 3), dtype=torch.float64, kind="neuron", state=True)
    new = leaves(strange, arguments)

    def call(*values):
        given = replaced(strange, arguments, dict(zip(new, values, strict=True)))
        return tuple(results(strange, given, neuron_target, smooth=True).values())

    loop = gradients(strange, arguments, "reference", smooth=True)
    for name, value in gradients(strange, arguments, neuron_target, smooth=True).items():
        torch.testing.assert_close(value, loop[name], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["adaptive", "delay"])
def test_parts_of_the_time_are_the_whole(neuron_target, name):
    layer, _ = NEURONS[name]
    arguments = inputs(name, (11, 2, 3, 5))
    first = results(layer, {**arguments, "x": arguments["x"][:4]}, neuron_target)
    state = tuple(first[one] for one in layer.states)
    second = results(layer, {**arguments, "x": arguments["x"][4:], "state": state}, neuron_target)
    trains = {one: torch.cat([first[one], second[one]]) for one in first if one.startswith("output")}
    same(neuron_target, name, {**second, **trains}, results(layer, arguments, neuron_target))


@pytest.mark.parametrize("every", [1, 3, 16, 100])
def test_checkpoints_change_nothing(neuron_target, every):
    # The interpreter takes its time for each block of neurons.
    shape = (50, 1, 50) if neuron_target.interpreted else (50, 2, 3, 50)
    arguments = inputs("adaptive", shape, kind="neuron", state=True)
    expected = gradients(adaptive, arguments, neuron_target)
    for what, value in gradients(adaptive, arguments, neuron_target, checkpoint_every=every).items():
        equal_bits(value, expected[what], what)


def test_trains_of_several_segments(neuron_target):
    """A segment holds the rows of some hundred steps on the CPU, and 16 steps on a GPU."""
    steps, every = (100, 47) if neuron_target.interpreted else (700, 333)
    hold(neuron_target, "adaptive", inputs("adaptive", (steps, 1, 3), kind="neuron", state=True))
    expected = gradients(adaptive, arguments := inputs("adaptive", (steps, 1, 3)), neuron_target)
    for what, value in gradients(adaptive, arguments, neuron_target, checkpoint_every=every).items():
        equal_bits(value, expected[what], what)


@pytest.mark.parametrize("through", ["output 0", "output 1", "v", "a"])
def test_a_gradient_through_each_result(neuron_target, through):
    arguments = inputs("adaptive", kind="neuron", state=True)
    got, loop = (
        gradients(adaptive, arguments, backend, through=(through,)) for backend in (neuron_target, "reference")
    )
    as_good_as_the_loop(got, loop, gradients(adaptive, in_double(arguments), "reference", through=(through,)))


def test_equal_calls_have_equal_bits_on_any_number_of_threads(neuron_target):
    interpreted = neuron_target.interpreted  # and slow: it has no threads of its own
    arguments = inputs("adaptive", (20, 2 if interpreted else 64, 8, 33), kind="channel")
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(gradients(adaptive, arguments, neuron_target))
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        for name, value in other.items():
            equal_bits(value, found[0][name], name)


def test_no_state_is_returned_where_none_is_wanted(neuron_target):
    arguments = inputs("adaptive")
    got = results(adaptive, arguments, neuron_target, return_state=False)
    assert got.keys() == {"output 0", "output 1"}
    expected = results(adaptive, arguments, neuron_target)
    for name, value in got.items():
        equal_bits(value, expected[name], name)
    found = (
        gradients(adaptive, arguments, target, through=("output 1",), return_state=False)
        for target in (neuron_target, "reference")
    )
    close(*(each["x"] for each in found), "x")


@pytest.mark.skipif(_extensions.cpu is None, reason=f"the C++ kernels are not there: {_extensions.cpu_error}")
def test_every_instruction_set_has_the_same_results():
    names = _extensions.cpu.instruction_sets()
    usual = _extensions.cpu.build_info()["instruction_set"]
    found = {}
    try:
        for name in names:
            _extensions.cpu.use_instruction_set(name)
            for dtype in (torch.float32, torch.float64):
                for each in ("adaptive", "strange"):
                    arguments = inputs(each, (8, 2, 5, 31), kind="neuron", dtype=dtype, state=True)
                    found.setdefault((each, dtype), []).append(results(NEURONS[each][0], arguments, "cpu"))
    finally:
        _extensions.cpu.use_instruction_set(usual)
    for (each, _), all_of in found.items():
        for other in all_of[1:]:
            for what, value in other.items():
                equal_bits(value, all_of[0][what], f"{each}: {what}")
