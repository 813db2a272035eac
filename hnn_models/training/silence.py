"""Silent layers: the firing rate of each spiking layer, and a warning if a layer never fires or gets no gradient."""

import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from ..network.activity import activity_of_features, fires
from ..network.network import HybridNetwork
from ..network.tokens import Token

if TYPE_CHECKING:
    from ..network.layers import SpikingLayer

_IMAGES = 16  # of the first validation batch: enough for a rate, and far less work than a training step
_PATIENCE = 200  # steps: a network may be silent at first
_LEARNT = 0.1  # a loss below this one may well have a gradient of zero


class SilenceWatch:
    """Measures the firing rates of a network in training once per epoch, and warns once of a silent layer.

    The warning comes at the end of an epoch, once 200 steps have been trained or in the last epoch of a shorter run. If
    that is its only epoch, the network may well wake up in the next: a layer that fires too rarely is then named only
    together with all others. It names

    - the layers in which no neuron fires at any step, on more than half of the images that the rates are measured on;
    - the layers whose weights get no gradient in the epoch's last step: none of them reaches Adam's epsilon, so that
      Adam does not move them. A step whose loss is small has nothing left to learn, and does not count.

    Args:
        network: the network in training.
    """

    def __init__(self, network: HybridNetwork) -> None:
        self._network = network
        self._quiet: dict[str, Tensor] = {}
        self._images = 0
        self._unmoved: list[str] = []
        self._warned = False

    @torch.no_grad()
    def rates(self, inputs: Tensor, from_features: bool) -> dict[str, Tensor]:
        """The firing rate of each spiking layer that fires, in spikes per neuron and step, on the first of ``inputs``.

        The network's random numbers are as they were before.

        Args:
            inputs: images ``[B, *input_shape]``, or features ``[B, *features_shape]``.
            from_features: True if they are features.

        Returns:
            The rates by ``"rate_N_TOKEN"``, such as ``"rate_1_S500"``; N counts the spiking layers from 1.
        """
        network, few = self._network, inputs[:_IMAGES]
        with torch.random.fork_rng(devices=[few.device] if few.is_cuda else []):
            features = few if from_features else network.encode_features(few)
            works = activity_of_features(network, features)
            measured = [
                (work.spikes.mean(dtype=torch.float32), (work.spikes.flatten(2).amax((0, 2)) == 0).sum())
                for work in works
                if fires(work.layer.neurons)
            ]
        rates: dict[str, Tensor] = {}
        self._quiet, self._images = {}, len(few)
        spiking = [(name, token.text) for name, token, _ in self._layers() if token.spiking]
        spiking = spiking[: len(measured)]  # a last layer that is read by its membrane potential does not fire
        for number, ((name, text), (rate, quiet)) in enumerate(zip(spiking, measured, strict=True), 1):
            rates[f"rate_{number}_{text}"] = rate
            self._quiet[name] = quiet
        return rates

    def gradients(self, loss: Tensor, epsilon: float) -> None:
        """Look at the gradients of a step.

        Args:
            loss: the mean loss of the step.
            epsilon: that of Adam.
        """
        self._unmoved = []
        found = {name: largest for name, _, module in self._layers() if (largest := _largest(module)) is not None}
        if found and loss.item() > _LEARNT:
            values = torch.stack(list(found.values())).tolist()
            self._unmoved = [name for name, value in zip(found, values, strict=True) if value < epsilon]

    def warn(self, epoch: int, step: int, lr: float, last: bool) -> None:
        """Warn of silent layers, unless that has been done or is too early.

        Args:
            epoch: the epoch that has ended, from 1.
            step: the number of steps so far.
            lr: the learning rate of the protocol.
            last: True for the last epoch of the run.
        """
        if self._warned or not (last or step >= _PATIENCE):
            return
        quiet = {name: count.item() for name, count in self._quiet.items()}
        silent = [f"in {name} on {n}" for name, n in quiet.items() if n > self._images / 2]
        early = epoch == 1 and step < _PATIENCE and len(silent) < len(quiet)
        if not self._unmoved and (early or not silent):
            return
        self._warned = True
        found = []
        if silent:
            found.append(f"no neuron fires {', '.join(silent)} of {self._images} validation images")
        if self._unmoved:
            found.append(f"no gradient arrives at the weights of {', '.join(self._unmoved)}")
        warnings.warn(
            f"after epoch {epoch}, {', and '.join(found)}. What helps: {', '.join(self._remedies(lr))}",
            stacklevel=2,
        )

    def _remedies(self, lr: float) -> Iterator[str]:
        config = self._network.settings
        if self._network.spiking:
            yield f"a larger gain of the initial weights (gain, --gain; it is {config.gain:g})"
            if config.input == "direct" and config.axon is not None:
                yield "axon input (input='axon', --input axon)"
            threshold = cast("SpikingLayer", self._network.spiking[-1]).neurons.threshold
            if isinstance(threshold, float):
                yield f"a lower threshold (threshold; it is {threshold:g})"
        yield f"more epochs, or a higher learning rate (lr, --lr; it is {lr:g})"

    def _layers(self) -> Iterator[tuple[str, Token, nn.Module]]:
        """The layers with weights: a name that says where the layer is, its token, the module of its weights."""
        layers = [(token, module) for token, _, module in self._network.modules_by_token() if token.weighted]
        for place, (token, module) in enumerate(layers, 1):
            yield (
                f"{token.text} (layer {place})",
                token,
                cast("SpikingLayer", module).weights if token.spiking else module,
            )


def _largest(module: nn.Module) -> Tensor | None:
    """The largest absolute gradient of the parameters of ``module`` that are trained; None if there are none."""
    trained = [p for p in module.parameters() if p.requires_grad and p.numel()]
    if not trained:
        return None
    gradients = [p.grad.abs().amax() for p in trained if p.grad is not None]
    return torch.stack(gradients).amax().float() if gradients else trained[0].new_zeros((), dtype=torch.float32)
