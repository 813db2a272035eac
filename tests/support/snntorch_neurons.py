"""snnTorch's neurons over their options, the networks of its tutorials, and many neurons side by side."""

from collections.abc import Callable

import snntorch as snn
import torch
from snntorch import surrogate, utils
from torch import nn

from benchmarks.core import examples
from hnn_kernels._convert.snntorch_steps import STATES

T, B, N = 5, 4, 12


class Tutorial(examples.Tutorial):
    """The network of snnTorch's fifth tutorial, smaller."""

    def __init__(self):
        super().__init__(T, N, hidden=N)


class Images(nn.Module):
    """The network of snnTorch's sixth tutorial, with fewer steps."""

    def __init__(self):
        super().__init__()
        given = {"beta": 0.5, "spike_grad": surrogate.fast_sigmoid(slope=25)}
        self.conv1, self.lif1 = nn.Conv2d(1, 12, 5), snn.Leaky(**given)
        self.conv2, self.lif2 = nn.Conv2d(12, 64, 5), snn.Leaky(**given)
        self.fc1, self.lif3 = nn.Linear(64 * 4 * 4, 10), snn.Leaky(**given)

    def forward(self, x):
        mem1, mem2, mem3 = self.lif1.init_leaky(), self.lif2.init_leaky(), self.lif3.init_leaky()
        spk3_rec, mem3_rec = [], []
        for _ in range(T):
            spk1, mem1 = self.lif1(nn.functional.max_pool2d(self.conv1(x), 2), mem1)
            spk2, mem2 = self.lif2(nn.functional.max_pool2d(self.conv2(spk1), 2), mem2)
            spk3, mem3 = self.lif3(self.fc1(spk2.view(B, -1)), mem3)
            spk3_rec.append(spk3)
            mem3_rec.append(mem3)
        return torch.stack(spk3_rec), torch.stack(mem3_rec)


# The networks of the tutorials, each with its input and a rate of learning. At higher ones a spike falls otherwise by
# the rounding of a product, and training takes another way.
TUTORIALS = {
    "5": (Tutorial, lambda: torch.rand(B, N) * 4, 1e-2),
    "6": (Images, lambda: torch.rand(B, 1, 28, 28) * 8, 5e-4),
}


def losses(tutorial: str, change: Callable[[nn.Module], Callable], steps: int = 8) -> list[float]:
    """Return the losses of some training steps of a tutorial's network, through what ``change`` makes of it."""
    make, inputs, rate = TUTORIALS[tutorial]
    torch.manual_seed(0)
    net = make()
    optimizer = torch.optim.Adam(net.parameters(), lr=rate)
    call = change(net)
    x, labels = inputs(), torch.arange(B)
    found = []
    for _ in range(steps):
        spikes, potentials = call(x)
        loss = nn.functional.cross_entropy(spikes.sum(0), labels) + (potentials - 0.5).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    assert found[-1] < 0.9 * found[0]
    assert spikes.any()
    return found


def each() -> torch.Tensor:
    return torch.linspace(0.5, 1.0, N)


