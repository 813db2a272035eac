"""Comparisons of a backend with the reference, and the tolerances that they allow."""

import math

import torch
from torch import Tensor

from hnn_kernels import LIFState
from support.layers import gradients, in_double, replace, results, run, tensors, without_axon
from support.targets import Target


def equal_bits(got: Tensor, expected: Tensor, what: str) -> None:
    """Check that two tensors have the same dtype, shape and values. NaN equals NaN."""
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
        without = {**one, "reset": "none", "reset_potential": 0.0}
        _, now = run(one if reset == "filter" else without, "reference", smooth=smooth)
        _, state = run(one, "reference", smooth=smooth)
        terms = [x.to(now.v), arguments["threshold"] * r, *(() if now.synapse is None else now.synapse)]
        trace.append(now.v)
        size.append(torch.stack([term.abs() for term in (now.v, *terms)]).amax(0))
    return torch.stack(trace), torch.stack(size)


def same_spikes(target: Target, out: Tensor, arguments: dict, **options) -> Tensor:
    """Check a spike train against the reference, and return the neurons that never differed.

    On the CPU every bit is equal. On a GPU a spike may differ where the potential is within 4 ulp of the threshold, and
    so may everything after it in that neuron ("Numbers" in ARCHITECTURE.md).
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
    """Check that two tensors are close: to 1e-5, or to the rounding of the dtype."""
    tolerance = max(1e-5, torch.finfo(got.dtype).eps)
    torch.testing.assert_close(
        got, expected, rtol=tolerance, atol=tolerance, equal_nan=True, msg=lambda text: f"{what}: {text}"
    )


def same_numbers(target: Target, got: Tensor, expected: Tensor, what: str) -> None:
    """Check that two tensors are equal on the CPU, and close on a GPU. No spike may lie between them and the input.

    Triton's interpreter truncates float32 to bfloat16 where every device rounds, so its filtered trains are only close.
    """
    cut = target.interpreted and got.dtype == torch.bfloat16 and not (expected == expected.round()).all()
    (equal_bits if target.exact and not cut else close)(got, expected, what)


def hold_state(target: Target, state: LIFState, expected: LIFState, same: Tensor, what: str = "") -> None:
    """Check that states are equal on the CPU, and close on a GPU for the neurons whose spikes agree."""
    for name, got, want in zip(LIFState._fields, state, expected, strict=True):
        if want is None:
            assert got is None, name
        else:
            same_numbers(target, got[..., same], want[..., same], f"state.{name} {what}")


def hold_forward(target: Target, arguments: dict, **options) -> tuple[Tensor | tuple[Tensor, Tensor], LIFState]:
    """Check the spikes, or the filtered train, the potential and the state against the reference."""
    returned = run(arguments, target.backend, **options)
    got, expected = results(*returned), results(*run(arguments, "reference", **options))
    assert got.keys() == expected.keys()
    if "decay" in arguments:
        alone = options.get("readout") == "none"
        of_spikes = {**options, "potential": "none", **({"readout": "spikes"} if alone else {})}
        spikes = run(arguments, target.backend, **of_spikes)[0] if alone else got["out"]
        same = same_spikes(target, spikes, arguments, **of_spikes)
    else:
        same = torch.ones(expected["out"].shape[1:], dtype=torch.bool, device=got["out"].device)
        same_numbers(target, got["out"], expected["out"], "y")
    for name in got.keys() - (() if options.get("readout") == "none" else {"out"}):
        same_numbers(target, got[name][..., same], expected[name][..., same], name)
    return returned


def hold_smooth(target: Target, arguments: dict, **options) -> None:
    """Check smooth mode against the reference, to the last places of the libraries' functions: nothing is discrete."""
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
    """Check that each tensor's error against float64 is at most twice that of the plain loop in the same dtype.

    So the tolerance follows dtype, length and conditioning. A loop may happen to be exact, so there is a floor: 6 eps
    of the largest value (measured over these tests: 4.3 beyond twice the loop's error), and 32 for float64, where the
    error is measured from the loop itself (measured: 8.0). On a GPU it is 48 there, since the smooth mode's erfc is
    CUDA's own (measured in the emulator: 32.04 with a narrow Gaussian, else at most 19.6).
    """
    assert got.keys() == loop.keys() == truth.keys()
    for name in got:
        assert got[name].dtype == loop[name].dtype, f"{name}: {got[name].dtype}, the loop has {loop[name].dtype}"
        assert got[name].shape == loop[name].shape, f"{name}: {got[name].shape}, the loop has {loop[name].shape}"
        if truth[name].numel() == 0:
            continue
        rounding = torch.finfo(got[name].dtype).eps * truth[name].abs().max().item()
        exact = 48 if got[name].is_cuda else 32
        floor = (exact if got[name].dtype == torch.float64 else 6) * rounding
        allowed = 2 * error(loop[name], truth[name]) + floor
        found = error(got[name], truth[name])
        assert found <= allowed, f"gradient of {name}: error {found:.3g}, allowed {allowed:.3g}"


def hold_gradients(target: Target, arguments: dict, **options) -> dict:
    """Check that the kernel's gradients are as near to those in float64 as the loop's own are."""
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
    """Run ``torch.autograd.gradcheck`` on every differentiable input at once, through all results."""
    leaves = {name: value.requires_grad_() for name, value in tensors(arguments).items() if value.numel()}

    def layer(*values):
        given = replace(arguments, **dict(zip(leaves, values, strict=True)))
        return tuple(results(*run(given, backend, **options)).values())

    assert torch.autograd.gradcheck(layer, tuple(leaves.values()), fast_mode=fast)
