"""torch's own products, in which a spike is a value like any other."""

import torch

from ..core.layer import Layer, Product, Unsupported, Weights
from ..core.operations import Dynamics


class Torch:
    """``Linear`` and ``Conv2d``."""

    name = "torch"

    def version(self) -> str:
        return torch.__version__

    def layer(self, wanted: Dynamics, features: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Layer:
        raise Unsupported("it has no layer of neurons: the loops are written with it")

    def product(self, weights: Weights, device: torch.device) -> Product:
        return Product(weights)


PROVIDERS = (Torch(),)
