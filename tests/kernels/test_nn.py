"""The layers as modules, and the duplicate coding."""

import copy
import io
import math
import pickle
import warnings

import pytest
import torch
from torch import nn

import hnn_kernels
from hnn_kernels import IIR, LIFState, TimeAxisWarning, _checks
from hnn_kernels import nn as hnn_nn
from hnn_kernels.nn import LIF, Duplicate, EachStep
from support.comparisons import equal_bits
from support.layers import DTYPES, inputs
from support.targets import dtype_id

CURRENT = inputs((6, 2, 4, 3, 5))["current"]
OF_A_FILTER = ("decay", "reset_decay", "threshold")


def test_coefficients_that_do_not_fit_into_memory_are_not_called_ill_shaped():
    for make in (
        lambda shape: LIF(0.9, learn=("decay",), shape=shape),
        lambda shape: hnn_nn.IIR((0.5,), (1.0,), learn=True, shape=shape),
    ):
        with pytest.raises(RuntimeError, match="memory"):
            make((2**45,))


def test_the_module_is_the_function(any_target):
    current = CURRENT.to(any_target.device)
    layer = LIF(0.9, 0.6, 1.1, backend=any_target.backend)
    expected, expected_state = hnn_kernels.lif(current, 0.9, 0.6, 1.1, backend=any_target.backend)
    out, state = layer(current, return_state=True)
    equal_bits(out, expected, "spikes")
    equal_bits(state.v, expected_state.v, "state.v")
    equal_bits(state.r, expected_state.r, "state.r")
    assert isinstance(layer(current), torch.Tensor)


def test_defaults_are_those_of_snn_iir():
    layer = LIF()
    assert (layer.decay, layer.threshold, layer.sigma) == (0.0, 1.0, 0.4)
    assert layer.reset_decay == pytest.approx(math.exp(-1 / 4))
    equal_bits(layer(CURRENT), hnn_kernels.lif(CURRENT, 0.0, math.exp(-1 / 4), 1.0, sigma=0.4)[0], "spikes")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("reset_grad", "one_step"), ("reset_grad", "detach"), ("sigma", 1.5), ("smooth", True), ("readout", "count"),
        ("surrogate", "arctan"), ("axon", IIR.dual_exponential(4, 1)), ("synapse", IIR.exponential(3)),
    ],
)  # fmt: skip
def test_an_option_reaches_the_function(option, value):
    """Each option changes the output or the gradient in the same way as for the function."""

    def result(function):
        current = CURRENT.clone().requires_grad_()
        out = function(current)
        return out, torch.autograd.grad(out.sum(), current)[0]

    got = result(LIF(0.5, 0.5, **{option: value}))
    expected = result(lambda x: hnn_kernels.lif(x, 0.5, 0.5, 1.0, **{option: value})[0])
    default = result(LIF(0.5, 0.5))
    for g, e in zip(got, expected, strict=True):
        equal_bits(g, e, option)
    assert got[0].shape != default[0].shape or not all(map(torch.equal, got, default)), "the option did nothing"


def test_a_call_leaves_nothing_behind():
    layer = LIF(0.9)
    before = dict(vars(layer))
    first = layer(CURRENT)
    assert torch.equal(layer(CURRENT), first)
    assert dict(vars(layer)) == before


def test_state_in_and_out():
    layer = LIF(0.9)
    whole, last = layer(CURRENT, return_state=True)
    first, state = layer(CURRENT[:2], return_state=True)
    second, state = layer(CURRENT[2:], state=state, return_state=True)
    equal_bits(torch.cat([first, second]), whole, "spikes")
    equal_bits(state.v, last.v, "state.v")
    assert isinstance(state, LIFState)


@pytest.mark.parametrize("shape", [(), (4, 1, 1), (4, 3, 5)], ids=["layer", "channel", "neuron"])
@pytest.mark.parametrize("learn", [("decay",), ("reset_decay", "threshold"), OF_A_FILTER], ids="+".join)
def test_learning(shape, learn):
    layer = LIF(0.8, 0.6, 1.1, learn=learn, shape=shape)
    parameters = dict(layer.named_parameters())
    assert set(parameters) == set(learn)
    given = {"decay": 0.8, "reset_decay": 0.6, "threshold": 1.1}
    for name, parameter in parameters.items():
        assert parameter.shape == shape
        assert parameter.dtype == torch.float32
        assert (parameter == torch.tensor(given[name])).all()
        # Every element must be its own memory, or an optimiser would step them together.
        assert parameter.is_contiguous()
    equal_bits(layer(CURRENT), hnn_kernels.lif(CURRENT, **given)[0], "spikes")
    layer(CURRENT).sum().backward()
    for parameter in parameters.values():
        assert parameter.grad.shape == shape
        assert parameter.grad.abs().min() > 0 or parameter.numel() > 1
        assert parameter.grad.abs().max() > 0


