"""Modules of a single time step, applied to every step."""

from torch import Tensor, nn


class EachStep(nn.Sequential):
    """Modules that take each time step by itself, such as a convolution: T and B are one axis for them.

    ``nn.Linear``, activations and dropout take any leading axes and need no EachStep. Convolutions, pools, batch
    normalisation and ``nn.Flatten`` count axes from the front and do.

    Args:
        modules: modules in the order of their calls, as for ``nn.Sequential``.

    Shape:
        ``[T, B, *in]`` to ``[T, B, *out]``, where the modules turn ``[T * B, *in]`` into ``[T * B, *out]``.

    Raises:
        ValueError: an input without the axes T and B.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return what the modules make of each step of ``input``."""
        if input.dim() < 2:
            raise ValueError(f"input must be [T, B, *features]; got shape {tuple(input.shape)}")
        return super().forward(input.flatten(0, 1)).unflatten(0, input.shape[:2])
