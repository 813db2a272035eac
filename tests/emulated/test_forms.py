"""The code of nvcc and of Triton in every form of kernel, dtype and direction, on the emulated device.

Each launch comes through the real host code. Spikes and states have the reference's bits. A gradient is as near to
float64's as the plain loop's.
"""

import os

import pytest
import torch

from hnn_kernels import encode_gaussian, encode_poisson
from support.codings import values
from support.comparisons import as_good_as_the_loop, close, equal_bits
from support.forms import FORMS
from support.layers import DTYPES, gradients, in_double, inputs, results, run, without_axon
from support.targets import dtype_id

# 25 steps are three of the kernels' chunks of 8 and one more. An odd number of neurons, and a multiple of 8.
ODD, EVEN = (25, 3, 37), (25, 2, 68)
ARCHITECTURES = ("8.0", "9.0", "10.0", "12.0")
CASES = [(form, dtype) for form in FORMS for dtype in DTYPES]
EVERY_CASE = os.environ.get("HNN_EVERY_CASE", "").strip() == "1"


def skip_for_triton(target, form: str, dtype: torch.dtype) -> None:
    """Triton takes over a second for each kernel, so each pair of form and dtype is compiled for one architecture."""
    turn = list(FORMS).index(form) + DTYPES.index(dtype)
    if target.backend == "triton" and not EVERY_CASE and ARCHITECTURES[turn % 4] != os.environ["HNN_EMULATE"]:
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
