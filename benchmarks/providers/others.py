"""Libraries that were looked at and cannot be compared, so that a table says why they are not in it."""

import torch

from ..core.cases import Dynamics
from . import Layer, Unsupported


class Other:
    """A library without such a layer, installed or not."""

    def __init__(self, name: str, why: str) -> None:
        self.name, self.why = name, why

    def version(self) -> str:
        return ""

    def layer(self, wanted: Dynamics, features: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Layer:
        raise Unsupported(self.why)


OTHERS = (
    Other("snntorch over all steps", "its LeakyParallel and StateLeaky have no reset"),
    Other("rockpool", "its LIFTorch always has a synapse, bursts within a step, and a one-sided surrogate"),
    Other("spyx", "it runs in JAX"),
    Other("lava-dl", "PyPI has no release that this Python can install"),
    Other("bindsnet", "its neurons have no gradient"),
)
