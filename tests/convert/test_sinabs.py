"""sinabs' layers beside their converted twins: spikes, states and gradients, over their options."""

import functools

import pytest
import torch

import hnn_kernels
from support.converted import by_the_loop, same, twins

pytest.importorskip("sinabs", reason="converting sinabs' layers needs the extra 'peers'")
import sinabs.activation as sa
import sinabs.layers as sl
from sinabs.layers.alif import ALIFSqueeze

DTYPES = (torch.float32, torch.float64)
# The library's spikes are float32 also where its potential is float64, and so is the gradient that comes back to them.
TOLERANCE = 5e-6


def inputs(dtype=torch.float32, shape=(3, 14, 40), scale=2.5):
    torch.manual_seed(3)
    return (torch.randn(shape) * scale).to(dtype)


def run(module, x):
    """Two calls over parts of the time, and what the module remembers and records."""
    out = torch.cat([module(x[:, :6]), module(x[:, 6:])], 1)
    assert out.is_contiguous()
    kept = [buffer.clone() for buffer in module.buffers()] + [module.firing_rate]
    kept += list(module.recordings.values())
    return [out, *kept]


def reset(module):
    module.reset_states()
    assert not any(buffer.any() or buffer.requires_grad for buffer in module.buffers())


def shapes():
    return [
        sa.SingleExponential(0.4, 0.8), sa.PeriodicExponential(0.6, 1.2), sa.Gaussian(0.0, 0.6, 0.9),
        sa.Gaussian(0.2, 0.5), sa.MultiGaussian(), sa.Heaviside(0.7),
    ]  # fmt: skip