def test_a_tensor_that_is_not_learnt_is_a_buffer():
    decay = torch.rand(4, 1, 1)
    layer = LIF(decay)
    assert not list(layer.parameters())
    assert list(layer.state_dict()) == ["decay"]
    expected = layer(CURRENT)
    decay.zero_()
    equal_bits(layer(CURRENT), expected, "spikes after the caller's tensor changed")
    assert not layer(CURRENT).requires_grad


def test_a_learnt_reset_potential():
    layer = LIF(0.8, threshold=0.5, reset="zero", reset_potential=-0.25, learn=("reset_potential",), shape=(4, 1, 1))
    assert {name: value.shape for name, value in layer.named_parameters()} == {"reset_potential": (4, 1, 1)}
    expected, _ = hnn_kernels.lif(CURRENT, 0.8, None, 0.5, reset="zero", reset_potential=-0.25)
    equal_bits(layer(CURRENT), expected, "spikes")
    layer(CURRENT).sum().backward()
    assert layer.reset_potential.grad.all()
    with pytest.raises(ValueError, match="reset_potential must be 0, and not learnt, with reset='filter'"):
        LIF(learn=("reset_potential",))


def test_learning_from_a_tensor():
    start = torch.rand(4, 1, 1)
    layer = LIF(start, learn=("decay",))
    assert torch.equal(layer.decay, start)
    assert LIF(start, learn=("decay",), shape=(4, 3, 5)).decay.shape == (4, 3, 5)
    with torch.no_grad():
        layer.decay.add_(1)
    assert not torch.equal(layer.decay, start)


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"])
def test_copies(copier):
    layer = LIF(torch.rand(4, 1, 1), learn=("threshold",), shape=(5,), reset_grad="detach", sigma=0.3)
    twin = copier(layer)
    equal_bits(twin(CURRENT), layer(CURRENT), "spikes")
    assert repr(twin) == repr(layer)
    expected = layer(CURRENT)
    with torch.no_grad():
        twin.threshold.add_(5)
        twin.decay.zero_()
    equal_bits(layer(CURRENT), expected, "spikes of the original")
    assert not torch.equal(twin(CURRENT), expected)


def test_state_dict_round_trip():
    layer = LIF(torch.rand(4, 1, 1), learn=("threshold",), shape=(5,))
    with torch.no_grad():
        layer.threshold.uniform_(0.5, 1.5)
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    other = LIF(torch.zeros(4, 1, 1), learn=("threshold",), shape=(5,))
    assert not torch.equal(other(CURRENT), layer(CURRENT))
    assert not any(other.load_state_dict(torch.load(file, weights_only=True)))
    equal_bits(other(CURRENT), layer(CURRENT), "spikes")


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_id)
def test_moved_to_a_dtype(dtype):
    layer = LIF(torch.rand(4, 1, 1), learn=("threshold",), shape=(5,)).to(dtype)
    out = layer(CURRENT.to(dtype))
    assert out.dtype == dtype
    out.float().sum().backward()
    assert layer.threshold.grad.dtype == dtype


def test_default_dtype():
    torch.set_default_dtype(torch.float64)
    try:
        layer = LIF(learn=("decay",))
    finally:
        torch.set_default_dtype(torch.float32)
    assert layer.decay.dtype == torch.float64


def test_on_the_meta_device():
    """A module can be built on the meta device, without memory."""
    with torch.device("meta"):
        layer = LIF(learn=OF_A_FILTER, shape=(5,))
        assert layer(torch.empty(6, 2, 5)).shape == (6, 2, 5)
    assert layer.decay.device.type == "meta"


def test_repr_says_what_differs_from_the_default():
    assert repr(LIF(0.9)) == "LIF(decay=0.9, reset_decay=0.7788, threshold=1, sigma=0.4)"
    shown = repr(LIF(torch.zeros(5), learn=("threshold",), shape=(3, 5), reset_grad="detach", readout="count"))
    for part in ("decay=fixed(5,)", "threshold=learnt(3, 5)", "reset_grad='detach'", "readout='count'"):
        assert part in shown
    assert "reset='filter'" not in shown


