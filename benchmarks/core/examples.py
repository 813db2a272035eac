"""Example networks of other libraries: a training step as they are, and with this project's kernels.

The networks are the libraries' own examples, or as near as their data allows. :func:`hnn_kernels.convert` changes the
neurons of ``converted_*``, which get all time steps in one call, but for those of ``converted_tutorial``;
``unrolled_*`` are loops of snnTorch's tutorials, of which :func:`hnn_kernels.unroll` makes calls over all steps.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import hnn_kernels

from .fairness import Agreement, DisagreementError
from .layer import Converter, Provider, Unsupported
from .operations import Op
from .workloads import Work, Workload

HIDDEN, CLASSES = 256, 10
# A product over all steps may round otherwise than those of single steps, and a spike then falls otherwise. Of these
# networks' spikes up to 3e-4 do; where none does, gradients agree to 1e-5 of their size.
DIFFERING, GRADIENT = 1e-3, 1e-5


class Example(NamedTuple):
    """A network of another library.

    Attributes:
        make: makes it for a number of steps and of inputs.
        draw: makes an input from the shape ``[T, B, *features]``.
        neurons: the neurons of all layers, for one image.
        spikes: gives the spikes ``[T, B, classes]`` of its output.
        reset: the library's reset between two batches.
        potentials: True if the potentials, which its output has behind the spikes, are a part of the loss.
    """

    make: Callable[[int, int], nn.Module]
    draw: Callable[[tuple[int, ...]], Tensor]
    neurons: int
    spikes: Callable[[Any], Tensor]
    reset: Callable[[nn.Module], Any] = id
    potentials: bool = False


# -- networks that get all steps in a call -----------------------------------------------------------------------------


def _train(shape: tuple[int, ...]) -> Tensor:
    return (torch.rand(shape) < 0.3).float() * 3


def spikingjelly_perceptron(steps: int, inputs: int) -> nn.Module:
    """SpikingJelly's lif_fc_mnist with a hidden layer, in step mode m."""
    from spikingjelly.activation_based import functional, layer, neuron, surrogate

    given = {"surrogate_function": surrogate.ATan(), "v_threshold": 0.5}
    network = nn.Sequential(
        layer.Linear(inputs, HIDDEN), neuron.LIFNode(**given), layer.Linear(HIDDEN, CLASSES), neuron.LIFNode(**given)
    )
    functional.set_step_mode(network, "m")
    return network


def spikingjelly_convolutions(steps: int, inputs: int) -> nn.Module:
    """SpikingJelly's conv_fashion_mnist with 32 channels."""
    from spikingjelly.activation_based import functional, layer, neuron, surrogate

    def stage(channels: int) -> list[nn.Module]:
        convolution = layer.Conv2d(channels, 32, kernel_size=3, padding=1, bias=False)
        return [convolution, layer.BatchNorm2d(32), fire(), layer.MaxPool2d(2, 2)]

    def fire() -> nn.Module:
        return neuron.IFNode(surrogate_function=surrogate.ATan())

    network = nn.Sequential(
        *stage(inputs), *stage(32), layer.Flatten(), layer.Linear(32 * 7 * 7, 32 * 4 * 4, bias=False), fire(),
        layer.Linear(32 * 4 * 4, CLASSES, bias=False), fire(),
    )  # fmt: skip
    functional.set_step_mode(network, "m")
    return network


def _reset_spikingjelly(network: nn.Module) -> None:
    from spikingjelly.activation_based import functional

    functional.reset_net(network)


def sinabs_perceptron(steps: int, inputs: int) -> nn.Module:
    """Linear layers and sinabs' LIF and IAF, as its documentation sets them: several spikes a step, min_v_mem -1."""
    import sinabs.activation as sa
    import sinabs.layers as sl

    given = {"min_v_mem": -1.0, "surrogate_grad_fn": sa.PeriodicExponential()}
    return nn.Sequential(
        nn.Linear(inputs, HIDDEN), sl.LIF(tau_mem=20.0, **given), nn.Linear(HIDDEN, CLASSES), sl.IAF(**given)
    )


def _reset_sinabs(network: nn.Module) -> None:
    import sinabs

    sinabs.reset_states(network)


def norse_perceptron(steps: int, inputs: int) -> nn.Module:
    """Norse's SequentialState of linear layers, LIF, and LI as the read-out."""
    import norse.torch as nt

    return nt.SequentialState(nn.Linear(inputs, HIDDEN), nt.LIF(), nn.Linear(HIDDEN, CLASSES), nt.LI())


# -- loops over time ---------------------------------------------------------------------------------------------------


