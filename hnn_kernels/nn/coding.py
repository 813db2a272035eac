"""Codings as modules."""

from torch import Tensor, nn

from .. import _checks
from ..coding import encode_duplicate, encode_gaussian, encode_poisson


class _Coding(nn.Module):
    def __init__(self, steps: int, *, backend: str | None = None) -> None:
        super().__init__()
        _checks.steps_count("steps", steps)
        self.steps = steps
        self.backend = backend

    def extra_repr(self) -> str:
        return f"steps={self.steps}"


class Duplicate(_Coding):
    """:func:`hnn_kernels.encode_duplicate` as a layer: ``[B, *features]`` to ``[steps, B, *features]``."""

    def __init__(self, steps: int) -> None:
        super().__init__(steps)

    def forward(self, value: Tensor) -> Tensor:
        return encode_duplicate(value, self.steps)


class Gaussian(_Coding):
    """:func:`hnn_kernels.encode_gaussian` as a layer behind one that puts out means and logarithms of deviations.

    Args:
        steps, backend: as for :func:`hnn_kernels.encode_gaussian`.

    Shape:
        ``[B, 2 F, ...]``, the means and then the logarithms along axis 1, to ``[steps, B, F, ...]``. Neither is copied.
    """

    def forward(self, value: Tensor, *, seed: int | Tensor | None = None) -> Tensor:
        _checks.floating("value", value)
        if value.dim() < 2 or value.shape[1] % 2:
            raise ValueError(
                f"value must be [B, 2 F, ...], means and logarithms of deviations; got shape {tuple(value.shape)}"
            )
        mean, log_std = value.tensor_split(2, dim=1)
        return encode_gaussian(mean, log_std, self.steps, seed=seed, backend=self.backend)


class Poisson(_Coding):
    """:func:`hnn_kernels.encode_poisson` as a layer: ``[B, *features]`` to ``[steps, B, *features]``.

    Args:
        steps, backend: as for :func:`hnn_kernels.encode_poisson`.
    """

    def forward(self, probability: Tensor, *, seed: int | Tensor | None = None) -> Tensor:
        return encode_poisson(probability, self.steps, seed=seed, backend=self.backend)
