"""Libraries that cannot be compared. A table lists them with the reason."""

import torch

from ..core.layer import Layer, Unsupported
from ..core.operations import Dynamics


class Other:
    """A library without a comparable layer, for the reason ``why``, installed or not."""

    def __init__(self, name: str, why: str) -> None:
        self.name, self.why = name, why

    def version(self) -> str:
        return ""

    def layer(self, wanted: Dynamics, features: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Layer:
        raise Unsupported(self.why)


PROVIDERS = (
    Other("snntorch over all steps", "its LeakyParallel and StateLeaky have no reset"),
    Other("rockpool", "its LIFTorch always has a synapse, bursts within a step, and a one-sided surrogate"),
    Other("spyx", "it runs in JAX"),
    Other("lava-dl", "PyPI has no release that this Python can install"),
    Other("bindsnet", "its neurons have no gradient"),
)
