"""Watch for values that are not finite: name the step and the tensor in which the first one enters training."""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..network.network import HybridNetwork
from ..network.weights import Look

_EVERY = 100  # steps: how often the currents are looked at, and how often a device other than the CPU is waited for


def check_weights(network: nn.Module, when: str) -> None:
    """Raise FloatingPointError if a parameter of ``network`` is not finite, and name it; ``when`` ends the sentence."""
    bad = [name for name, parameter in network.named_parameters() if not parameter.isfinite().all()]
    if bad:
        raise FloatingPointError(f"{_listed(bad)} {_are(bad)} not finite {when}")


class FiniteWatch:
    """Looks for values that are not finite in each step of an epoch, and names the first ones.

    Logits, loss and parameters are looked at in each step. The currents of the spiking layers, which no spike shows,
    are looked at in every hundredth. The first step is noted on the device, so that the CPU does not wait for it. The
    error is raised in that step on a CPU, and up to a hundred steps later on a GPU.

    Args:
        network: the network in training.
        advice: the end of the error's message.
        currents: look at the currents too. A compiled network would be compiled again for that.
    """

    def __init__(self, network: HybridNetwork, advice: str, *, currents: bool = True) -> None:
        self._advice = advice
        parameters = {name: p for name, p in network.named_parameters() if p.requires_grad and p.numel()}
        self._parameters = list(parameters.values())
        self._layers = [layer.neurons for layer in network.spiking] if currents else []
        forward = [f"the current of spiking.{number}" for number in range(len(self._layers))]
        self._forward = len(forward) + 2
        self._names = [*forward, "the logits", "the loss", *parameters]
        self._first = torch.empty(0)
        self._epoch = self._step = 0
        self._current: list[Tensor] = []

    def begin(self, epoch: int, device: torch.device) -> None:
        """Begin ``epoch``, which counts from 1."""
        self._first = torch.full((len(self._names),), -1, device=device)
        self._epoch, self._step = epoch, 0

    @contextmanager
    def step(self) -> Iterator[None]:
        """The forward pass of the next step."""
        self._step += 1
        looked = self._layers if self._step % _EVERY == 1 else []
        self._current = []
        hooks = [
            layer.register_forward_pre_hook(Look(lambda current: self._current.append(_finite(current))))
            for layer in looked
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def forward(self, logits: Tensor, losses: Tensor) -> None:
        """Look at the results of the forward pass.

        Raises:
            FloatingPointError: one of them is not finite.
        """
        current = self._current or [logits.new_ones((), dtype=torch.bool)] * len(self._layers)
        self._note(torch.stack([*current, _finite(logits), _finite(losses)]), slice(0, self._forward))

    def updated(self, last: bool) -> None:
        """Look at the parameters behind the optimizer's step.

        Args:
            last: the step is the last one of the epoch.

        Raises:
            FloatingPointError: one of them is not finite.
        """
        self._note(_all_finite([parameter.detach() for parameter in self._parameters]), slice(self._forward, None))
        if last or self._step % _EVERY == 0:
            self._raise()

    def _note(self, finite: Tensor, where: slice) -> None:
        first = self._first[where]
        # Results of a step come before its update, which they make infinite too.
        number = 2 * self._step + (where.start > 0)
        self._first[where] = torch.where((first < 0) & ~finite, number, first)
        if self._first.device.type == "cpu":
            self._raise()

    def _raise(self) -> None:
        found = self._first.tolist()
        noted = [number for number in found if number >= 0]
        if not noted:
            return
        bad = [name for name, number in zip(self._names, found, strict=True) if number == min(noted)]
        step = min(noted) // 2
        raise FloatingPointError(
            f"{_listed(bad)} {_are(bad)} not finite in epoch {self._epoch}, step {step}: {self._advice}"
        )


def _finite(values: Tensor) -> Tensor:
    return values.detach().isfinite().all()


def _all_finite(tensors: list[Tensor]) -> Tensor:
    """A bool for each of ``tensors``, none of them empty: one pass over each, in the fastest way of its device."""
    if tensors[0].device.type == "cpu":
        extremes = [extreme for tensor in tensors for extreme in tensor.aminmax()]
        return torch.stack(extremes).isfinite().view(-1, 2).all(1)
    return torch.stack(torch._foreach_norm(tensors, math.inf)).isfinite()  # few kernels for all of them


def _listed(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def _are(names: list[str]) -> str:
    return "is" if len(names) == 1 else "are"