def test_in_a_sequence_of_layers():
    model = nn.Sequential(nn.Linear(6, 5), Duplicate(7), LIF(0.9), nn.Linear(5, 3), LIF(0.9, readout="count"))
    out = model(torch.randn(2, 6))
    assert out.shape == (2, 3)
    out.sum().backward()
    assert model[0].weight.grad.abs().sum() > 0


def test_duplicate_repeats_without_memory():
    value = torch.randn(2, 3)
    for train in (hnn_kernels.encode_duplicate(value, 5), Duplicate(5)(value)):
        assert torch.equal(train, torch.stack([value] * 5))
        assert train.stride(0) == 0
        assert train.untyped_storage().data_ptr() == value.untyped_storage().data_ptr()
    assert hnn_kernels.encode_duplicate(value, 0).shape == (0, 2, 3)
    assert repr(Duplicate(5)) == "Duplicate(steps=5)"


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_id)
def test_duplicate_is_differentiable(dtype):
    value = torch.randn(2, 3, dtype=dtype, requires_grad=True)
    train = hnn_kernels.encode_duplicate(value, 5)
    assert train.dtype == dtype
    weight = torch.randn(5, 2, 3).to(dtype)
    (gradient,) = torch.autograd.grad(train, value, weight)
    torch.testing.assert_close(gradient, weight.sum(0))


def test_a_duplicated_value_is_a_constant_current(target):
    value = CURRENT[0].to(target.device)
    by_view = LIF(0.9, backend=target.backend)(hnn_kernels.encode_duplicate(value, 7))
    by_steps = LIF(0.9, backend=target.backend)(value, steps=7)
    equal_bits(by_view, by_steps, "spikes")


@pytest.mark.parametrize("reset", ["subtract", "zero", "none"])
def test_a_reset_without_a_variable(reset):
    layer = LIF(0.5, reset=reset)
    expected, _ = hnn_kernels.lif(CURRENT, 0.5, None, reset=reset)
    equal_bits(layer(CURRENT), expected, "spikes")
    assert not torch.equal(layer(CURRENT), LIF(0.5)(CURRENT))
    assert layer.reset_decay is None
    for arguments in ({"reset_decay": 0.5}, {"learn": ("reset_decay",)}):
        with pytest.raises(ValueError, match="reset_decay"):
            LIF(0.5, reset=reset, **arguments)


def test_the_filter_is_the_function(any_target):
    x = CURRENT.to(any_target.device)
    module = hnn_nn.IIR([0.5, -0.1], [1.0, 0.3], backend=any_target.backend)
    whole, last = module(x, return_state=True)
    expected, expected_state = hnn_kernels.iir(x, [0.5, -0.1], [1.0, 0.3], backend=any_target.backend)
    equal_bits(whole, expected, "y")
    equal_bits(last, expected_state, "state")
    first, state = module(x[:2], return_state=True)
    second, state = module(x[2:], state=state, return_state=True)
    equal_bits(torch.cat([first, second]), whole, "y in pieces")
    equal_bits(state, last, "state after pieces")
    assert not list(module.parameters())


@pytest.mark.parametrize("shape", [(), (4, 1, 1), (4, 3, 5)], ids=["layer", "channel", "neuron"])
def test_filters_that_learn(shape):
    """Learnt coefficients start as the preset, with its bits forward. Each has memory of its own, and a gradient."""
    start = IIR.dual_exponential(4, 1, normalize=True)
    layer = LIF(0.5, axon=start, synapse=IIR.exponential(3), learn=("axon", "synapse", "decay"), shape=shape)
    sizes = {name: tuple(p.shape) for name, p in layer.named_parameters()}
    assert sizes == {
        "decay": shape, "axon.feedback": (2, *shape), "axon.feedforward": (2, *shape),
        "synapse.feedback": (1, *shape), "synapse.feedforward": (1, *shape),
    }  # fmt: skip
    assert all(p.is_contiguous() and p.dtype == torch.float32 for p in layer.parameters())
    expected, _ = hnn_kernels.lif(CURRENT, 0.5, layer.reset_decay, axon=start, synapse=IIR.exponential(3))
    out = layer(CURRENT)
    equal_bits(out.detach(), expected, "F")
    out.square().sum().backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad.flatten(1).abs().amax(1).min() > 0 if shape else parameter.grad.all(), name
    twin = LIF(0.5, axon=start, synapse=IIR.exponential(3), learn=("axon", "synapse", "decay"), shape=shape)
    with torch.no_grad():
        layer.axon.feedback.mul_(0.5)
    assert not torch.equal(twin(CURRENT), layer(CURRENT))
    assert not any(twin.load_state_dict(layer.state_dict()))
    equal_bits(twin(CURRENT), layer(CURRENT), "F")


