"""A training step of one of the paper's networks with a provider's neurons."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from hnn_models import HybridNetwork
from hnn_models.analysis.timing import currents

from .fairness import Agreement, check, reference
from .layer import Layer, MakeLayer
from .operations import Dynamics
from .workloads import Work, Workload, scale


class Neurons(nn.Module):
    """A provider's layer in the place of :class:`hnn_kernels.nn.LIF`.

    Args:
        layer: the provider's layer.
        last: return spike counts, as the last layer of a network does.
    """

    def __init__(self, layer: Layer, last: bool) -> None:
        super().__init__()
        self.layer, self.last = layer, last

    def forward(self, current: Tensor, steps: int | None = None) -> Tensor:
        """The train ``[T, B, *features]``, or the counts ``[B, *features]`` of the last layer.

        Args:
            current: the current ``[T, B, *features]``; with ``steps``, ``[B, *features]``, equal at every step.
            steps: the number of steps of a constant current.
        """
        train = self.layer.run(current if steps is None else current.expand(steps, *current.shape))
        return train.sum(0) if self.last else train


class Step(Workload):
    """A training step on the same batch each time.

    Forward is the network and the cross-entropy over its spike counts, backward the gradients and a fused Adam. The
    images need no gradient.
    """

    def build(self) -> None:
        """Choose the batch and the weights."""
        steps, batch, *image = self.case.shape
        network = self._network(lambda dynamics, _: Layer(lambda current: reference(current, dynamics), dynamics))
        images = torch.rand(batch, *image, device=self.device)
        self.items = [(images, torch.randint(network.classes, (batch,), device=self.device))]
        for layer in network.spiking:  # from first to last, because each gives the next its input
            current = dict(_currents(network, images))[layer.neurons]
            scale(layer.weights, current, layer.neurons.layer.dynamics)
        self.parameters = network.state_dict()
        shapes = [shape for part, shape, module in network.modules_by_layer() if module is not None and part.spiking]
        self.neuron_steps = steps * batch * sum(map(math.prod, shapes))

    def work(self, make: MakeLayer) -> Work:
        """A step of a new network with layers from ``make``."""
        network = self._network(make)
        network.load_state_dict(self.parameters)
        learnt = [tensor for layer in network.spiking for tensor in layer.neurons.layer.learnt]
        # With a learning rate of 0 Adam does all its work, and the spike rate stays the same.
        optimizer = torch.optim.Adam([*network.parameters(), *learnt], lr=0.0, fused=True)

        def forward(images: Tensor, labels: Tensor) -> Tensor:
            return nn.functional.cross_entropy(network(images), labels)

        def backward(loss: Tensor, images: Tensor, labels: Tensor) -> None:
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

        def checks() -> Iterator[Agreement]:
            for neurons, current in _currents(network, self.items[0][0]):
                yield check(neurons.layer, current, self._wanted(neurons.last))

        return Work(self.items, forward, backward, checks, data=True)

    def _network(self, make: MakeLayer) -> HybridNetwork:
        steps, _, *image = self.case.shape
        axon = "dual_exponential" if self.op.dynamics.axon else None
        network = HybridNetwork(self.op.architecture, tuple(image), steps=steps, axon=axon).to(self.device)
        layers = [(shape, module) for part, shape, module in network.modules_by_layer() if module and part.spiking]
        for shape, module in layers:
            last = module is network.spiking[-1]
            module.neurons = Neurons(make(self._wanted(last), tuple(shape)), last)
        return network

    def _wanted(self, last: bool) -> Dynamics:
        """The dynamics of a layer. The last one of a network has no axon."""
        dynamics = self.op.dynamics
        return dynamics._replace(axon=False, learnt=False) if last else dynamics


def _currents(network: HybridNetwork, images: Tensor) -> list[tuple[Neurons, Tensor]]:
    """The neurons of each spiking layer of ``network``, with their current ``[T, B, *features]``.

    Autograd records the pass, as in training. Otherwise a compiled layer would compile again.
    """
    return [
        (neurons, current if options["steps"] is None else current.expand(options["steps"], *current.shape))
        for neurons, current, options in currents(network, images)
    ]
