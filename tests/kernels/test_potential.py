"""The membrane potential as a result: its train and its read-outs, their gradients, and what a call then writes."""

import math

import pytest
import torch

import hnn_kernels
from hnn_kernels import IIR
from hnn_kernels._layer import POTENTIALS, READOUTS, RESETS, Layer
from hnn_kernels._ops.layer import forward_ops
from hnn_kernels.nn import LIF
from support.comparisons import as_good_as_the_loop, equal_bits, hold_derivative, hold_forward, hold_gradients
from support.errors import refuses
from support.layers import DTYPES, gradients, in_double, inputs, results, run
from support.targets import dtype_id

READ = [name for name in POTENTIALS if name != "none"]
ONE_VALUE = [name for name in READ if name != "train"]
# Decay 1/2, threshold 1, no number of which is rounded: V[t] before its reset, as in test_resets_and_surrogates.py.
X = [1.5, 0.5, 1.0, 0.0, 2.0, 0.5]
TRAINS = {
    "subtract": [1.5, 0.75, 1.375, 0.1875, 2.09375, 1.046875],
    "zero": [1.5, 0.5, 1.25, 0.0, 2.0, 0.5],
    "none": [1.5, 1.25, 1.625, 0.8125, 2.40625, 1.703125],
}
OF_A_TRAIN = {"train": list, "last": lambda v: v[-1], "max": max, "mean": lambda v: sum(v) / len(v)}


@pytest.mark.parametrize("reset", TRAINS)
@pytest.mark.parametrize("potential", READ)
@pytest.mark.parametrize("dtype", DTYPES[:2], ids=dtype_id)
def test_example(any_target, reset, potential, dtype):
    current = torch.tensor(X, dtype=dtype, device=any_target.device)[:, None, None]
    for readout in READOUTS:
        out, _ = hnn_kernels.lif(
            current, 0.5, None, 1.0, reset=reset, readout=readout, potential=potential, backend=any_target.backend
        )
        v = out if readout == "none" else out[1]
        expected = torch.tensor(OF_A_TRAIN[potential](TRAINS[reset]), dtype=torch.float64).to(v)
        assert torch.equal(v.flatten(), expected.flatten())
        assert v.shape == ((6, 1, 1) if potential == "train" else (1, 1))
        assert v.dtype == dtype


@pytest.mark.parametrize("reset", ["filter", "zero"])
@pytest.mark.parametrize("potential", READ)
@pytest.mark.parametrize("readout", ["count", "none"])
@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_id)
@pytest.mark.parametrize("steps", [None, 9], ids=["train", "constant"])
def test_results(target, reset, potential, readout, dtype, steps):
    shape = (2, 3, 5) if steps else (9, 2, 3, 5)
    arguments = inputs(shape, dtype=dtype, device=target.device, kind="mixed", reset=reset, state=True, steps=steps)
    got = results(*hold_forward(target, arguments, potential=potential, readout=readout))
    alone = results(*run(arguments, target.backend, readout="spikes" if readout == "none" else readout))
    for name in ("v", "r", *(["out"] if readout != "none" else [])):
        equal_bits(got[name], alone[name], name)


@pytest.mark.parametrize("steps", [1, 31, 32, 33, 64, 150])
@pytest.mark.parametrize("potential", READ)
def test_numbers_of_steps(target, potential, steps):
    arguments = inputs((steps, 2, 7), device=target.device, kind="neuron", state=True)
    hold_forward(target, arguments, potential=potential, readout="none")
    hold_gradients(target, arguments, potential=potential)


@pytest.mark.parametrize("neurons", [1, 63, 128, 300])
@pytest.mark.parametrize("potential", ["train", "max"])
def test_numbers_of_neurons(target, potential, neurons):
    arguments = inputs((4, 2, neurons), device=target.device, kind="neuron", state=True)
    hold_forward(target, arguments, potential=potential)
    hold_gradients(target, arguments, potential=potential, seed=3)  # as in test_gradients_of_the_potential_alone


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("reset_grad", ["full", "detach"])
@pytest.mark.parametrize("potential", READ)
@pytest.mark.parametrize("readout", ["spikes", "none"])
def test_every_gradient(target, reset, reset_grad, potential, readout):
    arguments = inputs((9, 2, 3, 5), device=target.device, kind="mixed", reset=reset, state=True)
    options = {"reset_grad": reset_grad, "potential": potential, "readout": readout}
    assert hold_gradients(target, arguments, **options)["current"].any()


@pytest.mark.parametrize("potential", READ)
@pytest.mark.parametrize("kind", ["channel", "neuron"])
@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_id)
@pytest.mark.parametrize("steps", [None, 6], ids=["train", "constant"])
def test_gradients_of_the_potential_alone(target, potential, kind, dtype, steps):
    shape = (2, 3, 5) if steps else (6, 2, 3, 5)
    arguments = inputs(shape, dtype=dtype, device=target.device, kind=kind, state=True, steps=steps)
    # Of another seed a sum over the neurons would cancel, and its rounding be large beside it.
    options = {"potential": potential, "through": ("potential",), "seed": 5}
    got, loop = (gradients(arguments, backend, **options) for backend in (target.backend, "reference"))
    as_good_as_the_loop(got, loop, gradients(in_double(arguments), "reference", **options))
    assert got["current"].any()


