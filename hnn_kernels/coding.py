"""Codings: a continuous value becomes a train in time (Muramatsu & Yu 2021, section 3.2).

The noise of the Gaussian and the Poisson coding is counter-based (:mod:`hnn_kernels._noise`). It depends on the seed,
on the element's place in ``[B, *features]`` (row-major, whatever the memory layout) and on the step, and on nothing
else. So every backend, on any number of threads, draws the same numbers from a seed. Two calls over two parts of the
time (``first_step``) or of the batch (``first_element``) draw the numbers of one call over the whole.
"""

import torch
from torch import Tensor

from . import _checks, _dispatch, reference
from ._ops.coding import coding_ops, gaussian


def encode_duplicate(value: Tensor, steps: int) -> Tensor:
    """Duplicate coding: repeat the value at every step, ``O[t] = value`` (section 3.2.1).

    Args:
        value: ``[B, *features]``, any supported floating dtype.
        steps: T, at least 0.

    Returns:
        ``[steps, B, *features]``, a view of ``value`` that takes no memory. A call that takes a constant current
        (``lif(value, ..., steps=T)``) needs no such view: it reads the value once.

    Raises:
        TypeError, ValueError: ``value`` is not a floating tensor, or ``steps`` is not an int of at least 0.
    """
    _checks.floating("value", value)
    steps = _checks.steps_count("steps", steps)
    return value.expand(steps, *value.shape)


def encode_gaussian(
    mean: Tensor,
    log_std: Tensor,
    steps: int,
    *,
    seed: int | Tensor | None = None,
    first_step: int = 0,
    first_element: int = 0,
    backend: str | None = None,
) -> Tensor:
    """Gaussian coding: draw normal numbers around the value, fresh at every step (section 3.2.2, eq. 7)::

        O[t] = mean + exp(log_std) * eps[t],   eps[t] ~ N(0, 1)

    The result is differentiable in ``mean`` and ``log_std`` by this formula. The noise is never stored: backward, one
    pass over the gradient, makes it again.

    Args:
        mean: ``[B, *features]``; float64, float32, bfloat16 or float16. Any strides: the two halves of a
            ``[B, 2F]`` output are read where they are.
        log_std: the logarithm of the standard deviation; shape, dtype and device as ``mean``.
        steps: T, at least 0.
        seed: seed of the noise: an int of 64 bits, or an int64 tensor without axes on the device of the values, which
            is read there, so that the host does not wait for it. None draws a seed with ``torch.randint`` on that
            device: ``torch.manual_seed`` fixes it as it fixes dropout, and a CUDA graph that is replayed draws a new
            one. Calls with the same seed have the same noise, so give each its own.
        first_step: the number of the first step, for a call that continues another. The noise depends on
            ``first_step + t``.
        first_element: the number of the first element, for a call on a part of a batch: the number of elements in the
            parts before it.
        backend: as for :func:`hnn_kernels.lif`.

    Returns:
        ``[steps, B, *features]`` in the dtype of ``mean``, each step laid out in memory as ``mean`` is. Arithmetic is
        float32 (float64 for float64). In float32 the trains of all backends are equal bit for bit. ``eps`` is the same
        float32 number in every dtype. Its size is at most 6.66, and its distribution is within a few 1e-7 of the normal
        one.

    Raises:
        TypeError: an argument of the wrong type or dtype.
        ValueError: a shape, device or value that is not allowed.
        RuntimeError: a backend that is not usable here; a gradient of the gradient or a derivative in forward mode,
            which ``backend="reference"`` has.
        MemoryError: a train that is larger than the memory of the device.

    Under ``torch.vmap`` the coding runs once for every index of the mapped axis, each time with the noise of its seed,
    which does not depend on the mapped axis. Without a seed, vmap's ``randomness`` decides, as for torch's functions.
    """
    _checks.batch("mean", mean)
    _checks.same("log_std", log_std, "mean", mean)
    chosen, noise = _noise(mean, steps, seed, first_step, first_element, backend)
    if chosen == "reference":
        return reference.gaussian(mean, log_std, *noise)
    return gaussian(chosen, mean, log_std, *noise)


def encode_poisson(
    probability: Tensor,
    steps: int,
    *,
    seed: int | Tensor | None = None,
    first_step: int = 0,
    first_element: int = 0,
    backend: str | None = None,
) -> Tensor:
    """Poisson coding: spike at every step with the given probability, independent of all others (section 3.2.3).

    It is not differentiable.

    Args:
        probability: ``[B, *features]`` in [0, 1], rounded up to a multiple of 2^-24 (0 never fires, 1 always does);
            float64, float32, bfloat16 or float16, any strides.
        steps, seed, first_step, first_element, backend: as for :func:`encode_gaussian`.

    Returns:
        ``[steps, B, *features]`` of 0 and 1 in the dtype of ``probability``, each step laid out in memory as
        ``probability`` is. The train is the same on every backend.

    Raises:
        TypeError: an argument of the wrong type or dtype.
        ValueError: a shape, device or value that is not allowed. The kernel finds a probability outside [0, 1], or NaN.
            On the CPU it raises this error (a RuntimeError in a compiled graph). On a GPU, which the host does not wait
            for, it is a device-side assertion, as in ``torch.bernoulli``.
        RuntimeError: ``probability`` requires a gradient, or a backend that is not usable here.
        MemoryError: a train that is larger than the memory of the device.
    """
    _checks.batch("probability", probability)
    if torch.is_grad_enabled() and probability.requires_grad:
        raise RuntimeError(
            "probability requires a gradient, but Poisson coding is not differentiable: detach() it, encode under "
            "torch.no_grad(), or fix the layers in front of it"
        )
    chosen, noise = _noise(probability, steps, seed, first_step, first_element, backend)
    if chosen == "reference":
        return reference.poisson(probability, *noise)
    try:
        return coding_ops["poisson_forward", chosen](probability, *noise)
    except RuntimeError as error:
        if "must lie in [0, 1]" in str(error):
            _checks.probabilities("probability", probability)  # its message has the value
        raise


def _noise(like: Tensor, steps, seed, first_step, first_element, backend) -> tuple[str, tuple]:
    """Check the arguments; return the backend and ``(seed as a tensor, steps, first_step, first_element)``."""
    steps = _checks.steps_count("steps", steps)
    first_step = _checks.steps_count("first_step", first_step, "the number of the first step")
    first_element = _checks.steps_count("first_element", first_element, "the number of the first element")
    _checks.fits(steps, like)
    seed = _checks.seed(seed, like.device)
    chosen = _dispatch.choose(like.device, backend)
    if chosen == "reference":
        _dispatch.warn_of_the_reference(like.device, backend, stacklevel=4)  # the call of a coding
    if seed is None:
        seed = torch.randint(2**63 - 1, (), device=like.device)
    elif not isinstance(seed, Tensor):
        seed = torch.full((), seed, dtype=torch.int64, device=like.device)
    return chosen, (seed, steps, first_step, first_element)
