"""Inputs, runs and comparisons that the suite shares."""

import itertools
import math
from typing import NamedTuple

import torch
from torch import Tensor

import hnn_kernels
from hnn_kernels import LIFState
from hnn_kernels.ops import GRADIENTS
from hnn_kernels.reference import state_dtype

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
LOW = (torch.bfloat16, torch.float16)
COEFFICIENTS = ("decay", "reset_decay", "threshold")
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


def inputs(
    shape=(6, 2, 3, 5), *, dtype=torch.float32, device="cpu", kind="float", state=False, steps=None, seed=0
) -> dict:
    """Arguments of ``lif`` whose spikes come about three times in ten: ``[T, B, C, H]``, or ``[B, C, H]`` with steps.

    ``kind`` is the form of the coefficients; "mixed" has one float, one per channel and one per neuron, and "row" is a
    value per element of the last axis, of fewer axes than the features.
    """
    generator = torch.Generator().manual_seed(seed)
    wide = state_dtype(dtype)
    features = shape[1:] if steps is not None else shape[2:]
    current = (0.6 * torch.randn(shape, generator=generator, dtype=torch.float64) + 0.4).to(device, dtype)

    def coefficient(low: float, high: float, form: str):
        per_channel = (*features[:1], *(1,) * (len(features) - 1))
        size = {"channel": per_channel, "neuron": features, "row": features[-1:]}.get(form, ())
        value = low + (high - low) * torch.rand(size, generator=generator, dtype=torch.float64)
        return representable(value.item()) if form == "float" else value.to(device, torch.float32).to(wide)

    forms = ("float", "channel", "neuron") if kind == "mixed" else (kind,) * 3
    ranges = ((0.5, 0.9), (0.3, 0.8), (0.7, 1.2))
    arguments = {"current": current, "steps": steps}
    for name, (low, high), form in zip(COEFFICIENTS, ranges, forms, strict=True):
        arguments[name] = coefficient(low, high, form)
    if state:
        batch = shape if steps is not None else shape[1:]
        v, r = (torch.randn(batch, generator=generator).to(device, wide) * scale for scale in (0.5, 0.3))
        arguments["state"] = LIFState(v, r)
    return arguments


def in_double(arguments: dict) -> dict:
    """The same numbers in float64: the arguments of the truth."""

    def widen(value):
        if isinstance(value, Tensor):
            return value.detach().double()
        return LIFState(*map(widen, value)) if isinstance(value, LIFState) else value

    return {name: widen(value) for name, value in arguments.items()}


def tensors(arguments: dict) -> dict[str, Tensor]:
    """The tensors among the arguments, by the names that gradients have."""
    v, r = arguments.get("state") or (None, None)
    named = {"current": arguments["current"], **{n: arguments[n] for n in COEFFICIENTS}, "v": v, "r": r}
    return {name: named[name] for name in GRADIENTS if isinstance(named[name], Tensor)}


def replace(arguments: dict, **new: Tensor) -> dict:
    """The arguments with the tensors of these gradient names put in."""
    arguments = {**arguments, **{name: value for name, value in new.items() if name not in ("v", "r")}}
    if {"v", "r"} & new.keys():
        arguments["state"] = LIFState(new.get("v", arguments["state"].v), new.get("r", arguments["state"].r))
    return arguments


def run(arguments: dict, backend: str, **options) -> tuple[Tensor, LIFState]:
    return hnn_kernels.lif(**arguments, **options, backend=backend)


def cotangents(out: Tensor, state: LIFState, seed: int = 1) -> dict[str, Tensor]:
    """Gradients that come in through the three results, the same for every backend."""
    generator = torch.Generator().manual_seed(seed)
    results = {"out": out, "v": state.v, "r": state.r}
    return {
        name: torch.randn(result.shape, generator=generator, dtype=torch.float64).to(result.device, result.dtype)
        for name, result in results.items()
    }


def gradients(arguments: dict, backend: str, *, through=("out", "v", "r"), wanted=None, seed=1, **options) -> dict:
    """The gradients of ``wanted`` (default: of every tensor) for a random cotangent of each result in ``through``."""
    names = list(tensors(arguments)) if wanted is None else list(wanted)
    leaves = {name: tensors(arguments)[name].detach().requires_grad_() for name in names}
    out, state = run(replace(arguments, **leaves), backend, **options)
    results = {"out": out, "v": state.v, "r": state.r}
    incoming = cotangents(out, state, seed)
    # With no step, or where nothing connects them, a result may not depend on any leaf.
    live = [name for name in through if results[name].requires_grad]
    found = torch.autograd.grad(
        [results[name] for name in live], list(leaves.values()), [incoming[name] for name in live], allow_unused=True
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
    """``V[t]`` and the size of the largest term it was summed from, both ``[T, B, *features]``, by the reference."""
    steps = arguments["steps"]
    length = arguments["current"].shape[0] if steps is None else steps
    state = arguments.get("state")
    trace, size = [], []
    for t in range(length):
        x = arguments["current"][t] if steps is None else arguments["current"]
        r = torch.zeros_like(x) if state is None else state.r
        one = {**arguments, "current": x[None], "steps": None, "state": state}
        _, state = run(one, "reference", smooth=smooth)
        trace.append(state.v)
        size.append(torch.maximum(state.v.abs(), torch.maximum(x.abs().to(state.v), abs(arguments["threshold"] * r))))
    return torch.stack(trace), torch.stack(size)


def same_spikes(target: Target, out: Tensor, arguments: dict) -> Tensor:
    """Hold a hard spike train against the reference (contract, section 5); returns the neurons that never differed.

    On the CPU every bit is equal. On a GPU a spike may differ where the potential is within 4 ulp of the threshold,
    and everything after it in that neuron may differ too.
    """
    expected, _ = run(arguments, "reference")
    if target.exact:
        equal_bits(out, expected, "spikes")
        return torch.ones(expected.shape[1:], dtype=torch.bool, device=out.device)
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
