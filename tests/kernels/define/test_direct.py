"""The direct way of a call of a defined neuron: the bits of the plain way, and the operator where something looks."""

import functools

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import hnn_kernels
from hnn_kernels import _direct, _dispatch, _extensions
from hnn_kernels._define import operator
from support.defined import NEURONS, adaptive, inputs, leaves
from support.direct import both_ways, compare, counted, equal
from support.layers import DTYPES
from support.targets import NEEDS_CPU

pytestmark = [
    NEEDS_CPU,
    pytest.mark.skipif(_direct._describe is None, reason="there is no direct way without the C++ kernels"),
]


@pytest.fixture(autouse=True)
def calls(monkeypatch):
    """The names of the operators, and of the functions behind them, that are called. The direct way calls none."""
    found, names = [], ("forward", "backward")
    runs = [counted(found, name, run) for name, run in zip(names, operator._runs["cpu"], strict=True)]
    monkeypatch.setitem(operator._runs, "cpu", tuple(runs))
    for name, operators in zip(names, (operator.forward_ops, operator.backward_ops), strict=True):
        monkeypatch.setitem(operators, "cpu", counted(found, name, operators["cpu"]))
    return found


FORMS = {
    "floats": {"kind": "float"},
    "a layer": {"kind": "layer"},
    "neurons and a state": {"kind": "neuron", "state": True},
    "constant": {"shape": (2, 3, 5), "steps": 4, "state": True},
    "no step": {"shape": (0, 2, 3, 5), "state": True},
    "no neuron": {"shape": (3, 0, 3, 5)},
}


@pytest.mark.parametrize("learn", [True, False])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["lif", "adaptive"])
def test_the_bits_are_those_of_the_plain_way(name, form, learn, calls, monkeypatch):
    layer, _ = NEURONS[name]
    arguments = inputs(name, **FORMS[form])
    compare(arguments, calls, monkeypatch, layer, learn, of=functools.partial(leaves, layer))


@pytest.mark.parametrize("return_state", [True, False])
def test_several_trains_are_a_tuple_whichever_way_a_call_takes(return_state):
    layer, arguments = adaptive, inputs("adaptive")
    for _ in range(5):
        trains, after = layer(**arguments, return_state=return_state)
        assert type(trains) is tuple
        assert len(trains) == 2
        assert type(after) is (tuple if return_state else type(None))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("return_state", [True, False])
def test_dtypes_and_states(dtype, return_state, calls, monkeypatch):
    arguments = inputs("lif", dtype=dtype, kind="channel", state=True)
    layer = functools.partial(NEURONS["lif"][0], return_state=return_state)
    compare(arguments, calls, monkeypatch, layer, of=functools.partial(leaves, NEURONS["lif"][0]))


def test_a_gradient_may_come_through_a_part_of_the_results(calls):
    arguments = inputs("adaptive", state=True)
    x = arguments["x"].requires_grad_()
    found = []
    for _ in range(4):
        calls.clear()
        outputs, state = adaptive(**arguments)
        parts = (*outputs, *state)
        found.append([torch.autograd.grad(p, x, torch.ones_like(p), retain_graph=True)[0] for p in parts])
    assert calls == []
    equal(found[-1], found[0])


def test_another_instruction_set_is_taken_at_the_next_call(calls):
    """A plan outlives the choice, and the kernels of each set have an address of their own."""
    arguments = inputs("adaptive", (8, 2, 5, 31))
    x = arguments["x"].requires_grad_()
    usual, found = _extensions.cpu.build_info()["instruction_set"], {}
    try:
        for name in (usual, *_extensions.cpu.instruction_sets(), usual):
            _extensions.cpu.use_instruction_set(name)
            for _ in range(4):
                calls.clear()
                results, gradients = both_ways(adaptive, arguments, [x])
            assert calls == []
            found[name] = [*results, *gradients]
    finally:
        _extensions.cpu.use_instruction_set(usual)
    for name, results in found.items():
        # Gradients are summed with FMA where the processor has it.
        count = len(results) - 1
        equal(results[:count], found[usual][:count])
        torch.testing.assert_close(results[count], found[usual][count], msg=name)


def test_what_looks_at_operators_sees_them(calls):
    arguments = inputs("adaptive")
    x = arguments["x"].requires_grad_()
    for _ in range(3):
        expected = both_ways(adaptive, arguments, [x])
    calls.clear()
    with FlopCounterMode(display=False):
        found = both_ways(adaptive, arguments, [x])
    assert {"forward", "backward"} <= set(calls)
    for one, other in zip(found, expected, strict=True):
        equal(one, other)


def test_checkpoints_and_wrong_arguments_take_the_plain_way(calls):
    arguments = inputs("adaptive")
    arguments["x"].requires_grad_()
    for _ in range(4):
        calls.clear()
        adaptive(**arguments, checkpoint_every=2)
        assert calls == ["forward"]
        with pytest.raises(ValueError, match="decay must be a finite number"):
            adaptive(**{**arguments, "decay": float("inf")})


def test_a_second_derivative_is_refused():
    arguments = inputs("adaptive")
    x = arguments["x"].requires_grad_()
    for _ in range(3):
        both_ways(adaptive, arguments, [x])
    (found,) = torch.autograd.grad(adaptive(**arguments)[0][1].sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match=r"hnn_kernels.neuron cannot be differentiated twice"):
        found.sum().backward()


def test_training_keeps_the_input_alone():
    """Beside coefficients and a state, both on the plain way of the first calls and on the direct one behind them."""
    arguments = inputs("adaptive", (7, 2, 3, 5))
    x = arguments["x"].requires_grad_()
    kept = []
    for _ in range(4):
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
            adaptive(**arguments)
        assert [t.data_ptr() for t in kept] == [x.data_ptr()]


def test_a_warning_has_the_line_of_the_call(monkeypatch):
    monkeypatch.setattr(_dispatch, "_warned", False)
    monkeypatch.setattr(_dispatch, "_without_kernels", lambda device: "a reason")
    monkeypatch.setattr(_dispatch, "choose", lambda device, backend: "reference")
    with pytest.warns(hnn_kernels.ReferenceWarning) as told:
        adaptive(**inputs("adaptive", (2, 1, 1, 3)))  # no plan is for this shape
    assert told[0].filename == __file__
