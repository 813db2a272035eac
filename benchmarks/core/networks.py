"""A training step of one of the paper's networks, whose neurons come from a provider."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from hnn_models import HybridNetwork
from hnn_models.analysis.timing import currents

from ..providers import Layer
from .cases import Dynamics
from .fairness import reference
from .workloads import MakeLayer, Work, Workload, scale


class Neurons(nn.Module):
    """A provider's layer in the place of :class:`hnn_kernels.nn.LIF`; the last one of a network gives spike counts."""

    def __init__(self, layer: Layer, last: bool) -> None:
        super().__init__()
        self.layer, self.last = layer, last

    def forward(self, current: Tensor, steps: int | None = None) -> Tensor:
        """``[T, B, *features]``, or ``[B, *features]`` of ``steps`` equal ones, to the train or the counts."""
        train = self.layer.run(current if steps is None else current.expand(steps, *current.shape))
        return train.sum(0) if self.last else train


class Step(Workload):
    """Forward and cross-entropy over the counts, then backward and Adam in one kernel, on the same batch each time.

    The images need no gradient.
    """

    def build(self) -> None:
        """Choose a batch and weights."""
        steps, batch, *image = self.case.shape
        network = self._network(lambda dynamics, _: Layer(lambda current: reference(current, dynamics), dynamics))
        images = torch.rand(batch, *image, device=self.device)
        self.items = [(images, torch.randint(network.classes, (batch,), device=self.device))]
        for layer in network.spiking:  # those before are done, and give this one its input
            current = dict(_currents(network, images))[layer.neurons]
            scale(layer.weights, current, layer.neurons.layer.dynamics)
        self.parameters = network.state_dict()
        shapes = [shape for part, shape, module in network.modules_by_layer() if module is not None and part.spiking]
        self.neuron_steps = steps * batch * sum(map(math.prod, shapes))

    def work(self, make: MakeLayer) -> Work:
        """A step of a network of its own."""
        network = self._network(make)
        network.load_state_dict(self.parameters)
        learnt = [tensor for layer in network.spiking for tensor in layer.neurons.layer.learnt]
        # Adam does all its work, but nothing moves: every step is the same, at the same spike rate.
        optimizer = torch.optim.Adam([*network.parameters(), *learnt], lr=0.0, fused=True)

        def forward(images: Tensor, labels: Tensor) -> Tensor:
            return nn.functional.cross_entropy(network(images), labels)

        def backward(loss: Tensor, images: Tensor, labels: Tensor) -> None:
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

        def layers() -> Iterator[tuple[Layer, Tensor]]:
            for neurons, current in _currents(network, self.items[0][0]):
                yield neurons.layer, current

        return Work(self.items, forward, backward, layers)

    def _network(self, make: MakeLayer) -> HybridNetwork:
        steps, _, *image = self.case.shape
        axon = "dual_exponential" if self.op.dynamics.axon else None
        network = HybridNetwork(self.op.architecture, tuple(image), steps=steps, axon=axon).to(self.device)
        layers = [(shape, module) for part, shape, module in network.modules_by_layer() if module and part.spiking]
        for shape, module in layers:
            last = module is network.spiking[-1]
            dynamics: Dynamics = self.op.dynamics
            if last:
                dynamics = dynamics._replace(axon=False, learnt=False)
            module.neurons = Neurons(make(dynamics, tuple(shape)), last)
        return network


def _currents(network: HybridNetwork, images: Tensor) -> list[tuple[Neurons, Tensor]]:
    """What the neurons of each spiking layer of ``network`` get, ``[T, B, *features]``.

    The graph is made as in training: without it, a compiled layer would compile again.
    """
    return [
        (neurons, current if options["steps"] is None else current.expand(options["steps"], *current.shape))
        for neurons, current, options in currents(network, images)
    ]