def cases():
    """Options drawn in turns, so that every value of each occurs, with several of the others."""
    spikes = [sa.MultiSpike, sa.SingleSpike, sa.MaxSpike(2)]
    resets = [sa.MembraneSubtract(), sa.MembraneReset(), sa.MembraneSubtract(0.6), sa.MembraneReset(0.2)]
    for i in range(12):
        yield {
            "spike_fn": spikes[i % 3], "reset_fn": resets[i % 4], "surrogate_grad_fn": shapes()[i % 6],
            "min_v_mem": (-1.0, None, -0.3)[i // 2 % 3], "tau_syn": (None, 4.0)[i // 3 % 2],
            "spike_threshold": torch.tensor((1.0, 0.7)[i // 4 % 2]), "record_states": i % 5 == 1,
        }  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("given", list(cases()), ids=range(12))
@pytest.mark.parametrize("kind", ["LIF", "IAF"])
def test_layers_with_their_options(kind, given, dtype, monkeypatch):
    by_the_loop(monkeypatch)
    leak = {"tau_mem": 12.0, "norm_input": given["min_v_mem"] is None, "train_alphas": given["tau_syn"] is not None}
    make = functools.partial(getattr(sl, kind), **given, **(leak if kind == "LIF" else {}))
    same(make, run, inputs(dtype), TOLERANCE, reset)


def per_neuron():
    torch.manual_seed(1)
    return sl.LIF(tau_mem=torch.rand(40) * 9 + 2, tau_syn=torch.rand(40) * 9 + 2, norm_input=False)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    "make",
    [
        per_neuron,
        lambda: sl.ExpLeak(tau_mem=10.0),
        lambda: sl.ExpLeak(tau_mem=10.0, min_v_mem=-0.5, norm_input=True, train_alphas=True),
        lambda: sl.ALIF(tau_mem=20.0 * torch.ones(()), tau_adapt=10.0 * torch.ones(()), norm_input=False),
        lambda: sl.ALIF(
            tau_mem=20.0 * torch.ones(40), tau_adapt=torch.tensor(5.0), tau_syn=torch.tensor(3.0), adapt_scale=0.4,
            min_v_mem=-1.0, reset_fn=sa.MembraneReset(), surrogate_grad_fn=sa.Gaussian(), train_alphas=True,
            norm_input=False,
        ),
    ],
    ids=("per neuron", "leak", "leak floor", "adaptive", "adaptive current"),
)  # fmt: skip
def test_other_layers(make, dtype, monkeypatch):
    by_the_loop(monkeypatch)
    same(make, run, inputs(dtype), TOLERANCE, reset)


@pytest.mark.parametrize("name", ["LIFSqueeze", "IAFSqueeze", "ExpLeakSqueeze", "ALIFSqueeze"])
def test_squeezed_layers(name, monkeypatch):
    by_the_loop(monkeypatch)
    taus = {"tau_mem": torch.tensor(9.0), "tau_adapt": torch.tensor(5.0)}
    given = {"IAFSqueeze": {}, "ALIFSqueeze": taus}.get(name, {"tau_mem": 9.0})
    kind = ALIFSqueeze if name == "ALIFSqueeze" else getattr(sl, name)  # the package does not export it
    for axes in ({"batch_size": 3}, {"num_timesteps": 14}):
        make = functools.partial(kind, **given, **axes)
        same(make, lambda module, x: [module(x), module.v_mem], inputs(scale=6.0).flatten(0, 1), TOLERANCE)


@pytest.mark.parametrize("surrogate", [sa.SingleExponential(), sa.PeriodicExponential()], ids=("single", "periodic"))
def test_compiled_layers(surrogate):
    """As sinabs' own examples build them, through their kernels, with images."""
    make = functools.partial(sl.IAFSqueeze, batch_size=2, min_v_mem=-1.0, surrogate_grad_fn=surrogate)
    x = inputs(shape=(2, 10, 3, 4, 5)).flatten(0, 1)
    same(make, lambda module, x: [module(x), module.v_mem], x, TOLERANCE)


def test_states_meet_a_smaller_and_another_input(monkeypatch):
    by_the_loop(monkeypatch)
    library, ours = twins(lambda: sl.LIF(tau_mem=9.0))
    for shape in ((4, 6, 20), (2, 6, 20), (2, 6, 8)):
        x = inputs(shape=shape)
        torch.manual_seed(0)
        expected = library(x)  # a smaller batch draws its states from the old one
        torch.manual_seed(0)
        assert torch.equal(ours(x), expected)


def test_numbers_that_change_have_their_effect(monkeypatch):
    by_the_loop(monkeypatch)
    library, ours = twins(lambda: sl.IAF())
    for module in (library, ours):
        module.spike_fn = sa.SingleSpike
        module.spike_threshold = torch.nn.Parameter(torch.tensor(0.4), requires_grad=False)
    assert torch.equal(ours(inputs()), library(inputs()))


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: sl.LIFRecurrent(9.0, torch.nn.Linear(4, 4)), "come back through rec_connect"),
        (lambda: sl.IAF(surrogate_grad_fn=lambda v, threshold: v), "no surrogate like builtins.function"),
        (lambda: sl.IAF(reset_fn=lambda spikes, state, threshold: state), "does not know builtins.function"),
        (lambda: sl.IAF(surrogate_grad_fn=sa.SingleExponential(0.0)), "must be above 0"),
        (lambda: sl.IAF(spike_fn=sa.MaxSpike(0)), "does not know its spike_fn"),
        (lambda: sl.IAF(spike_threshold=torch.tensor([1.0, 0.0])), "threshold is not above 0"),
        (lambda: sl.ALIF(torch.tensor(9.0), torch.tensor(5.0), adapt_scale=-0.1), "would not stay so"),
    ],
)
def test_what_stays_is_said(make, why):
    (entry,) = hnn_kernels.convert(make())
    assert not entry.replaced
    assert why in entry.why


# -- the library's own tests of its layers, restated -------------------------------------------------------------------


def test_a_layer_fires_as_its_documentation_says(monkeypatch):
    """Constant input of 1.2 thresholds: IAF gives one spike a step, and a second one where the rest adds up."""
    by_the_loop(monkeypatch)
    layer = sl.IAF()
    hnn_kernels.convert(layer)
    out = layer(torch.full((1, 10, 1), 1.2))
    assert out.sum() == 12
    assert layer.does_spike
    assert layer.shape == (1, 1)


def test_deepcopy_and_state_dict(monkeypatch):
    import copy

    by_the_loop(monkeypatch)
    layer = sl.LIF(tau_mem=10.0, tau_syn=4.0)
    keys = list(layer.state_dict())
    hnn_kernels.convert(layer)
    layer(inputs())
    twin = copy.deepcopy(layer)
    assert type(twin) is type(layer)
    assert isinstance(twin, sl.LIF)
    assert list(layer.state_dict()) == keys
    assert torch.equal(twin.v_mem, layer.v_mem)
    assert torch.equal(twin(inputs()), layer(inputs()))


def test_zero_grad_lets_go_of_the_past(monkeypatch):
    by_the_loop(monkeypatch)
    layer = sl.LIF(tau_mem=10.0)
    hnn_kernels.convert(layer)
    layer(inputs()).sum().backward()
    assert layer.v_mem.grad_fn is not None
    layer.zero_grad()
    assert layer.v_mem.grad_fn is None
    layer(inputs()).sum().backward()
