"""The filters of every kernel backend (synapse, axon, and iir) against the reference."""

import pytest
import torch

from hnn_kernels import IIR, LIFState
from hnn_kernels._layer import FILTER_COEFFICIENTS, TENSORS
from support.comparisons import equal_bits, hold_derivative, hold_forward, hold_gradients, same_spikes
from support.layers import (
    DTYPES,
    KINDS,
    LOW,
    PARAMETERS,
    RESETS_AND_GRADS,
    RESULTS,
    cotangents,
    gradients,
    in_double,
    in_pieces,
    inputs,
    replace,
    reset_of,
    results,
    run,
    tensors,
)
from support.layouts import LAYOUTS, SHAPE
from support.targets import dtype_id

ORDERS = [(0, 0), (1, 0), (2, 0), (2, 1), (0, 2), (3, 2)]
PLACES = ("synapse", "axon", "both", "alone")


def layer(place: str, orders=(2, 1), shape=(9, 2, 3, 5), **options) -> dict:
    """Arguments of a layer with a filter at this place; with one at both, the axon's orders are the other way round."""
    filters = {
        "synapse": {"synapse": orders},
        "axon": {"axon": orders},
        "both": {"synapse": orders, "axon": orders[::-1]},
        "alone": {"synapse": orders, "membrane": False},
    }
    return inputs(shape, **{"state": True, **filters[place], **options})


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_id)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("orders", ORDERS, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_results(target, dtype, place, orders, kind):
    arguments = layer(place, orders, dtype=dtype, device=target.device, kind=kind)
    out, state = hold_forward(target, arguments)
    assert out.dtype == dtype
    assert out.shape == (9, 2, 3, 5)
    shapes = [None if h is None else tuple(h.shape) for h in (state.synapse, state.axon)]
    depth = (sum(orders), 2, 3, 5)
    assert shapes == [None if place == "axon" else depth, depth if place in ("axon", "both") else None]
    if place != "alone":
        spikes, _ = run({**arguments, "axon": None, "state": None}, "reference")
        assert 0.1 < spikes.float().mean() < 0.7


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_id)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("orders", ORDERS, ids=str)
def test_gradients(target, dtype, place, orders):
    arguments = layer(place, orders, dtype=dtype, device=target.device, kind="neuron")
    found = hold_gradients(target, arguments)
    assert found.keys() == tensors(arguments).keys()
    assert all(g.abs().max() > 0 for g in found.values() if g.numel()), "a gradient that is all zero proves nothing"


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("orders", [(1, 0), (2, 1), (0, 2), (5, 4)], ids=str)
@pytest.mark.parametrize("kind", ["float", "scalar", "channel", "mixed"])
def test_gradients_of_every_kind_of_coefficient(target, place, orders, kind):
    arguments = layer(place, orders, device=target.device, kind=kind)
    hold_gradients(target, arguments)


@pytest.mark.parametrize("place", ["synapse", "axon", "both"])
@pytest.mark.parametrize(("reset", "reset_grad"), RESETS_AND_GRADS)
def test_beside_every_reset(target, place, reset, reset_grad):
    arguments = layer(place, device=target.device, kind="mixed", reset=reset)
    hold_forward(target, arguments)
    hold_gradients(target, arguments, reset_grad=reset_grad)


@pytest.mark.parametrize(
    ("place", "form"),
    # A count has no axon.
    [("synapse", "count"), ("synapse", "constant count"), *((place, "constant") for place in PLACES[:3])],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=dtype_id)
@pytest.mark.parametrize("state", [False, True], ids=["zero", "state"])
def test_every_form_of_call(target, place, dtype, state, form):
    steps = 9 if "constant" in form else None
    shape = (2, 3, 5) if steps else (9, 2, 3, 5)
    arguments = layer(place, dtype=dtype, device=target.device, kind="mixed", shape=shape, steps=steps, state=state)
    options = {"readout": "count" if "count" in form else "spikes"}
    hold_forward(target, arguments, **options)
    hold_gradients(target, arguments, **options)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("orders", [(1, 0), (2, 1), (0, 2), (3, 2)], ids=str)
