"""``nn.Linear`` and ``nn.Conv2d`` behind a spike train."""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from ..products import spike_conv2d, spike_linear


class SpikeLinear(nn.Linear):
    """``nn.Linear`` for spike trains: :func:`hnn_kernels.spike_linear` as a layer.

    It takes the place of an ``nn.Linear`` whose input holds 0 and 1: parameters, their names and their initial values
    are the same, so one loads the state of the other.

    Args:
        in_features, out_features, bias, device, dtype: as for ``nn.Linear``.
        backend: as for :func:`hnn_kernels.spike_linear`.

    Shape:
        ``[*, in_features]`` to ``[*, out_features]``.

    Raises:
        TypeError, ValueError, RuntimeError: as :func:`hnn_kernels.spike_linear`; a ValueError for an input with another
            value than 0 and 1.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        backend: str | None = None,
    ) -> None:
        super().__init__(in_features, out_features, bias, device, dtype)
        self.backend = backend

    def forward(self, input: Tensor) -> Tensor:
        """Return the product of a train of 0 and 1 with the weight, plus the bias."""
        return spike_linear(input, self.weight, self.bias, backend=self.backend)


class SpikeConv2d(nn.Conv2d):
    """``nn.Conv2d`` for spike trains: :func:`hnn_kernels.spike_conv2d` as a layer.

    It takes the place of an ``nn.Conv2d`` whose input holds 0 and 1, as :class:`SpikeLinear` does of an ``nn.Linear``.
    All strides, paddings, padding modes, dilations and groups are allowed; those that the kernel does not take are
    torch's product, with the input kept as bits.

    Args:
        in_channels, out_channels, kernel_size: as for ``nn.Conv2d``.
        options: stride, padding, dilation, groups, bias, padding_mode, device and dtype of ``nn.Conv2d``, in its order
            or by name.
        backend: as for :func:`hnn_kernels.spike_conv2d`.

    Shape:
        ``[B, in_channels, H, W]`` to ``[B, out_channels, H', W']``, channels-last in memory; or both without B.

    Raises:
        TypeError, ValueError, RuntimeError: as :func:`hnn_kernels.spike_conv2d`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        *options: Any,
        backend: str | None = None,
        **named: Any,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, *options, **named)
        self.backend = backend

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        padding: Any = self.padding
        if self.padding_mode != "zeros":
            input = functional.pad(input, self._reversed_padding_repeated_twice, mode=self.padding_mode)
            padding = 0
        return spike_conv2d(input, weight, bias, self.stride, padding, self.dilation, self.groups, backend=self.backend)