@pytest.mark.parametrize("potential", READ)
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("readout", ["spikes", "none"])
def test_smooth_mode_is_a_function_with_its_derivative(target, potential, reset, readout):
    arguments = inputs((4, 2, 2), dtype=torch.float64, device=target.device, kind="neuron", state=True, reset=reset)
    hold_derivative(
        target.backend, arguments, fast=target.interpreted, smooth=True, potential=potential, readout=readout
    )


@pytest.mark.parametrize("potential", READ)
@pytest.mark.parametrize(
    "filters", [{"synapse": (1, 0)}, {"axon": (2, 0)}, {"synapse": (2, 1), "axon": (1, 1)}], ids=str
)
def test_beside_filters(target, potential, filters):
    arguments = inputs((9, 2, 3, 5), device=target.device, kind="neuron", state=True, **filters)
    hold_forward(target, arguments, potential=potential)
    hold_gradients(target, arguments, potential=potential)


@pytest.mark.parametrize("potential", READ)
def test_checkpoints_change_no_gradient(target, potential):
    arguments = inputs((11, 2, 3, 5), device=target.device, kind="neuron", state=True)
    plain = gradients(arguments, target.backend, potential=potential)
    kept = gradients(arguments, target.backend, potential=potential, checkpoint_every=4)
    for name, gradient in plain.items():
        torch.testing.assert_close(kept[name], gradient, rtol=1e-5, atol=1e-5, msg=name)


@pytest.mark.parametrize("layout", ["features first", "every other", "expanded"])
def test_other_layouts(target, layout):
    train = torch.randn(6, 4, 10, generator=torch.Generator().manual_seed(0)).to(target.device)
    current = {
        "features first": train.permute(0, 2, 1), "every other": train[:, :, ::2],
        "expanded": train[:, :1].expand(6, 4, 10),
    }[layout]  # fmt: skip
    arguments = {"current": current, "steps": None, "decay": 0.9, "reset_decay": 0.5, "threshold": 0.7}
    for potential in READ:
        hold_forward(target, arguments, potential=potential)
        got = gradients(arguments, target.backend, potential=potential)
        expected = gradients(arguments, "reference", potential=potential)
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


def test_a_maximum_that_comes_twice(any_target):
    """Its gradient goes to the first step that has it."""
    current = torch.tensor([0.5, 0.75, 0.25, 0.75, 0.75], device=any_target.device)[:, None, None].requires_grad_()
    v, _ = hnn_kernels.lif(
        current, 0.0, None, 1.0, reset="none", readout="none", potential="max", backend=any_target.backend
    )
    (grad,) = torch.autograd.grad(v.sum(), current)
    assert grad.flatten().tolist() == [0, 1, 0, 0, 0]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf], ids=str)
@pytest.mark.parametrize("potential", READ)
def test_a_current_that_is_not_finite(target, potential, value):
    arguments = inputs((6, 2, 40), device=target.device)
    arguments["current"][2, 1, 7] = value
    arguments["current"][0, 0, 39] = value
    hold_forward(target, arguments, potential=potential)


def test_all_steps_at_minus_infinity(any_target):
    current = torch.full((3, 1, 2), -math.inf, device=any_target.device).requires_grad_()
    v, _ = hnn_kernels.lif(
        current, 0.5, None, 1.0, reset="none", readout="none", potential="max", backend=any_target.backend
    )
    (grad,) = torch.autograd.grad(v.sum(), current)
    assert v.tolist() == [[-math.inf, -math.inf]]
    assert grad[0].tolist() == [[1, 1]]


@pytest.mark.parametrize("potential", ONE_VALUE)
@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_id)
def test_no_train_is_written_and_none_is_kept(target, potential, dtype):
    """The operator's results, and what training keeps, beside the current: a value per neuron for a maximum."""
    current = torch.randn(50, 2, 8, device=target.device).to(dtype).requires_grad_()
    layer = Layer(
        current.detach(), decay_value=0.9, reset_decay_value=0.5, threshold_value=1.0, reset_potential_value=0.0,
        readout=READOUTS["none"], potential=POTENTIALS[potential], return_state=False,
    )  # fmt: skip
    made = forward_ops[target.backend](*layer)
    assert [tuple(result.shape) for result in made] == [(2, 8)] * (2 if potential == "max" else 1)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        hnn_kernels.lif(
            current, 0.9, 0.5, readout="none", potential=potential, return_state=False, backend=target.backend
        )
    others = [t for t in kept if t.shape != current.shape]
    assert sum(t.numel() for t in others) == (16 if potential == "max" else 0)
    assert len(kept) - len(others) == 1


