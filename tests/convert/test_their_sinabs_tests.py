"""Unit tests that sinabs has for its layers, in its source distribution, restated over converted ones.

All of its tests of layers pass with converted layers, as they are, but those of ``sinabs.conversion``, which compares
``type(layer)``: :func:`hnn_kernels.revert` comes before it.
"""

import pytest
import torch

import hnn_kernels
from support.converted import by_the_loop

pytest.importorskip("sinabs", reason="its tests need the extra 'peers'")
import sinabs.activation as sa
import sinabs.layers as sl
from sinabs.layers.alif import ALIF

TAU = torch.tensor(30.0)
ALPHA = torch.exp(-1 / TAU)
SHAPE = (4, 40, 2, 3, 3)


@pytest.fixture(autouse=True)
def _loops(monkeypatch):
    by_the_loop(monkeypatch)


def converted(layer):
    (entry,) = hnn_kernels.convert(layer)
    assert entry.replaced
    return layer


def currents(shape=SHAPE):
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def first_step(value, shape=SHAPE):
    x = torch.zeros(shape)
    x[:, 0] = value
    return x


@pytest.mark.parametrize(("spike_fn", "most"), [(sa.SingleSpike, 1), (sa.MaxSpike(3), 3)])
@pytest.mark.parametrize("make", [sl.IAF, lambda **given: sl.LIF(tau_mem=20.0, **given)], ids=("IAF", "LIF"))
def test_a_step_has_no_more_spikes_than_its_function(make, spike_fn, most):
    assert converted(make(spike_fn=spike_fn))(currents() * 100).max() == most


@pytest.mark.parametrize(
    "given", [{}, {"tau_syn": 10.0}, {"train_alphas": True}, {"tau_syn": 10.0, "train_alphas": True}], ids=str
)
def test_synapses_and_learnt_decays_fire(given):
    for layer in (sl.LIF(tau_mem=TAU, **given), ALIF(tau_mem=TAU, tau_adapt=TAU, **given)):
        out = converted(layer)(currents() / (1 - ALPHA))
        assert out.shape == SHAPE
        assert out.sum() > 0
        out.sum().backward()
        learnt = "alpha_mem" if given.get("train_alphas") else "tau_mem"
        assert getattr(layer, learnt).grad is not None


def test_a_whole_threshold_of_input_fires_once_and_at_once():
    layer = converted(sl.LIF(tau_mem=TAU))
    out = layer(first_step(1 / (1 - ALPHA)))
    assert out[:, 0].eq(1).all()
    assert out.sum() == out[:, 0].sum()
    assert layer.firing_rate == out.sum() / out.numel()


@pytest.mark.parametrize("kind", [sl.LIF, sl.ExpLeak])
def test_what_does_not_fire_decays(kind):
    layer = converted(kind(tau_mem=TAU, norm_input=True))
    out = layer(first_step(0.75 / (1 - ALPHA)))
    torch.testing.assert_close(layer.v_mem, (0.75 * ALPHA ** (SHAPE[1] - 1)).expand(layer.v_mem.shape))
    assert kind is sl.LIF or torch.equal(out[:, -1], layer.v_mem)


def test_each_neuron_has_its_time_constant():
    taus = torch.arange(1, 6) * 10.0
    alpha = torch.exp(-1 / taus)
    layer = converted(sl.LIF(tau_mem=taus))
    layer(first_step(0.75 / (1 - alpha), (2, 2, 5)))
    torch.testing.assert_close(layer.v_mem, (alpha * 0.75).expand(2, 5))
    expanded = converted(sl.LIF(tau_mem=torch.rand(2, 1, 3) + 20, tau_syn=torch.rand(2, 1, 3) + 20))
    assert expanded(currents() * 30).sum() > 0


@pytest.mark.parametrize("tau_syn", [20.0, None])
def test_a_normalized_input_is_a_factor_of_the_potential(tau_syn):
    taus = torch.linspace(10, 100, 5)
    recorded = []
    for norm_input in (False, True):
        given = {"spike_threshold": 1e6, "tau_syn": tau_syn, "record_states": True}
        layer = converted(sl.LIF(tau_mem=taus, norm_input=norm_input, **given))
        layer(currents((5, 10, 5)))
        recorded.append(layer.recordings)
    plain, normal = recorded
    torch.testing.assert_close(plain["v_mem"] * (1 - torch.exp(-1 / taus)), normal["v_mem"])
    assert ("i_syn" in plain) == (tau_syn is not None)
    assert tau_syn is None or torch.equal(plain["i_syn"], normal["i_syn"])


def test_a_normalized_response_sums_to_one():
    layer = converted(sl.ExpLeak(tau_mem=torch.linspace(10, 30, 6), norm_input=True))
    summed = layer(first_step(1.0, (1, 400, 6))).sum(1)
    torch.testing.assert_close(summed, torch.ones(1, 6), rtol=0, atol=5e-5)


def test_a_floor_of_the_potential():
    x = currents((4, 1, 2, 3, 3)) / -(1 - ALPHA)
    free, floored = converted(sl.LIF(tau_mem=TAU)), converted(sl.LIF(tau_mem=TAU, min_v_mem=-0.5))
    free(x)
    floored(x)
    assert (free.v_mem < -0.5).any()
    assert not (floored.v_mem < -0.5).any()


def test_recordings_are_causal_and_have_gradients():
    x = currents()
    x[:, :5] = 0
    layer = converted(sl.LIF(tau_mem=20.0, tau_syn=10.0, norm_input=False, record_states=True))
    out = layer(x)
    assert layer.recordings["v_mem"].shape == layer.recordings["i_syn"].shape == out.shape
    assert not layer.recordings["v_mem"][:, :5].any()
    (layer.recordings["v_mem"].sum() + layer.recordings["i_syn"].sum()).backward()
    assert layer.tau_mem.grad is not None
    assert layer.tau_syn.grad is not None


def test_a_threshold_rises_by_a_spike_and_decays():
    layer = converted(ALIF(tau_mem=TAU, tau_adapt=TAU, adapt_scale=1 / (1 - ALPHA)))
    x = first_step(1 / (1 - ALPHA))
    layer(x)
    layer.reset_states()
    layer.b.fill_(0.0)
    assert layer(x).sum() == x[:, 0].numel()
    risen = layer.spike_threshold - 1
    torch.testing.assert_close(risen, (ALPHA ** (SHAPE[1] - 1)).expand(risen.shape), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("first", "second"), [(2, 4), (4, 2), (2, 2)])
def test_states_meet_a_batch_of_another_size(first, second):
    layer = converted(sl.IAF(spike_threshold=50))
    layer(torch.ones(first, 10, 1, 4, 4))
    before = layer.v_mem.clone()
    assert layer(torch.ones(second, 10, 1, 4, 4)).shape[0] == second
    assert layer.v_mem.shape == (second, 1, 4, 4)
    both = min(first, second)
    assert (layer.v_mem[:both] - before[:both]).sum() > 0
