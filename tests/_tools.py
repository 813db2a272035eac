"""Inputs, runs and comparisons that the suite shares."""

import itertools
import math
from typing import NamedTuple

import torch
from torch import Tensor

import hnn_kernels
from hnn_kernels import IIR, LIFState
from hnn_kernels._ops.layer import COEFFICIENTS, FILTER_COEFFICIENTS, TENSORS
from hnn_kernels.reference import state_dtype

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
LOW = (torch.bfloat16, torch.float16)
FILTERS = ("synapse", "axon")
RESULTS = ("out", "v", "r", "synapse_state", "axon_state")
PARAMETERS = (*COEFFICIENTS, *FILTER_COEFFICIENTS)
KINDS = ("float", "scalar", "channel", "neuron", "mixed")
THROUGH = [s for n in (1, 2, 3) for s in itertools.combinations(("out", "v", "r"), n)]
GUARD = -7.25  # fits every dtype, and is no spike, state or gradient that a test works with


class Target(NamedTuple):
    """A backend on a device type it takes."""

    backend: str
    device: str

    def __str__(self) -> str:
        return f"{self.backend}-{self.device}"

    @property
    def interpreted(self) -> bool:
        """Triton's interpreter: the kernel's own arithmetic, a thousand times slower."""
        return self == ("triton", "cpu")

    @property
    def exact(self) -> bool:
        """Whether the contract asks for the reference's own bits: everywhere but on a real GPU."""
        return self.device == "cpu"


