"""``nn.Flatten`` behind pooling."""

import torch
from torch import Tensor, nn


class _SameLayout(torch.autograd.Function):
    """The identity, whose gradient lies in memory as its input does."""

    generate_vmap_rule = True

    @staticmethod
    def forward(image: Tensor) -> Tensor:
        return image.view_as(image)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        pass

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        return grad.contiguous(memory_format=torch.channels_last)

    @staticmethod
    def jvp(ctx, tangent: Tensor) -> Tensor:
        return tangent.view_as(tangent)


class Flatten(nn.Flatten):
    """``nn.Flatten`` whose gradient is channels-last in memory where the images are.

    The gradient of what is flat is not, and torch's pooling takes several times as long for a gradient in another
    layout than its input (docs/measured.md).
    """

    def forward(self, input: Tensor) -> Tensor:
        if input.dim() == 4 and not input.is_contiguous() and input.is_contiguous(memory_format=torch.channels_last):
            input = _SameLayout.apply(input)
        return super().forward(input)
