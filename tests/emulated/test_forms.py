"""The code of nvcc and of Triton in every form of kernel, dtype and direction, on the emulated device.

Each launch comes through the real host code. Spikes and states have the reference's bits. A gradient is as near to
float64's as the plain loop's.
"""

import re
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from hnn_kernels import encode_gaussian, encode_poisson
from support.codings import values
from support.comparisons import as_good_as_the_loop, close, equal_bits, hold_forward, hold_gradients
from support.forms import FORMS
from support.layers import DTYPES, gradients, in_double, inputs, results, run, without_axon
from support.targets import EVERY_CASE, dtype_id, emulated_device, turn_of_another

# 25 steps are three of the kernels' chunks of 8 and one more. An odd number of neurons, and a multiple of 8.
ODD, EVEN = (25, 3, 37), (25, 2, 68)
CASES = [(form, dtype) for form in FORMS for dtype in DTYPES]


def skip_for_triton(target, form: str, dtype: torch.dtype) -> None:
    """Triton takes over a second for each kernel, so each pair of form and dtype is compiled for one architecture."""
    turn = list(FORMS).index(form) + DTYPES.index(dtype)
    if target.backend == "triton" and turn_of_another(turn):
        pytest.skip("compiled for another architecture")


def hold(target, shape, *, kind, wanted=None, options, **layer) -> None:
    """Check results and gradients. The reference computes on the CPU."""
    arguments, same = (inputs(shape, device=device, kind=kind, **layer) for device in ("cuda", "cpu"))
    got, expected = results(*run(arguments, target.backend, **options)), results(*run(same, "reference", **options))
    assert got.keys() == expected.keys()
    for name in got:
        equal_bits(got[name].cpu(), expected[name], name)
    # float64, the truth of the gradients, must spike where the dtype does.
    spikes = without_axon(same)
    assert torch.equal(run(spikes, "reference")[0].double(), run(in_double(spikes), "reference")[0]), (
        "take another seed"
    )
    found = gradients(arguments, target.backend, wanted=wanted, **options)
    loop, truth = (gradients(a, "reference", wanted=wanted, **options) for a in (same, in_double(same)))
    as_good_as_the_loop({name: gradient.cpu() for name, gradient in found.items()}, loop, truth)


@pytest.mark.parametrize(("form", "dtype"), CASES, ids=lambda x: x if isinstance(x, str) else dtype_id(x))
def test_forward_and_backward(target, form, dtype):
    skip_for_triton(target, form, dtype)
    layer, options = FORMS[form]
    hold(target, ODD, kind="neuron", dtype=dtype, state=True, options=options, **layer)
    # Without gradients of coefficients it is another kernel for backward, which Triton would take a second to compile.
    if target.backend == "cuda" or EVERY_CASE:
        hold(target, EVEN, kind="float", wanted=["current"], dtype=dtype, options=options, **layer)


@pytest.mark.parametrize("layer", [{}, {"axon": (2, 0)}, {"synapse": (2, 0)}], ids=["plain", "axon", "synapse"])
def test_more_steps_than_a_segment_has(target, layer):
    if target.backend == "triton" and not EVERY_CASE:
        pytest.skip("25 steps are more than Triton's segments have")
    for kind, wanted in (("float", ["current"]), ("neuron", None)):
        for options in ({}, {"checkpoint_every": 32}):
            hold(target, (101, 1, 37), kind=kind, wanted=wanted, options=options, **layer)


@contextmanager
def neurons_per_thread():
    """Yields a set that has, once the block is left, the neurons per thread of the CUDA kernels that ran in it."""
    device, found = emulated_device(), set()
    before, device.kernels = device.kernels, set()
    yield found
    layers = (re.search(r"ELi(\d)E(?:Lb\dE)?EEv", name) for name in device.kernels)
    found |= {int(layer[1]) for layer in layers if layer}  # the others are sums
    device.kernels |= before