@pytest.mark.parametrize("kind", ["scalar", "neuron"])
def test_smooth_mode_is_a_function_with_its_derivative(target, place, orders, kind):
    """Every differentiable input at once, the coefficients and the filters' states among them, in float64."""
    arguments = layer(place, orders, (4, 1, 2), dtype=torch.float64, device=target.device, kind=kind)
    options = {} if place == "alone" else {"smooth": True}
    hold_derivative(target.backend, arguments, fast=target.interpreted, **options)


@pytest.mark.parametrize("through", [name for name in RESULTS if name != "potential"])
def test_gradients_coming_in_through_one_result(target, through):
    arguments = layer("both", device=target.device, kind="neuron")
    found = hold_gradients(target, arguments, through=(through,))
    assert found["current"].any() or through == "r"


@pytest.mark.parametrize("wanted", TENSORS)
@pytest.mark.parametrize("kind", ["channel", "neuron"])
def test_one_gradient_alone_is_the_one_among_all(target, wanted, kind):
    arguments = layer("both", device=target.device, kind=kind, reset=reset_of(wanted))
    together = gradients(arguments, target.backend)
    equal_bits(gradients(arguments, target.backend, wanted=[wanted])[wanted], together[wanted], wanted)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("dtype", LOW, ids=dtype_id)
def test_coefficients_in_the_dtype_of_a_narrow_current(target, place, dtype):
    arguments = layer(place, dtype=dtype, device=target.device, kind="neuron")
    narrow = {name: value.to(dtype) for name, value in tensors(arguments).items() if name in PARAMETERS}
    found = hold_gradients(target, replace(arguments, **narrow))
    assert all(found[name].dtype == dtype for name in narrow)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("neurons", [1, 17, 64, 130])
def test_odd_numbers_of_neurons(target, place, neurons):
    for shape, kind in (((4, 1, neurons), "neuron"), ((4, neurons, 2), "float")):
        arguments = layer(place, shape=shape, device=target.device, kind=kind)
        hold_forward(target, arguments)
        hold_gradients(target, arguments)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("steps", [1, 2, 3, 65])
def test_odd_numbers_of_steps(target, place, steps):
    """Fewer steps than the filter remembers, and more than a kernel may stage at once."""
    arguments = layer(place, (3, 2), (steps, 2, 3), device=target.device, kind="neuron")
    hold_forward(target, arguments)
    hold_gradients(target, arguments)


EMPTY = {
    "T=0": ((0, 2, 3), None), "B=0": ((5, 0, 3), None), "no features": ((5, 2, 0), None),
    "T=0 constant": ((2, 3), 0), "B=0 constant": ((0, 3), 5),
}  # fmt: skip


@pytest.mark.parametrize(
    ("place", "empty"),
    # iir has no constant input.
    [(place, empty) for place in PLACES for empty in EMPTY if place != "alone" or "constant" not in empty],
)
@pytest.mark.parametrize("checkpoint_every", [None, 2])
def test_empty(target, place, empty, checkpoint_every):
    shape, steps = EMPTY[empty]
    options = {} if place == "alone" else {"checkpoint_every": checkpoint_every}
    arguments = layer(place, shape=shape, steps=steps, device=target.device, kind="neuron")
    got, expected = (results(*run(arguments, backend, **options)) for backend in (target.backend, "reference"))
    assert got.keys() == expected.keys()
    for name in got:
        equal_bits(got[name], expected[name], name)
    found, wanted = (gradients(arguments, backend, **options) for backend in (target.backend, "reference"))
    for name in found:
        equal_bits(found[name], wanted[name], name)


def hold_pieces(backend, arguments, cuts, tolerance, **options):
    """Two calls over [0, t) and [t, T) are one over [0, T): the same bits forward, the same sums backward."""
    leaves = {name: value.requires_grad_() for name, value in tensors(arguments).items()}
    arguments = replace(arguments, **leaves)
    found = []
    for pieces in ((), cuts):
        trains, state = in_pieces(arguments, backend, pieces, **options)
        found.append(results(torch.cat(trains), state))
    whole, joined = found
    for name in whole:
        equal_bits(joined[name], whole[name], name)
    incoming = list(cotangents(whole).values())
    expected, got = (torch.autograd.grad(list(f.values()), list(leaves.values()), incoming) for f in found)
    for name, one, other in zip(leaves, got, expected, strict=True):
        # Gradients that cross from piece to piece are added in another order.
        rounding = tolerance * torch.finfo(one.dtype).eps * other.abs().max().item()
        torch.testing.assert_close(one, other, rtol=0, atol=rounding, msg=f"gradient of {name}")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("cuts", [(4,), (1, 2, 2, 8)], ids=str)
