"""Values to encode, and their spike trains."""

import torch

from hnn_kernels import encode_gaussian, encode_poisson
from hnn_kernels.state import state_dtype


def values(shape, dtype=torch.float32, device="cpu", seed=0):
    """A mean, the logarithm of a deviation, and a probability."""
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn((2, *shape), generator=generator, dtype=torch.float64)
    p = torch.rand(shape, generator=generator, dtype=torch.float64)
    # In one step, kinds of processors round to float16 differently.
    mean, log_std, p = (value.to(state_dtype(dtype)).to(device, dtype) for value in (*normal, p))
    return mean, log_std, p


def trains(shape, dtype=torch.float32, backend="cpu"):
    """Both codings of some values."""
    mean, log_std, p = values(shape, dtype)
    return encode_gaussian(mean, log_std, 9, seed=6, backend=backend), encode_poisson(p, 9, seed=6, backend=backend)
