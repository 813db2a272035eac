"""snnTorch's filters over time beside their converted twins; its neurons of one step stay, and the report says why."""

import pytest
import torch

import hnn_kernels
from support.converted import same

pytest.importorskip("snntorch", reason="converting snnTorch's modules needs the extra 'peers'")
import snntorch as snn
from snntorch import surrogate

# A convolution sums in another order than the recursion. The worst of these cases is 4.2e-6, the gradient of a
# threshold that all neurons share.
TOLERANCE = 1e-5


def inputs(shape=(30, 3, 12)):
    torch.manual_seed(3)
    return torch.randn(shape)


def spikes_first(module, x):
    out = module(x)
    return list(out) if isinstance(out, tuple) else [(out > 0.5).float(), out]


@pytest.mark.parametrize("beta", [0.9, torch.linspace(0.4, 0.95, 12), torch.tensor([0.8])], ids=("0.9", "each", "one"))
@pytest.mark.parametrize("learn", [False, True])
def test_filters(beta, learn):
    def make():
        given = {"learn_beta": learn, "learn_threshold": learn, "graded_spikes_factor": 1.5}
        return snn.StateLeaky(beta, 12, spike_grad=surrogate.fast_sigmoid(), **given)

    same(make, spikes_first, inputs(), TOLERANCE)


@pytest.mark.parametrize("output", [True, False])
def test_linear_filters(output):
    same(lambda: snn.LinearLeaky(0.9, 12, 7, output=output), spikes_first, inputs(), TOLERANCE)


def test_a_filter_that_ends_stays():
    (entry,) = hnn_kernels.convert(snn.StateLeaky(0.9, 12, kernel_truncation_steps=4))
    assert "kernel_truncation_steps" in entry.why


@pytest.mark.parametrize(
    "make",
    [
        lambda: snn.Leaky(0.9), lambda: snn.Synaptic(0.8, 0.9), lambda: snn.Lapicque(0.9), lambda: snn.Alpha(0.9, 0.8),
        lambda: snn.RLeaky(0.9, all_to_all=False), lambda: snn.SLSTM(3, 4), lambda: snn.DeltaLeaky(beta=0.9),
    ],
)  # fmt: skip
def test_neurons_of_one_step_stay(make):
    module = make()
    kind = type(module)
    entry = hnn_kernels.convert(module)[0]
    assert not entry.replaced
    assert "hnn_kernels.unroll" in entry.why
    assert type(module) is kind


def test_a_subclass_of_such_a_neuron_is_said_to_be_one():
    class Doubled(snn.Leaky):
        pass

    (entry,) = hnn_kernels.convert(Doubled(0.9))
    assert entry.why == "a subclass of snntorch._neurons.leaky.Leaky, whose step may be another one"
