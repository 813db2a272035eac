"""Equal conditions for all providers: one input, one spike rate, and agreement with the reference."""

import copy
import math
from typing import NamedTuple

import torch
from torch import Tensor

from .layer import Layer, Product, Weights, axon_filter, lif, recurrent, recurrent_weight
from .operations import Dynamics

# RATE is the spike rate to which inputs are scaled. Outside RATES a row gets a note. The range is that wide because a
# provider's own dynamics may differ: the reset filter lets about half as many spikes pass as one subtraction.
RATE, RATES = 0.08, (0.05, 0.2)
CHECKED = 1 << 21  # neuron-steps that are compared at most
# The error of a product, norm over norm. At the sizes of the suite outputs and gradients of the weight were off by 5e-7
# at most in float32, and oneDNN's gradient of a convolution's bias by 3e-6. TensorFloat-32 and bfloat16 keep 10 and 7
# bits of each value.
ROUNDING, SHORT_ROUNDING = 1e-5, 1e-2


class Tolerance(NamedTuple):
    """The errors of the outputs and of the input gradient: norm of the error over norm of the right value."""

    outputs: float
    gradient: float


class Agreement(NamedTuple):
    """The spike rate of a layer that agrees, None for one without spikes, and remarks for the reader of its figures."""

    spike_rate: float | None
    notes: tuple[str, ...] = ()


class DisagreementError(Exception):
    """A layer does not compute the dynamics that it declares, or a product is wrong."""


def reference(current: Tensor, dynamics: Dynamics) -> Tensor:
    """The output of the reference for the current ``[T, B, *features]``, filtered if there is an axon."""
    weight = recurrent_weight(dynamics, current.shape[2:], current.device)
    if weight is not None:
        return recurrent(dynamics, weight, "reference")(current)
    axon, _ = axon_filter(dynamics._replace(learnt=False), (), current.device)
    return lif(current, dynamics, axon, "reference")


def spike_rate(current: Tensor, dynamics: Dynamics) -> float:
    """The spikes per neuron and step, before any axon."""
    with torch.no_grad():
        return reference(current, dynamics._replace(axon=False)).float().mean().item()


def gain_for(drive: Tensor, dynamics: Dynamics) -> float:
    """The factor on ``drive`` ``[T, B, *features]`` that gives a spike rate of ``RATE``, or a little above.

    Raises:
        ValueError: the neurons do not fire for any factor.
    """
    drive = part(drive.detach())
    high = 1.0
    while spike_rate(high * drive, dynamics) < RATE:
        high *= 2
        if high > 1e6:
            raise ValueError("no input is strong enough: the neurons do not fire")
    while spike_rate(high / 2 * drive, dynamics) > RATE:
        high /= 2
    low = high / 2
    for _ in range(8):
        middle = (low + high) / 2
        low, high = (low, middle) if spike_rate(middle * drive, dynamics) > RATE else (middle, high)
    return high


def part(tensor: Tensor) -> Tensor:
    """The first elements of the batch of ``tensor`` ``[T, B, *features]``: one or more, of about ``CHECKED`` values."""
    each = math.prod(tensor.shape) // tensor.shape[1]
    return tensor[:, : max(1, CHECKED // each)]


def tolerance(layer: Layer, dtype: torch.dtype) -> Tolerance:
    """The errors that are allowed for ``layer``.

    One different spike in a million is an error of 1e-3. A layer that computes in another order, or with FMA, may put
    a potential within ulps of the threshold on its other side, and then this neuron's later spikes differ too. A state
    that is rounded to bfloat16 at every step, which the reference's is not, does so often: a plain loop with such a
    state was off by up to 0.19 (outputs) and 0.16 (gradient), over 25 to 500 steps with 3 to 19 % spikes. Right
    gradients that are rounded to bfloat16 are off by 2e-3.
    """
    if dtype is torch.float32:
        return Tolerance(1e-5, 1e-5) if layer.exact else Tolerance(3e-2, 1e-2)
    return Tolerance(1e-5, 1e-2) if layer.exact else Tolerance(0.3, 0.3)


def check(layer: Layer, current: Tensor, asked: Dynamics) -> Agreement:
    """Compare output and input gradient of ``layer`` with those of the reference for the dynamics that it declares.

    The layer runs on the whole ``current``, as it does when it is timed. Only a :func:`part` is compared, because
    neurons do not depend on each other. What differs from the dynamics that were ``asked`` for is a remark.

    Raises:
        DisagreementError: they differ by more than the :func:`tolerance`, or a learnt tensor gets no proper gradient.
    """
    x = current.detach().requires_grad_()
    grad = torch.randn(x.shape, device=x.device, generator=torch.Generator(x.device).manual_seed(1)).to(x.dtype)
    out = layer.run(x)
    if out.shape != x.shape:
        raise DisagreementError(f"the output is {tuple(out.shape)} for a current of {tuple(x.shape)}")
    found, *learnt = torch.autograd.grad(out, (x, *layer.learnt), grad.to(out.dtype))
    if not all(gradient.isfinite().all() and gradient.any() for gradient in learnt):
        raise DisagreementError("the gradient of a learnt tensor is zero, or not finite")

    few = part(x.detach()).requires_grad_()
    expected = reference(few, layer.dynamics)
    (wanted,) = torch.autograd.grad(expected, few, part(grad))
    errors = Tolerance(_error(part(out), expected), _error(part(found), wanted))
    allowed = tolerance(layer, x.dtype)
    if not (errors.outputs <= allowed.outputs and errors.gradient <= allowed.gradient):
        raise DisagreementError(
            f"outputs are off by {errors.outputs:.2g}, input gradients by {errors.gradient:.2g} of their norm; allowed "
            f"are {allowed.outputs:.2g} and {allowed.gradient:.2g}"
        )
    rate = spike_rate(few, layer.dynamics)
    differences = layer.dynamics.differences(asked)
    notes = [differences and f"its own dynamics: {differences}", layer.note]
    if not RATES[0] <= rate <= RATES[1]:
        notes.append(f"spike rate {100 * rate:.2g} % on the common input")
    if errors.outputs > 3e-2:  # possible in bfloat16 only
        notes.append(f"outputs are off by {errors.outputs:.2g} of their norm")
    return Agreement(rate, tuple(filter(None, notes)))


def check_product(product: Product, weights: Weights, train: Tensor, grad: Tensor, allowed: float) -> Agreement:
    """Compare output and gradients of ``product`` with those of the plain ``weights`` in float64.

    Args:
        product: the product.
        weights: the weights that it was made of.
        train: a train of 0 and 1.
        grad: the output's gradient.
        allowed: the error of the output and of each gradient, norm over norm.

    Raises:
        DisagreementError: they differ by more.
    """
    exact = copy.deepcopy(weights).double()
    results = []
    for run, leaves, x in ((product.run, weights, train), (exact, exact, train.double())):
        out = run(x)
        results.append((out, *torch.autograd.grad(out, tuple(leaves.parameters()), grad.to(out.dtype))))
    output, *gradients = (_error(found, right) for found, right in zip(*results, strict=True))
    if not max(output, *gradients) <= allowed:
        raise DisagreementError(
            f"outputs are off by {output:.2g}, gradients of the weights by {max(gradients):.2g} of their norm; allowed "
            f"is {allowed:.2g}"
        )
    return Agreement(train.float().mean().item(), (product.note,) if product.note else ())


def _error(found: Tensor, right: Tensor) -> float:
    return ((found.detach() - right.detach()).float().norm() / right.detach().float().norm()).item()
