"""The kernels of defined neurons against the reference, which runs the definition itself."""

import pytest
import torch

from hnn_kernels import SURROGATES, _extensions
from support.comparisons import as_good_as_the_loop, close, equal_bits
from support.defined import (
    NEURONS,
    ROUNDED,
    adaptive,
    built_in,
    gradients,
    in_double,
    inputs,
    leaves,
    lif,
    replaced,
    results,
    strange,
)
from support.layers import DTYPES
from support.layouts import LAYOUTS, SHAPE
from support.targets import NEEDS_CPU

pytestmark = NEEDS_CPU


def same(name: str, got: dict, expected: dict) -> None:
    assert got.keys() == expected.keys()
    for what, value in got.items():
        (close if name in ROUNDED else equal_bits)(value, expected[what], f"{name}: {what}")


def hold(name: str, arguments: dict, **options) -> None:
    """Check results and gradients of the kernel against the reference."""
    layer, _ = NEURONS[name]
    same(name, results(layer, arguments, "cpu", **options), results(layer, arguments, "reference", **options))
    got, loop = (gradients(layer, arguments, backend, **options) for backend in ("cpu", "reference"))
    if name in ROUNDED:
        # A step there may fall on the other side in float64, so the loop is the truth.
        for what, value in got.items():
            torch.testing.assert_close(value, loop[what], rtol=2e-2, atol=2e-2 if value.dtype.itemsize == 2 else 1e-4)
    else:
        as_good_as_the_loop(got, loop, gradients(layer, in_double(arguments), "reference", **options))


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        *((name, dtype) for name in NEURONS if name != "strange" for dtype in DTYPES),
        ("strange", torch.float32), ("strange", torch.float64),
    ],
)  # fmt: skip
def test_every_dtype(name, dtype):
    hold(name, inputs(name, (9, 3, 5, 11), dtype=dtype, kind="channel", state=True))


@pytest.mark.parametrize("kind", ["float", "layer", "channel", "neuron"])
@pytest.mark.parametrize("name", ["lif", "adaptive", "strange"])
def test_every_form_of_a_coefficient(name, kind):
    hold(name, inputs(name, (6, 2, 9, 17), kind=kind))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout(layout):
    arguments = inputs("adaptive", SHAPE, kind="neuron", state=True)
    values = arguments["x"]
    expected = results(adaptive, {**arguments, "x": LAYOUTS[layout](values)}, "reference")
    arguments["x"] = LAYOUTS[layout](values)
    got = results(adaptive, arguments, "cpu")
    same("adaptive", got, expected)
    grads, loop = (gradients(adaptive, arguments, backend) for backend in ("cpu", "reference"))
    for what, value in grads.items():
        close(value, loop[what], what)


@pytest.mark.parametrize("shape", [(1, 1), (5, 1), (3, 127), (3, 128), (3, 129), (70, 2, 131), (0, 2, 3), (4, 0, 3)])
@pytest.mark.parametrize("name", ["adaptive", "delay"])
def test_odd_sizes(name, shape):
    hold(name, inputs(name, shape))


@pytest.mark.parametrize("name", ["adaptive", "strange"])
def test_a_constant_input(name):
    hold(name, inputs(name, (2, 5, 33), steps=40, state=True, kind="neuron"))


@pytest.mark.parametrize(
    ("reset", "dtype"),
    [
        *(("filter", dtype) for dtype in DTYPES),
        *((reset, torch.float32) for reset in ("subtract", "zero", "none")),
    ],
)
def test_the_built_in_layer_by_definition(reset, dtype):
    """Its spikes are equal, and its gradients are as good."""
    layer = lif(reset)
    arguments = inputs("lif", (30, 3, 7, 23), dtype=dtype, kind="neuron", state=True)
    if reset != "filter":
        del arguments["reset_decay"]
        arguments["state"] = arguments["state"][:1]
    got, (out, state) = results(layer, arguments, "cpu"), built_in(arguments, reset)
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
    as_good_as_the_loop(gradients(layer, arguments, "cpu"), of_built_in(arguments), truth)


