"""The state of recurrent layers: in, out, split in time, copied and saved."""

import copy
import io
import pickle

import pytest
import torch

import hnn_kernels
from hnn_kernels import LIFState, RecurrentState
from support.comparisons import equal_bits
from support.recurrent import NEURONS, current, gradients, layer, tensors

SPLITS = [(n, w) for n in NEURONS for w in ("matrix", "module")] + [("axon", "vector"), ("filter", "number")]


@pytest.mark.parametrize(("neuron", "weight"), SPLITS)
def test_parts_of_the_time_equal_the_whole(any_target, neuron, weight):
    x = current().to(any_target.device)
    made = layer(neuron, weight, any_target.backend).to(any_target.device)
    whole, last = made(x, return_state=True)
    outs, state = [], None
    for part in x.split((2, 1, 0, 3)):
        out, state = made(part, state=state, return_state=True)
        outs.append(out)
    equal_bits(torch.cat(outs), whole, "outputs")
    for a, b in zip(tensors(state), tensors(last), strict=True):
        equal_bits(a, b, "state")


@pytest.mark.parametrize(("neuron", "weight"), [("axon", "matrix"), ("filter", "module"), ("synapse", "vector")])
def test_gradients_go_through_the_state(neuron, weight):
    x, made = current(), layer(neuron, weight, None)

    def halves(made, x):
        first, state = made(x[:4], return_state=True)
        second, state = made(x[4:], state=state, return_state=True)
        return torch.cat([first, second]), state

    got, want = gradients(made, x, halves), gradients(made, x, return_state=True)
    for name, gradient in got.items():
        torch.testing.assert_close(gradient, want[name], msg=name)


def test_the_state_says_what_it_holds():
    x, made = current(dtype=torch.bfloat16), layer("filter", "matrix", None, torch.bfloat16)
    out, state = made(x, return_state=True)
    assert isinstance(state, RecurrentState)
    assert isinstance(state.neurons, LIFState)
    assert state.out.dtype == torch.float32
    equal_bits(state.out, out[-1].float(), "out")
    assert not any(t.requires_grad for t in tensors(state.detach()))
    assert all(a.data_ptr() != b.data_ptr() for a, b in zip(tensors(state), tensors(state.clone()), strict=True))


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("weight", ["matrix", "module", "number"])
def test_without_a_step_the_state_stays(any_target, weight, given):
    made = layer("filter", weight, any_target.backend).to(any_target.device)
    x = current().to(any_target.device)
    before = made(x, return_state=True)[1] if given else None
    out, after = made(x[:0], state=before, return_state=True)
    assert out.shape == x[:0].shape
    if given:
        for a, b in zip(tensors(after), tensors(before), strict=True):
            equal_bits(a, b, "state")
            assert a.data_ptr() != b.data_ptr()
    else:
        assert not any(t.any() for t in tensors(after))


def test_a_state_is_saved_and_loaded():
    state = layer("axon", "matrix", None)(current(), return_state=True)[1].detach()
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded = torch.load(file)
    assert isinstance(loaded, hnn_kernels.RecurrentState)
    for a, b in zip(tensors(loaded), tensors(state), strict=True):
        equal_bits(a, b, "state")


@pytest.mark.parametrize(("neuron", "weight"), [("filter", "matrix"), ("axon", "vector"), ("plif", "number")])
def test_copies_and_parameters(neuron, weight):
    made, x = layer(neuron, weight, "reference"), current()
    for copied in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        equal_bits(copied(x), made(x), "a copy")
    other = layer(neuron, weight, "reference")
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1)
    assert not torch.equal(other(x), made(x))
    other.load_state_dict(made.state_dict())
    equal_bits(other(x), made(x), "state_dict")