@pytest.mark.parametrize("checkpoint_every", [None, 2])
def test_in_pieces(any_target, place, cuts, checkpoint_every):
    options = {} if place == "alone" else {"checkpoint_every": checkpoint_every}
    hold_pieces(any_target.backend, layer(place, (3, 2), device=any_target.device, kind="neuron"), cuts, 16, **options)


@pytest.mark.parametrize("place", ["both", "alone"])
@pytest.mark.parametrize("checkpoint_every", [None, 1500])
def test_longer_than_the_segments_of_backward(target, place, checkpoint_every):
    """Backward recomputes the potentials segment by segment. These sequences are longer than one segment."""
    steps, piece = (40, 8) if target.interpreted else (5000, 30)
    arguments = layer(place, (1, 1), (steps, 1, 3), dtype=torch.float64, device=target.device, kind="neuron")
    options = {} if place == "alone" else {"checkpoint_every": checkpoint_every}
    hold_pieces(target.backend, arguments, range(piece, steps, piece), 1e5, **options)


def test_a_constant_current_is_the_repeated_one(target):
    arguments = layer("both", shape=(2, 3, 5), steps=9, device=target.device, kind="mixed")
    repeated = {**arguments, "current": arguments["current"].expand(9, 2, 3, 5), "steps": None}
    equal_bits(run(arguments, target.backend)[0], run(repeated, target.backend)[0], "out")
    got, expected = gradients(arguments, target.backend), gradients(repeated, target.backend)
    expected["current"] = expected["current"].sum(0)
    for name in got:
        tolerance = 16 * torch.finfo(got[name].dtype).eps * expected[name].abs().max().item()
        torch.testing.assert_close(got[name], expected[name], rtol=0, atol=tolerance, msg=name)


@pytest.mark.parametrize("checkpoint_every", [1, 7, 1000])
@pytest.mark.parametrize("steps", [1, 7, 23, 110])
@pytest.mark.parametrize("form", ["plain", "both", "constant", "count", "subtract"])
def test_checkpoints_change_no_bit(target, checkpoint_every, steps, form):
    """The windows are one step long, divide T or not, and are longer than T or than a kernel's segments."""
    if target.interpreted and steps == 110:
        steps = 40
    constant = steps if form == "constant" else None
    arguments = inputs(
        (2, 40) if constant else (steps, 2, 40), device=target.device, kind="neuron", state=True, steps=constant,
        synapse=None if form == "plain" else (2, 1), axon=None if form in ("plain", "count") else (1, 2),
        reset="subtract" if form == "subtract" else "filter",
    )  # fmt: skip
    readout = {"readout": "count" if form == "count" else "spikes"}
    expected = results(*run(arguments, target.backend, **readout))
    expected_gradients = gradients(arguments, target.backend, **readout)
    options = {**readout, "checkpoint_every": checkpoint_every}
    leaves = {name: value.detach().requires_grad_() for name, value in tensors(arguments).items()}
    for name, got in results(*run(replace(arguments, **leaves), target.backend, **options)).items():
        equal_bits(got.detach(), expected[name], name)
    for name, got in gradients(arguments, target.backend, **options).items():
        equal_bits(got, expected_gradients[name], f"gradient of {name}")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("checkpoint_every", [None, 3])