# Three chunks of 8 and one more; chunks alone; less than a chunk; more steps than a segment has.
@pytest.mark.parametrize("steps", [25, 16, 7, 101])
@pytest.mark.parametrize(
    "layer", [{}, {"axon": (2, 0)}, {"synapse": (2, 0), "membrane": False}], ids=["plain", "axon", "iir"]
)
@pytest.mark.parametrize("dtype", DTYPES[1:], ids=dtype_id)
def test_threads_of_several_neurons(target, dtype, layer, steps):
    """Enough neurons for the emulated device, which has one multiprocessor."""
    if target.backend != "cuda":
        pytest.skip("Triton's threads have one neuron")
    membrane = "membrane" not in layer
    lanes, learning = (2 if dtype == torch.float32 else 4), (2 if membrane else 1)
    for kind, wanted in (("float", ["current"]), ("neuron", None)):
        for options in ({}, {"checkpoint_every": 32}) if steps > 100 and membrane else ({},):
            arguments = inputs((steps, 4, 256), device="cuda", dtype=dtype, kind=kind, state=kind == "neuron", **layer)
            with neurons_per_thread() as found:
                hold_forward(target, arguments, **options)
                hold_gradients(target, arguments, wanted=wanted, **options)
            assert found == ({lanes} if wanted else {lanes, learning})


def narrow(current: Tensor, by: int) -> Tensor:
    """The same values, each step ``by`` elements behind an aligned address."""
    steps, numbers = current.shape[0], current[0].numel()
    room = current.new_empty(steps * (numbers + 8) + by)
    moved = room[by:].as_strided(current.shape, (numbers + 8, *current.stride()[1:]))
    return moved.copy_(current)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=dtype_id)
def test_what_does_not_lie_together_takes_one_neuron_per_thread(target, dtype):
    """So does a small layer, whose threads would not fill the device."""
    if target.backend != "cuda":
        pytest.skip("Triton's threads have one neuron")
    even, odd, strided = (
        inputs(shape, device="cuda", dtype=dtype, kind=kind)
        for shape, kind in (((9, 4, 256), "float"), ((9, 5, 255), "neuron"), ((9, 4, 512), "float"))
    )
    strided["current"] = strided["current"][..., ::2]
    off = {**even, "current": narrow(even["current"], by=1)}
    aside = {**even, "current": narrow(even["current"], by=0)}  # aligned, with a gap between the steps
    small = inputs((9, 2, 64), device="cuda", dtype=dtype, kind="float")
    for arguments, lanes in ((small, 1), (odd, 1), (strided, 1), (off, 1), (aside, 2 if dtype == torch.float32 else 4)):
        with neurons_per_thread() as found:
            hold_forward(target, arguments)
        assert found == {lanes}
        hold_gradients(target, arguments, wanted=["current"])


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_id)
def test_codings(target, dtype):
    skip_for_triton(target, "plain", dtype)
    mean, log_std, probability = values((3, 37), dtype, "cuda")
    incoming = torch.randn((25, 3, 37), generator=torch.Generator().manual_seed(1)).to(mean)

    def train_and_gradients(backend):
        leaves = [mean.detach().requires_grad_(), log_std.detach().requires_grad_()]
        train = encode_gaussian(*leaves, 25, seed=9, backend=backend)
        found = torch.autograd.grad(train, leaves, incoming)
        return train.detach(), dict(zip(("mean", "log_std"), found, strict=True))

    train, got = train_and_gradients(target.backend)
    expected, loop = train_and_gradients("reference")
    # In float64 the exponential is a library's.
    (close if dtype == torch.float64 else equal_bits)(train, expected, "train")
    # float64 has a noise of its own, not the truth of a narrow train. So the loop's gradients are taken for it.
    as_good_as_the_loop(got, loop, {name: value.double() for name, value in loop.items()})
    spikes = (encode_poisson(probability, 25, seed=9, backend=name) for name in (target.backend, "reference"))
    equal_bits(*spikes, "spikes")