@pytest.mark.parametrize(("surrogate", "reset"), [*((name, "filter") for name in SURROGATES), ("gaussian", "zero")])
def test_smooth_mode_is_a_function_and_its_derivative(surrogate, reset):
    layer = lif(reset, surrogate, 0.7)
    arguments = inputs("lif", (4, 2, 3), dtype=torch.float64, kind="neuron", state=True)
    if reset == "zero":
        del arguments["reset_decay"]
        arguments["state"] = arguments["state"][:1]
    new = leaves(layer, arguments)

    def call(*values):
        given = replaced(layer, arguments, dict(zip(new, values, strict=True)))
        return tuple(results(layer, given, "cpu", smooth=True).values())

    assert torch.autograd.gradcheck(call, tuple(v.requires_grad_() for v in new.values()))
    got, expected = (results(layer, arguments, backend, smooth=True) for backend in ("cpu", "reference"))
    for name, value in got.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-14, atol=1e-14)


def test_smooth_mode_of_many_operations():
    arguments = inputs("strange", (5, 2, 3), dtype=torch.float64, kind="neuron", state=True)
    new = leaves(strange, arguments)

    def call(*values):
        given = replaced(strange, arguments, dict(zip(new, values, strict=True)))
        return tuple(results(strange, given, "cpu", smooth=True).values())

    loop = gradients(strange, arguments, "reference", smooth=True)
    for name, value in gradients(strange, arguments, "cpu", smooth=True).items():
        torch.testing.assert_close(value, loop[name], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["adaptive", "delay"])
def test_parts_of_the_time_are_the_whole(name):
    layer, _ = NEURONS[name]
    arguments = inputs(name, (11, 2, 3, 5))
    whole = results(layer, arguments, "cpu")
    first, state = layer(**{**arguments, "x": arguments["x"][:4]})
    second, state = layer(**{**arguments, "x": arguments["x"][4:], "state": state})
    both = [
        torch.cat(pair) for pair in zip(*(o if isinstance(o, tuple) else (o,) for o in (first, second)), strict=True)
    ]
    same(
        name,
        {**{f"output {i}": value for i, value in enumerate(both)}, **dict(zip(layer.states, state, strict=True))},
        whole,
    )


@pytest.mark.parametrize("every", [1, 3, 16, 100])
def test_checkpoints_change_nothing(every):
    arguments = inputs("adaptive", (50, 2, 3, 50), kind="neuron", state=True)
    expected = gradients(adaptive, arguments, "cpu")
    for what, value in gradients(adaptive, arguments, "cpu", checkpoint_every=every).items():
        equal_bits(value, expected[what], what)


def test_trains_of_several_segments():
    """A segment holds the rows of some hundred steps."""
    hold("adaptive", inputs("adaptive", (700, 1, 3), kind="neuron", state=True))
    expected = gradients(adaptive, arguments := inputs("adaptive", (700, 1, 3)), "cpu")
    for what, value in gradients(adaptive, arguments, "cpu", checkpoint_every=333).items():
        equal_bits(value, expected[what], what)


@pytest.mark.parametrize("through", ["output 0", "output 1", "v", "a"])
def test_a_gradient_through_each_result(through):
    arguments = inputs("adaptive", kind="neuron", state=True)
    got, loop = (gradients(adaptive, arguments, backend, through=(through,)) for backend in ("cpu", "reference"))
    as_good_as_the_loop(got, loop, gradients(adaptive, in_double(arguments), "reference", through=(through,)))


def test_equal_calls_have_equal_bits_on_any_number_of_threads():
    arguments = inputs("adaptive", (20, 64, 8, 33), kind="channel")
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(gradients(adaptive, arguments, "cpu"))
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        for name, value in other.items():
            equal_bits(value, found[0][name], name)


def test_no_state_is_returned_where_none_is_wanted():
    arguments = inputs("adaptive")
    (spikes, _), state = adaptive(**arguments, return_state=False, backend="cpu")
    assert state is None
    equal_bits(spikes, adaptive(**arguments)[0][0], "spikes")
    arguments["x"].requires_grad_()
    grads = [
        torch.autograd.grad(adaptive(**arguments, return_state=False, backend=b)[0][1].sum(), arguments["x"])[0]
        for b in ("cpu", "reference")
    ]
    close(*grads, "x")


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
