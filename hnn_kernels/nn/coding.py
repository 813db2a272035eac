"""The codings of :mod:`hnn_kernels.coding` as modules."""

import torch
from torch import Tensor, nn

from .. import _checks
from ..coding import encode_duplicate, encode_gaussian, encode_poisson


class _Coding(nn.Module):
    def __init__(self, steps: int, *, backend: str | None = None) -> None:
        super().__init__()
        self.steps = steps
        self.backend = backend

    @property
    def steps(self) -> int:
        """The number of time steps."""
        if not torch.compiler.is_dynamo_compiling():
            return self._steps
        # Dynamo takes an int of a module for a constant, and would compile again for every other number of steps.
        with torch._dynamo.patch_dynamo_config(allow_unspec_int_on_nn_module=True):
            return torch.sym_int(self._steps)

    @steps.setter
    def steps(self, value: int) -> None:
        self._steps = _checks.steps_count("steps", value)

    def extra_repr(self) -> str:
        return f"steps={self.steps}"


class Duplicate(_Coding):
    """Duplicate coding: :func:`hnn_kernels.encode_duplicate` as a layer.

    Args:
        steps: T, at least 0.

    Shape:
        ``[B, *features]`` to ``[steps, B, *features]``.

    Raises:
        TypeError, ValueError: as :func:`hnn_kernels.encode_duplicate`.
    """

    def __init__(self, steps: int) -> None:
        super().__init__(steps)

    def forward(self, value: Tensor) -> Tensor:
        """Return ``value`` at every step."""
        return encode_duplicate(value, self.steps)


class Gaussian(_Coding):
    """Gaussian coding: :func:`hnn_kernels.encode_gaussian` as a layer.

    The layer before it puts out the means and the logarithms of the standard deviations.

    Args:
        steps, backend: as for :func:`hnn_kernels.encode_gaussian`.

    Shape:
        ``[B, 2 F, ...]`` to ``[steps, B, F, ...]``. Axis 1 holds the F means, then the F logarithms; neither is copied.

    Raises:
        TypeError, ValueError, RuntimeError: as :func:`hnn_kernels.encode_gaussian`; a ValueError also where axis 1 is
            missing or odd.
    """

    def forward(self, value: Tensor, *, seed: int | Tensor | None = None) -> Tensor:
        """Return normal numbers around the means, fresh at every step; ``seed`` as for ``encode_gaussian``."""
        _checks.floating("value", value)
        if value.dim() < 2 or value.shape[1] % 2:
            raise ValueError(
                f"value must be [B, 2 F, ...], means and logarithms of deviations; got shape {tuple(value.shape)}"
            )
        mean, log_std = value.tensor_split(2, dim=1)
        return encode_gaussian(mean, log_std, self.steps, seed=seed, backend=self.backend)


class Poisson(_Coding):
    """Poisson coding: :func:`hnn_kernels.encode_poisson` as a layer.

    Args:
        steps, backend: as for :func:`hnn_kernels.encode_poisson`.

    Shape:
        ``[B, *features]`` to ``[steps, B, *features]``.

    Raises:
        TypeError, ValueError, RuntimeError: as :func:`hnn_kernels.encode_poisson`.
    """

    def forward(self, probability: Tensor, *, seed: int | Tensor | None = None) -> Tensor:
        """Return a spike train of these probabilities; ``seed`` as for ``encode_poisson``."""
        return encode_poisson(probability, self.steps, seed=seed, backend=self.backend)