def test_filters_in_and_out_with_the_state():
    layer = LIF(0.9, axon=IIR.dual_exponential(4, 1), synapse=hnn_nn.IIR(*IIR.exponential(2)), checkpoint_every=2)
    whole, last = layer(CURRENT, return_state=True)
    first, state = layer(CURRENT[:2], return_state=True)
    second, state = layer(CURRENT[2:], state=state, return_state=True)
    equal_bits(torch.cat([first, second]), whole, "F")
    for name, got, expected in zip(LIFState._fields, state, last, strict=True):
        equal_bits(got, expected, name)


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"axon": [0.5]}, TypeError, "axon"),
        ({"learn": ("axon",)}, ValueError, "axon"),
        ({"axon": IIR([0.5], [])}, ValueError, "feedforward"),
        ({"synapse": IIR([math.nan], [1.0])}, ValueError, "feedback"),
        ({"synapse": IIR(torch.ones(1, 4), [1.0]), "learn": ("synapse",), "shape": (3,)}, ValueError, "feedback"),
    ],
    ids=["a list", "learn nothing", "no feedforward", "NaN", "a shape that does not fit"],
)
def test_filters_that_are_refused(arguments, error, said):
    with pytest.raises(error, match=said):
        LIF(0.9, **arguments)


def test_repr_of_filters():
    shown = repr(
        LIF(0.9, axon=IIR([0.5, -0.25], [1.0]), synapse=IIR([0.5], [1.0]), learn=("synapse",), shape=(4, 1, 1))
    )
    for part in ("axon", "(0.5, -0.25)", "synapse", "learnt(1, 4, 1, 1)"):
        assert part in shown


def test_modules_of_a_step_take_each_step():
    conv, norm = nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)
    x = torch.randn(5, 4, 2, 6, 6)
    got = EachStep(conv, norm.eval(), nn.Flatten())(x)
    assert torch.equal(got[2], norm(conv(x.flatten(0, 1))).unflatten(0, (5, 4))[2].flatten(1))
    assert got.shape == (5, 4, 3 * 4 * 4)
    with pytest.raises(ValueError, match=r"input must be \[T, B, \*features\]; got shape \(5,\)"):
        EachStep(nn.Identity())(torch.randn(5))


def test_each_step_has_its_former_name():
    assert hnn_kernels.nir.EachStep is EachStep


def neuron_of_one_axis():
    @hnn_kernels.neuron(states=("v",))
    def leaky(x, v):
        v = 0.5 * v + x
        return hnn_kernels.fire(v - 1), v

    return leaky


@pytest.mark.parametrize(
    ("call", "samples"),  # each with samples of its own: a call that was seen before is not checked again
    [
        (lambda x: hnn_kernels.lif(x, 0.9, 0.78), 31),
        (LIF(0.9), 33),
        (nn.Sequential(nn.Linear(35, 35), LIF(0.9)), 35),
        (lambda x: neuron_of_one_axis()(x, backend="reference"), 37),
        (hnn_nn.Recurrent(LIF(0.9), torch.tensor(0.1)), 39),
    ],
)
def test_two_axes_are_time_and_batch_and_a_hint_says_so_once(call, samples, monkeypatch):
    monkeypatch.setattr(_checks, "_warned_of_the_time_axis", False)
    with pytest.warns(
        TimeAxisWarning, match=rf"taken as \[T, B\]: 4 time steps of {samples} samples .* nn.Duplicate\(T\)"
    ) as seen:
        call(torch.randn(4, samples))
    assert [warning.filename for warning in seen] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error", TimeAxisWarning)
        call(torch.randn(5, samples))


@pytest.mark.parametrize(
    "call",
    [
        lambda x: hnn_kernels.lif(x, 0.9, 0.78, steps=5),
        nn.Sequential(Duplicate(5), LIF(0.9)),
        lambda x: LIF(0.9)(x.unsqueeze(2)),
        lambda x: LIF(0.9)(x.unsqueeze(1)),
        torch.compile(LIF(0.9), backend="eager", fullgraph=True),
    ],
)
def test_no_hint_where_the_axes_are_clear(call, monkeypatch):
    monkeypatch.setattr(_checks, "_warned_of_the_time_axis", False)
    with warnings.catch_warnings():
        warnings.simplefilter("error", TimeAxisWarning)
        call(torch.randn(4, 3))


def test_a_train_of_two_axes_computes_as_before():
    x = torch.randn(20, 4)
    assert torch.equal(LIF(0.9)(x), LIF(0.9)(x.unsqueeze(2)).squeeze(2))
