"""Codings as modules."""

from torch import Tensor, nn

from .. import checks
from ..coding import encode_duplicate


class Duplicate(nn.Module):
    """:func:`hnn_kernels.encode_duplicate` as a layer: ``[B, *features]`` to ``[steps, B, *features]``."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        checks.steps_count("steps", steps)
        self.steps = steps

    def forward(self, value: Tensor) -> Tensor:
        return encode_duplicate(value, self.steps)

    def extra_repr(self) -> str:
        return f"steps={self.steps}"
