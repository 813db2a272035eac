"""A product of weights with a spike train: forward, and the gradients of the weight and the bias."""

import torch
from torch import nn

from .fairness import ROUNDING, SHORT_ROUNDING, check_product
from .layer import MakeProduct, Provider, Weights, multiplier
from .workloads import Work, Workload, rotated


class SpikeProduct(Workload):
    """A dense layer or a convolution behind a train of the operation's density.

    The gradient of the input is left out: it is the same dense product for all. The images of a convolution, and its
    weights, are channels-last, which is the fastest layout for torch and for ours.
    """

    weights: Weights

    def build(self) -> None:
        """Choose the trains and the weights."""
        *shape, outputs = self.case.shape
        train = torch.empty(shape, device=self.device)
        if len(shape) == 4:
            train = train.contiguous(memory_format=torch.channels_last)
            self.weights = nn.Conv2d(shape[1], outputs, 3, device=self.device).to(memory_format=torch.channels_last)
        else:
            self.weights = nn.Linear(shape[1], outputs, device=self.device)
        with torch.no_grad():
            out = self.weights(train.zero_())
        self.neuron_steps = out.numel()
        self.items = [
            (torch.empty_like(train).bernoulli_(self.op.density), torch.randn_like(out).to(self.dtype))
            for _ in range(rotated(train.nbytes, self.device))
        ]

    def of(self, provider: Provider) -> Work:
        """The product of ``provider``."""
        multiplies = multiplier(provider)
        return self.product(lambda weights: multiplies.product(weights, self.device))

    def product(self, make: MakeProduct) -> Work:
        """The operation with a product from ``make``."""
        product, leaves = make(self.weights), tuple(self.weights.parameters())
        allowed = ROUNDING if self.case.dtype == "float32" else SHORT_ROUNDING
        return Work(
            self.items,
            lambda train, _: product.run(train),
            lambda out, train, grad: torch.autograd.grad(out, leaves, grad),
            lambda: [check_product(product, self.weights, *self.items[0], allowed)],
        )
