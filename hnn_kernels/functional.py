"""The public functions: check the arguments, choose the backend, call it."""

import math

from torch import Tensor

from . import autograd, checks, dispatch, reference
from .autograd import Settings
from .ops import RESET_GRADS
from .reference import LIFState, state_dtype
from .surrogates import SURROGATES

RESETS = ("filter",)
READOUTS = ("spikes", "count")


def lif(
    current: Tensor,
    decay: float | Tensor,
    reset_decay: float | Tensor,
    threshold: float | Tensor = 1.0,
    *,
    sigma: float = 0.4,
    steps: int | None = None,
    state: LIFState | None = None,
    reset: str = "filter",
    reset_grad: str = "full",
    surrogate: str = "gaussian",
    readout: str = "spikes",
    smooth: bool = False,
    backend: str | None = None,
) -> tuple[Tensor, LIFState]:
    r"""A layer of leaky integrate-and-fire neurons, all time steps in one kernel.

    Per neuron, from zero state or from ``state`` (Muramatsu & Yu 2021, eq. 1; a tie fires)::

        R[t] = reset_decay * R[t-1] + O[t-1]
        V[t] = decay * V[t-1] + current[t] - threshold * R[t]
        O[t] = 1 if V[t] >= threshold else 0

    Backward is backpropagation through time with the surrogate ``exp(-(V - threshold)^2 / (2 sigma^2)) /
    (sqrt(2 pi) sigma)`` for dO/dV. It recomputes V from the current, so training keeps the current and nothing else.

    Args:
        current: ``[T, B, *features]``, or ``[B, *features]`` with ``steps`` (constant in time, read once);
            float64, float32, bfloat16 or float16. Dimensionless, in units of the threshold. Any strides.
        decay: membrane decay per step, ``exp(-1 / tau)`` with ``tau`` in steps; 0 for a neuron without a membrane
            filter. This and the next two: a float, or a tensor that broadcasts against ``*features``, of the
            current's or the state's dtype, which may require grad.
        reset_decay: decay of the reset variable per step; 0 subtracts the threshold once, in the step after the spike.
        threshold: the firing threshold.
        sigma: width of the surrogate, in units of the current; above 0.
        steps: T, where the current is constant in time.
        state: what an earlier call over the preceding steps returned; ``None`` starts from zero. Its tensors are
            ``[B, *features]`` in float32 (float64 for a float64 current).
        reset: ``"filter"``, the equations above.
        reset_grad: ``"full"`` is the exact chain rule; ``"one_step"`` drops the path R[t] -> R[t+1] (the paper's
            eq. 3 with 4b); ``"detach"`` drops the path O[t] -> R[t+1].
        surrogate: a name in :data:`hnn_kernels.SURROGATES`.
        readout: ``"spikes"`` for the train, ``"count"`` for its sum over time, which is accumulated in the state's
            dtype and never writes the train.
        smooth: replace the step by the surrogate's integral, ``erfc((threshold - V) / (sqrt(2) sigma)) / 2``, so that
            forward and backward are a function and its true derivative (for ``torch.autograd.gradcheck``).
        backend: ``"reference"``, ``"cpu"``, ``"triton"``, ``"cuda"``, or None for the best there is
            (:func:`hnn_kernels.explain` tells which and why).

    Returns:
        ``(out, state)``: ``out`` is ``[T, B, *features]`` (``[B, *features]`` for a count) in the current's dtype,
        and ``state`` continues the layer in time: two calls over [0, t) and [t, T) equal one over [0, T).

    Raises:
        TypeError: an argument of the wrong type or dtype.
        ValueError: a shape, device, value or name that is not allowed.
        RuntimeError: a backend that is not usable here, or a gradient of the gradient.
    """
    if steps is not None:
        checks.steps_count("steps", steps)
    checks.current(current, steps)
    checks.option("reset", reset, RESETS)
    checks.option("reset_grad", reset_grad, RESET_GRADS)
    checks.option("surrogate", surrogate, SURROGATES)
    checks.option("readout", readout, READOUTS)
    checks.flag("smooth", smooth)
    sigma = checks.number("sigma", sigma, positive=True)

    dtype = state_dtype(current.dtype)
    batch_shape = current.shape[1:] if steps is None else current.shape
    coefficients: list[Tensor | None] = []
    values: list[float] = []
    for name, given in (("decay", decay), ("reset_decay", reset_decay), ("threshold", threshold)):
        if isinstance(given, Tensor):
            checks.coefficient(name, given, batch_shape[1:], (current.dtype, dtype), current.device)
            coefficients.append(given.to(dtype))
            values.append(math.nan)
        else:
            coefficients.append(None)
            values.append(checks.number(name, given))
    v = r = None
    if state is not None:
        if not isinstance(state, tuple) or len(state) != 2:
            raise TypeError(
                f"state must be a LIFState (v, r) that an earlier call returned; got {type(state).__name__}"
            )
        v, r = state
        checks.state("state.v", v, batch_shape, dtype, current.device)
        checks.state("state.r", r, batch_shape, dtype, current.device)

    chosen = dispatch.choose(current.device.type, backend)
    if chosen == "reference":
        tensors = [value if c is None else c for c, value in zip(coefficients, values, strict=True)]
        return reference.lif(
            current, *tensors, sigma=sigma, steps=steps, state=None if state is None else LIFState(v, r),
            reset_grad=reset_grad, surrogate=surrogate, readout=readout, smooth=smooth,
        )  # fmt: skip
    settings = Settings(
        chosen, steps, *values, sigma, SURROGATES[surrogate].number, readout == "count", smooth, RESET_GRADS[reset_grad]
    )
    out, v, r = autograd.apply(current, *coefficients, v, r, settings)
    return out, LIFState(v, r)