@pytest.mark.parametrize("potential", READ)
@pytest.mark.parametrize("readout", READOUTS)
def test_calls_that_come_again(target, potential, readout):
    """A call that is remembered has the bits of the first."""
    current = torch.randn(7, 2, 40, device=target.device).requires_grad_()
    found = []
    for _ in range(5):
        out, _ = hnn_kernels.lif(
            current, 0.9, 0.5, readout=readout, potential=potential, return_state=False, backend=target.backend
        )
        parts = out if isinstance(out, tuple) else (out,)
        found.append([*parts, *torch.autograd.grad([part.sum() for part in parts], current)])
    for again in found[1:]:
        for one, other in zip(found[0], again, strict=True):
            equal_bits(one, other, "again")


@pytest.mark.parametrize("potential", READ)
def test_vmap(target, potential):
    current = torch.randn(3, 5, 2, 7, device=target.device)

    def layer(x):
        (spikes, v), state = hnn_kernels.lif(x, 0.9, 0.5, potential=potential, backend=target.backend)
        return spikes, v, state.v

    mapped = torch.func.vmap(layer)(current)
    for i in range(3):
        for got, expected in zip(mapped, layer(current[i]), strict=True):
            equal_bits(got[i], expected, potential)

    def loss(x):
        (_, v), _ = hnn_kernels.lif(x, 0.9, 0.5, potential=potential, backend=target.backend)
        return (v * v).sum()

    per_sample = torch.func.vmap(torch.func.grad(loss))(current)
    for i in range(3):
        torch.testing.assert_close(per_sample[i], torch.func.grad(loss)(current[i]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("potential", READ)
def test_compile(any_target, potential):
    torch.compiler.reset()

    def step(x):
        (count, v), _ = hnn_kernels.lif(
            x, 0.9, 0.5, readout="count", potential=potential, return_state=False, backend=any_target.backend
        )
        return count, v

    x = torch.randn(6, 2, 9, requires_grad=True)
    eager = step(x)
    compiled = torch.compile(step, fullgraph=True)(x)
    for got, expected in zip(compiled, eager, strict=True):
        equal_bits(got, expected, potential)
    grads = [torch.autograd.grad(found[0].sum() + found[1].square().sum(), x)[0] for found in (compiled, eager)]
    equal_bits(*grads, "gradient")


@pytest.mark.parametrize("potential", READ)
def test_opcheck(target, potential):
    current = torch.randn(6, 2, 9, requires_grad=True)
    layer = Layer(
        current, decay_value=0.9, reset_decay_value=0.5, threshold_value=1.0, reset_potential_value=0.0,
        potential=POTENTIALS[potential],
    )  # fmt: skip
    torch.library.opcheck(forward_ops[target.backend], tuple(layer))


# -- the module --------------------------------------------------------------------------------------------------------


def test_a_module(any_target):
    x = torch.randn(6, 2, 9, device=any_target.device)
    both = LIF(0.9, potential="train", backend=any_target.backend)
    spikes, v = both(x)
    alone = LIF(0.9, potential="last", readout="none", backend=any_target.backend)
    assert torch.equal(alone(x), v[-1])
    (again, _), state = both(x, return_state=True)
    assert torch.equal(spikes, again)
    assert torch.equal(state.v, v[-1])
    assert "potential='last'" in repr(alone)


# -- what is refused ---------------------------------------------------------------------------------------------------

LAYER = {"current": torch.zeros(4, 2, 3), "decay": 0.9, "reset_decay": 0.5}


def test_names():
    refuses(hnn_kernels.lif, {**LAYER, "potential": "median"}, ValueError, "potential", *map(repr, POTENTIALS))
    refuses(LIF, {"potential": None}, ValueError, "potential", *map(repr, POTENTIALS))


def test_nothing_to_return():
    refuses(hnn_kernels.lif, {**LAYER, "readout": "none"}, ValueError, "readout", "potential", "'none'")
    refuses(LIF, {"readout": "none"}, ValueError, "readout", "potential", "'none'")


@pytest.mark.parametrize("potential", ONE_VALUE)
def test_no_step_to_read(potential):
    layer = {**LAYER, "current": torch.zeros(0, 2, 3), "potential": potential}
    refuses(hnn_kernels.lif, layer, ValueError, f"potential={potential!r}", "at least one step", "0")


def test_an_axon_without_its_train():
    layer = {**LAYER, "axon": IIR.exponential(4), "readout": "none", "potential": "train"}
    refuses(hnn_kernels.lif, layer, ValueError, "readout", "axon", "'spikes'", "'none'")


def test_more_steps_than_the_state_counts():
    layer = {**LAYER, "current": torch.zeros(1, 1), "steps": 2**24 + 1, "potential": "max", "readout": "none"}
    refuses(hnn_kernels.lif, layer, ValueError, "potential='max'", str(2**24), "float32")