def test_checkpoints_and_filters_of_any_layout(target, layout, checkpoint_every):
    """The neurons are numbered in the memory order of the current, and so in the histories and the checkpoints."""
    arguments = layer("both", shape=SHAPE, device=target.device, kind="mixed")
    current = LAYOUTS[layout](arguments["current"])
    options = {"checkpoint_every": checkpoint_every}
    contiguous = {**arguments, "current": current.contiguous()}
    strided = {**arguments, "current": current}
    # The histories have a layout of their own.
    strided["state"] = LIFState(*(history.mT.contiguous().mT for history in arguments["state"]))
    out, state = run(strided, target.backend, **options)
    same_spikes(target, out, contiguous)
    expected = results(*run(contiguous, target.backend, **options))
    for name, got in results(out, state).items():
        equal_bits(got, expected[name], name)
    got, wanted = (gradients(a, target.backend, **options) for a in (strided, contiguous))
    for name in got:
        # A sum over neurons may take them in the order of their memory.
        rounding = 16 * torch.finfo(got[name].dtype).eps * wanted[name].abs().max().item()
        torch.testing.assert_close(
            got[name], wanted[name], rtol=0, atol=rounding if name in PARAMETERS else 0, msg=f"gradient of {name}"
        )


@pytest.mark.parametrize("place", PLACES)
def test_coefficients_of_any_strides(target, place):
    arguments = layer(place, device=target.device)
    values = 0.4 * torch.rand(4, 10, 6, device=target.device)
    # Three axes in another order, a gap in each, and one coefficient for all neurons with an axis per neuron.
    views = (
        values[::2, 1:6, 2:5].mT,
        values[:2, 2:3, 1:6].expand(2, 3, 5),
        values[1:3, 0, 0, None, None].expand(2, 3, 5),
    )
    names = [
        f"{name}_{part}" for name in ("synapse", "axon") if name in arguments for part in ("feedback", "feedforward")
    ]
    for view in views:
        strided = {
            **arguments,
            **{name: IIR(view, view) for name in ("synapse", "axon") if name in arguments},
            "state": None,
        }
        hold_forward(target, strided)
        contiguous = replace(strided, **dict.fromkeys(names, view.contiguous()))
        got, expected = (gradients(a, target.backend) for a in (strided, contiguous))
        for name in got:
            equal_bits(got[name], expected[name], name)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("value", [torch.nan, torch.inf], ids=str)
def test_what_is_not_finite_stays_in_its_neuron(target, place, value):
    arguments = layer(place, shape=(6, 2, 40), device=target.device, kind="neuron")
    arguments["current"][2, 1, 7] = value
    arguments["current"][0, 0, 39] = value
    hold_forward(target, arguments)
    got, expected = gradients(arguments, target.backend), gradients(arguments, "reference")
    for name in got:
        torch.testing.assert_close(got[name], expected[name], equal_nan=True, rtol=1e-4, atol=1e-4, msg=name)


def test_the_comparison_sees_a_wrong_coefficient(target):
    """The comparisons above fail if one of a filter's coefficients changes by a thousandth."""
    arguments = layer("both", (2, 2), dtype=torch.float64, device=target.device, kind="neuron")
    out, _ = run(arguments, target.backend)
    truth = gradients(arguments, target.backend)
    for name in FILTER_COEFFICIENTS:
        for i in range(tensors(arguments)[name].shape[0]):
            changed = in_double(arguments)
            tensors(changed)[name][i] *= 1.001
            different = gradients(changed, target.backend)
            assert not torch.equal(run(changed, target.backend)[0], out) or any(
                not torch.equal(different[n], truth[n]) for n in truth
            ), f"{name}[{i}]"


@pytest.mark.parametrize(("synapse", "axon"), [((1, 0), (0, 1)), ((0, 0), (2, 0)), ((0, 2), (1, 1))], ids=str)
def test_an_order_that_a_filter_lacks_changes_nothing(target, synapse, axon):
    """Not even where values are infinite, which a coefficient of 0 would make NaN."""
    arguments = inputs((9, 2, 3, 5), device=target.device, kind="neuron", state=True, synapse=synapse, axon=axon)
    arguments["current"][2, 0, 0] = torch.inf
    arguments["current"][4, 1, 1] = -torch.inf
    arguments["state"].axon[:, 1, 2] = torch.inf
    got, expected = (results(*run(arguments, name)) for name in (target.backend, "reference"))
    for name in got:
        equal_bits(got[name], expected[name], name)