class Tutorial(nn.Module):
    """The network of snnTorch's tutorial 5. Its output is the spikes and the potentials, ``[T, B, 10]``."""

    def __init__(self, steps: int, inputs: int, hidden: int = 1000) -> None:
        super().__init__()
        import snntorch as snn

        self.steps = steps
        self.fc1, self.lif1 = nn.Linear(inputs, hidden), snn.Leaky(beta=0.95)
        self.fc2, self.lif2 = nn.Linear(hidden, CLASSES), snn.Leaky(beta=0.95)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        spikes, potentials = [], []
        for _ in range(self.steps):
            spk1, mem1 = self.lif1(self.fc1(x), mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
            spikes.append(spk2)
            potentials.append(mem2)
        return torch.stack(spikes, dim=0), torch.stack(potentials, dim=0)


class Hidden(nn.Module):
    """The network of tutorial 5 whose neurons keep their states."""

    def __init__(self, steps: int, inputs: int) -> None:
        super().__init__()
        import snntorch as snn

        self.steps = steps
        self.net = nn.Sequential(
            nn.Linear(inputs, 1000), snn.Leaky(beta=0.95, init_hidden=True),
            nn.Linear(1000, CLASSES), snn.Leaky(beta=0.95, init_hidden=True, output=True),
        )  # fmt: skip

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        from snntorch import utils

        utils.reset(self.net)
        spikes, potentials = zip(*(self.net(x) for _ in range(self.steps)), strict=True)
        return torch.stack(spikes), torch.stack(potentials)


class Train(nn.Module):
    """Three layers behind an input that changes with time."""

    def __init__(self, steps: int, inputs: int) -> None:
        super().__init__()
        import snntorch as snn

        self.fcs = nn.ModuleList([nn.Linear(inputs, 300), nn.Linear(300, 300), nn.Linear(300, CLASSES)])
        self.lifs = nn.ModuleList([snn.Leaky(beta=0.9, learn_beta=True) for _ in self.fcs])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mems = [lif.init_leaky() for lif in self.lifs]
        spikes = []
        for step in range(x.shape[0]):
            spk = x[step]
            for i, (fc, lif) in enumerate(zip(self.fcs, self.lifs, strict=True)):
                spk, mems[i] = lif(fc(spk), mems[i])
            spikes.append(spk)
        return torch.stack(spikes), mems[-1]


class Convolution(nn.Module):
    """The network of tutorial 6."""

    def __init__(self, steps: int, inputs: int) -> None:
        super().__init__()
        import snntorch as snn
        from snntorch import surrogate

        self.steps = steps
        slope = surrogate.fast_sigmoid(slope=25)
        self.conv1, self.lif1 = nn.Conv2d(inputs, 12, 5), snn.Leaky(beta=0.5, spike_grad=slope)
        self.conv2, self.lif2 = nn.Conv2d(12, 64, 5), snn.Leaky(beta=0.5, spike_grad=slope)
        self.fc1, self.lif3 = nn.Linear(64 * 4 * 4, CLASSES), snn.Leaky(beta=0.5, spike_grad=slope)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mem1, mem2, mem3 = self.lif1.init_leaky(), self.lif2.init_leaky(), self.lif3.init_leaky()
        spikes, potentials = [], []
        for _ in range(self.steps):
            spk1, mem1 = self.lif1(nn.functional.max_pool2d(self.conv1(x), 2), mem1)
            spk2, mem2 = self.lif2(nn.functional.max_pool2d(self.conv2(spk1), 2), mem2)
            spk3, mem3 = self.lif3(self.fc1(spk2.flatten(1)), mem3)
            spikes.append(spk3)
            potentials.append(mem3)
        return torch.stack(spikes), torch.stack(potentials)


def _image(shape: tuple[int, ...]) -> Tensor:
    return torch.rand(shape[1:])


def _first(out: Any) -> Tensor:
    return out[0]


_LOOP = {"spikes": _first, "potentials": True}

# By the name of the operation.
EXAMPLES: Mapping[str, Example] = {
    "converted_spikingjelly_mlp": Example(
        spikingjelly_perceptron, _train, HIDDEN + CLASSES, lambda out: out, _reset_spikingjelly
    ),
    "converted_spikingjelly_cnn": Example(
        spikingjelly_convolutions, torch.rand, 32 * (28**2 + 14**2 + 4**2) + CLASSES, lambda out: out,
        _reset_spikingjelly,
    ),
    "converted_sinabs_mlp": Example(
        sinabs_perceptron, lambda shape: _train(shape).transpose(0, 1), HIDDEN + CLASSES,
        lambda out: out.transpose(0, 1), _reset_sinabs,
    ),
    "converted_norse_mlp": Example(norse_perceptron, lambda shape: 5 * _train(shape), HIDDEN + CLASSES, _first),
    "converted_tutorial": Example(Tutorial, _image, 1000 + CLASSES, **_LOOP),
    "unrolled_tutorial": Example(Tutorial, _image, 1000 + CLASSES, **_LOOP),
    "unrolled_hidden": Example(Hidden, _image, 1000 + CLASSES, **_LOOP),
    "unrolled_train": Example(Train, torch.rand, 300 + 300 + CLASSES, **_LOOP),
    "unrolled_convolution": Example(Convolution, _image, 12 * 12**2 + 64 * 4**2 + CLASSES, **_LOOP),
}  # fmt: skip
GAIN = 4.0  # with their first weights the last layers would be silent, and equal spikes would prove nothing


def concerned(provider: Provider, op: Op) -> bool:
    """Tell if a provider has a part in an operation: in an example the library has it, and what converts."""
    return not op.library or provider.name == op.library or isinstance(provider, Converter)


class ExampleStep(Workload):
    """A training step of an example on the same batch each time, as its library computes it and as this project does.

    Forward is the library's reset, the network and its loss, backward the gradients and a fused Adam.
    """

    def build(self) -> None:
        """Make both networks with the same weights, and the batch."""
        steps, batch, inputs, *_ = self.case.shape
        self.example = EXAMPLES[self.op.name]
        if self.op.library == "snntorch":
            import snntorch

            snntorch.SpikingNeuron.init()  # its resets go over all neurons that there are
        with torch.random.fork_rng():
            torch.manual_seed(0)
            x = self.example.draw(self.case.shape).to(self.device)
            self.networks = [self.example.make(steps, inputs).to(self.device) for _ in range(2)]
        plain, other = self.networks
        with torch.no_grad():
            for module in plain.modules():
                if isinstance(module, nn.Linear | nn.Conv2d):
                    module.weight.mul_(GAIN)
        other.load_state_dict(plain.state_dict())
        self.items = [(x, torch.arange(batch, device=self.device) % CLASSES)]
        self.neuron_steps = steps * batch * self.example.neurons

    def of(self, provider: Provider) -> Work:
        """The step of a library's own network, or that of its twin on our kernels."""
        plain, other = self.networks
        if provider.name == self.op.library:
            return self._step(plain, plain)
        if not isinstance(provider, Converter):
            raise Unsupported(f"the network is one of {self.op.library}")
        provider.converts(self.device)
        if self.op.name.startswith("unrolled"):
            return self._step(hnn_kernels.unroll(other), plain)
        report = hnn_kernels.convert(other)
        if report.left:
            raise DisagreementError(str(report))
        return self._step(other, plain)

    def _loss(self, network: nn.Module, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        self.example.reset(network)
        out = network(x)
        spikes = self.example.spikes(out)
        loss = nn.functional.cross_entropy(spikes.sum(0) if self.example.potentials else spikes.mean(0), labels)
        return (loss + 0.1 * out[1].pow(2).mean() if self.example.potentials else loss), spikes

    def _step(self, network: nn.Module, plain: nn.Module) -> Work:
        # With a learning rate of 0 Adam does all its work, and the spike rate stays the same.
        optimizer = torch.optim.Adam(network.parameters(), lr=0.0, fused=True)

        def backward(loss: Tensor, x: Tensor, labels: Tensor) -> None:
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

        return Work(
            self.items,
            lambda x, labels: self._loss(network, x, labels)[0],
            backward,
            lambda: [self._agreement(network, plain)],
            data=True,
        )

    def _agreement(self, network: nn.Module, plain: nn.Module) -> Agreement:
        """Compare spikes and gradients with those of the library.

        Raises:
            DisagreementError: they differ, nothing fires, or layers of a loop are left.
        """
        left = [str(layer) for layer in getattr(network, "report", ()) if not layer.unrolled]
        if getattr(network, "refused", "") or left:
            raise DisagreementError("; ".join((network.refused, *left)))
        found = []
        for one in (network, plain):
            loss, spikes = self._loss(one, *self.items[0])
            learnt = [parameter for parameter in one.parameters() if parameter.requires_grad]
            gradients = torch.autograd.grad(loss, learnt, allow_unused=True)
            found.append((spikes.detach(), [gradient for gradient in gradients if gradient is not None]))
        (got, ours), (expected, theirs) = found
        # Norse's read-out has potentials, which are equal up to rounding.
        differing = ((got - expected).abs() > 1e-4).float().mean().item()
        if differing > DIFFERING or not expected.any():
            raise DisagreementError(f"{differing:.2e} of the spikes differ, and {expected.float().mean():.2e} fire")
        for one, other in zip(ours, theirs, strict=True):
            error = (one - other).norm() / other.norm().clamp_min(1e-30)
            if not differing and not error <= GRADIENT:
                raise DisagreementError(f"a gradient differs by {error:.2e}")
        note = f"{differing:.1e} of the spikes differ by the rounding of products" if differing else ""
        spikes = bool((expected == expected.round()).all())  # and no potentials of a read-out
        return Agreement(expected.float().mean().item() if spikes else None, (note,))