NEURONS = {
    "learnt": lambda: snn.Leaky(0.9, threshold=0.8, learn_beta=True, learn_threshold=True),
    "per neuron": lambda: snn.Leaky(each(), learn_beta=True, spike_grad=surrogate.fast_sigmoid(slope=5)),
    "above one": lambda: snn.Leaky(1.5, spike_grad=surrogate.sigmoid(slope=5)),
    "below zero": lambda: snn.Leaky(0.9, threshold=-0.1, learn_threshold=True),
    "zero": lambda: snn.Leaky(0.9, reset_mechanism="zero"),
    "zero at once": lambda: snn.Leaky(0.9, reset_mechanism="zero", reset_delay=False),
    "none": lambda: snn.Leaky(0.9, reset_mechanism="none", spike_grad=surrogate.atan(alpha=3)),
    "graded": lambda: snn.Leaky(0.9, graded_spikes_factor=1.5, learn_graded_spikes_factor=True),
    "synaptic": lambda: snn.Synaptic(alpha=0.7, beta=0.9, learn_alpha=True),
    "synaptic none": lambda: snn.Synaptic(alpha=0.7, beta=each(), reset_mechanism="none"),
    "synaptic zero at once": lambda: snn.Synaptic(alpha=0.7, beta=0.8, reset_mechanism="zero", reset_delay=False),
    "lapicque": lambda: snn.Lapicque(R=2.0, C=1.5, time_step=1),
    "lapicque none": lambda: snn.Lapicque(beta=0.8, reset_mechanism="none"),
    "hidden": lambda: snn.Leaky(0.9, init_hidden=True),
    "hidden output": lambda: snn.Synaptic(alpha=0.6, beta=0.9, init_hidden=True, output=True),
}
# Those that lif has no counterpart of: neurons by definition.
DEFINED = {
    "at once": lambda: snn.Leaky(0.9, reset_delay=False, learn_threshold=True),
    "graded at once": lambda: snn.Leaky(0.9, reset_delay=False, graded_spikes_factor=1.5),
    "straight": lambda: snn.Leaky(each(), learn_beta=True, spike_grad=surrogate.straight_through_estimator()),
    "heaviside zero": lambda: snn.Leaky(0.9, reset_mechanism="zero", spike_grad=surrogate.heaviside()),
    "triangular": lambda: snn.Leaky(0.9, reset_mechanism="none", spike_grad=surrogate.triangular(0.5)),
    "escape": lambda: snn.Leaky(0.9, spike_grad=surrogate.spike_rate_escape(beta=2, slope=0.5)),
    "sparse": lambda: snn.Leaky(0.9, spike_grad=surrogate.SFS(slope=3, B=-0.2), init_hidden=True, output=True),
    "no surrogate": lambda: snn.Leaky(0.9, surrogate_disable=True),
    "lapicque zero": lambda: snn.Lapicque(R=2.0, C=1.5, reset_mechanism="zero"),
    "lapicque": lambda: snn.Lapicque(beta=0.8, spike_grad=surrogate.heaviside()),
    "synaptic zero": lambda: snn.Synaptic(0.7, 0.9, reset_mechanism="zero", learn_alpha=True),
    "synaptic at once": lambda: snn.Synaptic(0.7, each(), reset_delay=False, learn_beta=True),
    "alpha": lambda: snn.Alpha(0.9, 0.8, threshold=0.2, init_hidden=True),
    "alpha none": lambda: snn.Alpha(0.9, 0.8, threshold=0.2, reset_mechanism="none", learn_beta=True),
    "alpha subtract": lambda: snn.Alpha(0.9, each() * 0.8, threshold=0.3, reset_mechanism="subtract"),
    "recurrent": lambda: snn.RLeaky(0.8, V=-0.3, all_to_all=False),
    "recurrent zero": lambda: snn.RLeaky(0.8, V=each() - 0.7, all_to_all=False, reset_mechanism="zero"),
    "recurrent none": lambda: snn.RLeaky(0.8, V=0.2, all_to_all=False, reset_mechanism="none", init_hidden=True),
    "recurrent at once": lambda: snn.RLeaky(0.8, V=0.3, all_to_all=False, reset_delay=False, learn_beta=True),
    "recurrent synaptic": lambda: snn.RSynaptic(0.5, 0.8, V=-0.2, all_to_all=False, learn_recurrent=False),
    "recurrent synaptic zero": lambda: snn.RSynaptic(0.5, 0.8, V=0.2, all_to_all=False, reset_mechanism="zero"),
}  # fmt: skip


class Side(nn.Module):
    """Many neurons on one current, each with all that it keeps recorded."""

    def __init__(self, neurons):
        super().__init__()
        self.neurons = nn.ModuleDict(neurons)

    def forward(self, x):
        utils.reset(self)
        kept, rec = {}, {}
        for name, neuron in self.neurons.items():
            kept[name] = [] if neuron.init_hidden else [torch.zeros_like(x[0]) for _ in STATES[type_of(neuron)]]
        for step in range(x.size(0)):
            for name, neuron in self.neurons.items():
                found = neuron(x[step], *kept[name])
                found = found if isinstance(found, tuple) else (found,)
                if kept[name]:
                    kept[name] = found[-len(kept[name]) :]
                rec.setdefault(name, []).append(found)
        return {n: [torch.stack(train) for train in zip(*found, strict=True)] for n, found in rec.items()}


def type_of(neuron):
    return next(name for name in STATES if isinstance(neuron, getattr(snn, name)))


def drive(seed=0):
    return torch.randn(T, B, N, generator=torch.Generator().manual_seed(seed)) + 0.4