def dtype_id(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def representable(value: float) -> float:
    """``value`` rounded to float32, so that a float64 run can be given the very number a float32 run computes with."""
    return torch.tensor(value, dtype=torch.float32).item()


def _coefficients(bounds, form: str, features, generator, dtype, device) -> Tensor | list[float]:
    """One random number between each pair of ``bounds``, or one per channel, neuron or element of the last axis."""
    per_channel = (*features[:1], *(1,) * (len(features) - 1))
    size = {"channel": per_channel, "neuron": features, "row": features[-1:]}.get(form, ())
    low, high = torch.tensor(bounds, dtype=torch.float64).reshape(len(bounds), 2, *(1,) * len(size)).unbind(1)
    values = low + (high - low) * torch.rand((len(bounds), *size), generator=generator, dtype=torch.float64)
    return [representable(x.item()) for x in values] if form == "float" else values.to(device, torch.float32).to(dtype)


def inputs(
    shape=(6, 2, 3, 5), *, dtype=torch.float32, device="cpu", kind="float", state=False, steps=None, seed=0,
    reset="filter", synapse=None, axon=None, membrane=True,
) -> dict:  # fmt: skip
    """Arguments of ``lif`` whose spikes come about three times in ten: ``[T, B, C, H]``, or ``[B, C, H]`` with steps.

    ``kind`` is the form of the coefficients; "mixed" has floats, some per channel and some per neuron, and "row" is a
    value per element of the last axis, of fewer axes than the features. ``synapse`` and ``axon`` are the orders (P, Q)
    of a filter. Without a ``membrane`` they are the arguments of ``iir``, in the form in which :func:`run` takes them.
    """
    generator = torch.Generator().manual_seed(seed)
    wide = state_dtype(dtype)
    features = shape[1:] if steps is not None else shape[2:]
    current = (0.6 * torch.randn(shape, generator=generator, dtype=torch.float64) + 0.4).to(device, dtype)
    arguments = {"current": current, "steps": steps}
    if membrane:
        forms = ("float", "channel", "neuron") if kind == "mixed" else (kind,) * 3
        ranges = ((0.5, 0.9), (0.3, 0.8), (0.7, 1.2))
        for name, bounds, form in zip(COEFFICIENTS, ranges, forms, strict=True):
            (arguments[name],) = _coefficients([bounds], form, features, generator, wide, device)
        arguments["reset"] = reset
        if reset != "filter":
            arguments["reset_decay"] = None
    batch = shape if steps is not None else shape[1:]
    v = r = None
    if state and membrane:
        v, r = (torch.randn(batch, generator=generator).to(device, wide) * scale for scale in (0.5, 0.3))
    histories = []
    forms = iter(("float", "channel", "neuron", "float") if kind == "mixed" else (kind,) * 4)
    for name, orders in (("synapse", synapse), ("axon", axon)):
        p, q = orders or (0, 0)
        # The sum of the feedback's sizes is below 1, so that the filter is stable.
        feedback = [(0.3, 0.5), *[(-0.2, 0.2)] * (p - 1)][:p]
        feedforward = [(0.5, 0.8) if p else (0.9, 1.2), *[(-0.3, 0.3)] * q]
        parts = [_coefficients(b, next(forms), features, generator, wide, device) for b in (feedback, feedforward)]
        history = 0.3 * torch.randn((p + q, *batch), generator=generator).to(device, wide)
        histories.append(history if orders and state else None)
        if orders:
            arguments[name] = IIR(*parts)
    if state:
        arguments["state"] = LIFState(v, r, *histories)
    return arguments


def in_double(arguments: dict) -> dict:
    """The same numbers in float64: the arguments of the truth."""

    def widen(value):
        if isinstance(value, LIFState | IIR):
            return type(value)(*map(widen, value))
        return value.detach().double() if isinstance(value, Tensor) else value

    return {name: widen(value) for name, value in arguments.items()}


def _named(arguments: dict) -> dict:
    """Everything that has a name in :data:`hnn_kernels._ops.layer.TENSORS`, be it a tensor or not."""
    state = arguments.get("state") or LIFState(None, None)
    named = {"current": arguments["current"], "v": state.v, "r": state.r}
    named |= {name: arguments.get(name) for name in COEFFICIENTS}
    for name in FILTERS:
        feedback, feedforward = arguments.get(name) or (None, None)
        named |= {f"{name}_feedback": feedback, f"{name}_feedforward": feedforward}
        named[f"{name}_state"] = getattr(state, name)
    return named


def tensors(arguments: dict) -> dict[str, Tensor]:
    """The tensors among the arguments, by the names that gradients have."""
    named = _named(arguments)
    return {name: named[name] for name in TENSORS if isinstance(named[name], Tensor)}


def replace(arguments: dict, **new: Tensor) -> dict:
    """The arguments with the tensors of these gradient names put in."""
    assert new.keys() <= set(TENSORS)
    named = _named(arguments) | new
    result = {name: named.get(name, value) for name, value in arguments.items()}
    for name in FILTERS:
        if result.get(name):
            result[name] = IIR(named[f"{name}_feedback"], named[f"{name}_feedforward"])
    if result.get("state"):
        result["state"] = LIFState(named["v"], named["r"], named["synapse_state"], named["axon_state"])
    return result


def without_axon(arguments: dict) -> dict:
    """The same layer putting out its spikes."""
    state = arguments.get("state")
    return {**arguments, "axon": None, "state": state and state._replace(axon=None)}


def run(arguments: dict, backend: str, **options) -> tuple[Tensor, LIFState | None]:
    """``lif``; or ``iir``, where the arguments are nothing but a synapse."""
    if "decay" in arguments:
        return hnn_kernels.lif(**arguments, **options, backend=backend)
    state = arguments.get("state")
    out, after = hnn_kernels.iir(
        arguments["current"], *arguments["synapse"], state=state and state.synapse, backend=backend, **options
    )
    return out, None if after is None else LIFState(None, None, after)


def results(out: Tensor, state: LIFState | None) -> dict[str, Tensor]:
    """What a call returned, by the operators' names."""
    everything = (out, *(state or [None] * 4))
    return {name: value for name, value in zip(RESULTS, everything, strict=True) if value is not None}


def cotangents(returned: dict[str, Tensor], seed: int = 1) -> dict[str, Tensor]:
    """Gradients that come in through the results, the same for every backend."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(result.shape, generator=generator, dtype=torch.float64).to(result.device, result.dtype)
        for name, result in returned.items()
    }


def gradients(arguments: dict, backend: str, *, through=RESULTS, wanted=None, seed=1, **options) -> dict:
    """The gradients of ``wanted`` (default: of every tensor) for a random cotangent of each result in ``through``."""
    names = list(tensors(arguments)) if wanted is None else list(wanted)
    leaves = {name: tensors(arguments)[name].detach().requires_grad_() for name in names}
    returned = results(*run(replace(arguments, **leaves), backend, **options))
    incoming = cotangents(returned, seed)
    # With no step, or where nothing connects them, a result may not depend on any leaf.
    live = [name for name in through if name in returned and returned[name].requires_grad]
    found = torch.autograd.grad(
        [returned[name] for name in live], list(leaves.values()), [incoming[name] for name in live], allow_unused=True
    )
    return {
        name: torch.zeros_like(leaf) if g is None else g for (name, leaf), g in zip(leaves.items(), found, strict=True)
    }


def equal_bits(got: Tensor, expected: Tensor, what: str) -> None:
    """Equal in dtype, shape and every value; NaN equals NaN."""
    torch.testing.assert_close(
        got, expected, rtol=0, atol=0, equal_nan=True, check_stride=False, msg=lambda text: f"{what}: {text}"
    )


def potentials(arguments: dict, smooth: bool = False) -> tuple[Tensor, Tensor]:
    """``V[t]`` before its reset and the size of the largest term it was summed from, both ``[T, B, *features]``."""
    arguments = without_axon(arguments)
    steps, reset = arguments["steps"], arguments.get("reset", "filter")
    length = arguments["current"].shape[0] if steps is None else steps
    state = arguments.get("state")
    trace, size = [], []
    for t in range(length):
        x = arguments["current"][t] if steps is None else arguments["current"]
        r = torch.zeros_like(x) if state is None or reset != "filter" else state.r
        one = {**arguments, "current": x[None], "steps": None, "state": state}
        # An immediate reset would already be in the V of the state; without it, one step leaves V itself.
        _, now = run(one if reset == "filter" else {**one, "reset": "none"}, "reference", smooth=smooth)
        _, state = run(one, "reference", smooth=smooth)
        terms = [x.to(now.v), arguments["threshold"] * r, *(() if now.synapse is None else now.synapse)]
        trace.append(now.v)
        size.append(torch.stack([term.abs() for term in (now.v, *terms)]).amax(0))
    return torch.stack(trace), torch.stack(size)


def same_spikes(target: Target, out: Tensor, arguments: dict, **options) -> Tensor:
    """Hold a hard spike train against the reference (contract, section 5); returns the neurons that never differed.

    On the CPU every bit is equal. On a GPU a spike may differ where the potential is within 4 ulp of the threshold,
    and everything after it in that neuron may differ too.
    """
    expected, _ = run(arguments, "reference", **options)
    if target.exact:
        same_numbers(target, out, expected, "spikes")
        return torch.ones(expected.shape[1:], dtype=torch.bool, device=out.device)
    if arguments.get("axon"):
        spikes, _ = run(without_axon(arguments), target.backend, **options)
        same = same_spikes(target, spikes, without_axon(arguments), **options)
        close(out[:, same], expected[:, same], "filtered train")
        return same
    different = out != expected
    v, size = potentials(arguments)
    ulp = torch.finfo(v.dtype).eps * torch.maximum(size, torch.as_tensor(arguments["threshold"]).abs().to(v))
    first = different & (different.cumsum(0) == 1)
    distance = (v - arguments["threshold"]).abs()
    wrong = first & (distance > 4 * ulp)
    assert not wrong.any(), f"{int(wrong.sum())} spikes differ away from the threshold"
    # Re-association moves a spike in about one of 1e7 neuron-steps; more than one in 1e4 is no rounding.
    assert different.any(0).float().mean().item() <= 1e-4 or different.any(0).sum() <= 1
    return ~different.any(0)


def close(got: Tensor, expected: Tensor, what: str) -> None:
    """The engineering rule for one step of a GPU's arithmetic: 1e-5, or the rounding of what is stored."""
    tolerance = max(1e-5, torch.finfo(got.dtype).eps)
    torch.testing.assert_close(
        got, expected, rtol=tolerance, atol=tolerance, equal_nan=True, msg=lambda text: f"{what}: {text}"
    )


def same_numbers(target: Target, got: Tensor, expected: Tensor, what: str) -> None:
    """Equal on the CPU and close on a GPU, where no spike comes in between.

    Triton's interpreter cuts float32 off to bfloat16 where every device rounds: its filtered trains are close too.
    """
    cut = target.interpreted and got.dtype == torch.bfloat16 and not (expected == expected.round()).all()
    (equal_bits if target.exact and not cut else close)(got, expected, what)


def hold_state(target: Target, state: LIFState, expected: LIFState, same: Tensor, what: str = "") -> None:
    """States are equal on the CPU; on a GPU they are close for the neurons whose spikes agree."""
    for name, got, want in zip(LIFState._fields, state, expected, strict=True):
        if want is None:
            assert got is None, name
        else:
            same_numbers(target, got[..., same], want[..., same], f"state.{name} {what}")


def hold_forward(target: Target, arguments: dict, **options) -> tuple[Tensor, LIFState]:
    """The spikes (the filtered train) and the state are the reference's."""
    out, state = run(arguments, target.backend, **options)
    expected, expected_state = run(arguments, "reference", **options)
    if "decay" in arguments:
        same = same_spikes(target, out, arguments, **options)
    else:
        same = torch.ones(expected.shape[1:], dtype=torch.bool, device=out.device)
        same_numbers(target, out, expected, "y")
    hold_state(target, state, expected_state, same)
    return out, state


def hold_smooth(target: Target, arguments: dict, **options) -> None:
    """In smooth mode nothing is discrete, so libraries' functions may differ in the last places."""
    returned = results(*run(arguments, target.backend, **options))
    expected = results(*run(arguments, "reference", **options))
    for name, got in returned.items():
        # Measured over six steps: 2.75 eps of the largest in either precision. A stored value may round either way.
        tolerance = max(16 * torch.finfo(returned["v"].dtype).eps, torch.finfo(got.dtype).eps)
        torch.testing.assert_close(got, expected[name], rtol=tolerance, atol=tolerance, msg=name)


def error(got: Tensor, truth: Tensor) -> float:
    """The largest absolute difference, in float64."""
    if truth.numel() == 0:
        return 0.0
    difference = (got.double() - truth.double()).abs().max().item()
    return math.inf if math.isnan(difference) else difference


def as_good_as_the_loop(got: dict, loop: dict, truth: dict) -> None:
    """Each tensor's error against float64 truth is at most twice that of the plain loop in the same dtype.

    The rule calibrates itself to dtype, length and conditioning. The floor is for a loop that happens to be exact: 6
    eps of the largest value (measured over this suite: 4.3 beyond twice the loop's error), and 32 for float64, where
    the loop is its own truth (measured: 8.0).
    """
    assert got.keys() == loop.keys() == truth.keys()
    for name in got:
        assert got[name].dtype == loop[name].dtype, f"{name}: {got[name].dtype}, the loop has {loop[name].dtype}"
        assert got[name].shape == loop[name].shape, f"{name}: {got[name].shape}, the loop has {loop[name].shape}"
        if truth[name].numel() == 0:
            continue
        rounding = torch.finfo(got[name].dtype).eps * truth[name].abs().max().item()
        floor = (32 if got[name].dtype == torch.float64 else 6) * rounding
        allowed = 2 * error(loop[name], truth[name]) + floor
        found = error(got[name], truth[name])
        assert found <= allowed, f"gradient of {name}: error {found:.3g}, allowed {allowed:.3g}"


def hold_gradients(target: Target, arguments: dict, **options) -> dict:
    """The kernel's gradients are as near to float64's as the loop's own, and float64's are the loop's."""
    if "decay" in arguments and not options.get("smooth", False):
        # Truth is another function where float64 spikes elsewhere; these inputs are chosen not to.
        truth, _ = run(in_double(without_axon(arguments)), "reference")
        for backend in (target.backend, "reference"):
            spikes, _ = run(without_axon(arguments), backend)
            assert torch.equal(spikes.double(), truth), (
                "a potential within rounding of the threshold: take another seed"
            )
    got = gradients(arguments, target.backend, **options)
    loop = gradients(arguments, "reference", **options)
    truth = gradients(in_double(arguments), "reference", **options)
    as_good_as_the_loop(got, loop, truth)
    return got


def hold_derivative(backend: str, arguments: dict, *, fast: bool = False, **options) -> None:
    """``torch.autograd.gradcheck`` of every differentiable input at once, through all results."""
    leaves = {name: value.requires_grad_() for name, value in tensors(arguments).items() if value.numel()}

    def layer(*values):
        given = replace(arguments, **dict(zip(leaves, values, strict=True)))
        return tuple(results(*run(given, backend, **options)).values())

    assert torch.autograd.gradcheck(layer, tuple(leaves.values()), fast_mode=fast)
