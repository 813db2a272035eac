"""Counts are exact or refused, NumPy's numbers are taken, and a train that cannot fit is refused."""

import numpy as np
import pytest
import torch

import hnn_kernels
from hnn_kernels import IIR, encode_duplicate, encode_gaussian, encode_poisson, iir, lif
from hnn_kernels.nn import LIF, Gaussian
from support.targets import dtype_id

EXACT = {torch.float64: 2**53, torch.float32: 2**24, torch.float16: 2**11, torch.bfloat16: 2**8}


def spikes_at_every_step(steps, dtype, device="cpu", **options):
    current = torch.full((1, 2), 2.0, dtype=dtype, device=device)
    return lif(current, 0.0, reset="none", steps=steps, readout="count", **options)[0]


@pytest.mark.parametrize("dtype", EXACT, ids=dtype_id)
def test_the_limits_are_those_of_the_dtypes(dtype):
    """Every whole number up to the limit is there, and the next one is not."""
    limit = EXACT[dtype]
    assert torch.tensor(limit, dtype=dtype).long().item() == limit
    assert torch.tensor(limit - 1, dtype=dtype).long().item() == limit - 1
    assert torch.tensor(limit + 1, dtype=dtype).long().item() != limit + 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=dtype_id)
def test_a_count_up_to_the_limit_is_exact(any_target, dtype):
    for steps in (EXACT[dtype], EXACT[dtype] - 1):
        count = spikes_at_every_step(steps, dtype, any_target.device, backend=any_target.backend)
        assert (count == steps).all()


@pytest.mark.parametrize("dtype", EXACT, ids=dtype_id)
def test_a_count_over_more_steps_is_refused(any_target, dtype):
    name = str(dtype).removeprefix("torch.")
    with pytest.raises(ValueError, match=rf"readout='count' takes at most {EXACT[dtype]} steps in {name}"):
        spikes_at_every_step(EXACT[dtype] + 1, dtype, backend=any_target.backend)
    train = torch.zeros(1, 1, 1, dtype=dtype).expand(EXACT[dtype] + 1, 1, 1)
    with pytest.raises(ValueError, match="readout='count'"):
        LIF(0.5, readout="count", backend=any_target.backend)(train)


def test_a_smooth_count_has_to_be_finite():
    with pytest.raises(ValueError, match=r"takes at most 65504 steps in float16, in which no larger number is finite"):
        spikes_at_every_step(65505, torch.float16, smooth=True)
    out = spikes_at_every_step(3000, torch.float16, smooth=True)
    assert out.isfinite().all()


def test_a_long_train_is_not_a_count():
    assert lif(torch.zeros(1, 2, dtype=torch.bfloat16), 0.5, 0.5, steps=300)[0].shape == (300, 1, 2)


# -- numbers -----------------------------------------------------------------------------------------------------------

INTS = [np.int64(5), np.int32(5), np.uint8(5), np.array(5)]


@pytest.mark.parametrize("five", INTS, ids=lambda value: f"{type(value).__name__}-{value.dtype}")
def test_ints_of_numpy(five):
    value = torch.rand(2, 4)
    assert len(lif(value, 0.9, 0.5, steps=five)[0]) == 5
    assert len(encode_duplicate(value, five)) == len(encode_poisson(value, five)) == 5
    assert torch.equal(
        encode_gaussian(value, value, five, seed=five, first_step=five),
        encode_gaussian(value, value, 5, seed=5, first_step=5),
    )
    assert Gaussian(five).steps == 5
    assert type(Gaussian(five).steps) is int
    assert LIF(0.9, checkpoint_every=five).checkpoint_every == 5
    assert LIF(0.9, learn=("decay",), shape=(five,)).decay.shape == (5,)


@pytest.mark.parametrize(
    "bad", [True, np.True_, np.array(True), 5.0, np.float32(5), "5", np.array([5]), torch.tensor(5)], ids=repr
)
def test_other_things_are_no_steps(bad):
    value = torch.rand(2, 4)
    for call in (
        lambda: lif(value, 0.9, 0.5, steps=bad), lambda: encode_duplicate(value, bad), lambda: Gaussian(bad),
    ):  # fmt: skip
        with pytest.raises(TypeError, match="steps must be an int"):
            call()
    with pytest.raises(TypeError, match="checkpoint_every must be an int"):
        LIF(0.9, checkpoint_every=bad)


FLOATS = [np.float32(0.5), np.float64(0.5), np.float16(0.5), np.array(0.5), np.array(0.5, np.float32)]


@pytest.mark.parametrize("half", FLOATS, ids=lambda value: f"{type(value).__name__}-{value.dtype}")
def test_floats_of_numpy(half):
    x = torch.randn(4, 2, 3)
    assert torch.equal(lif(x, half, half, half, sigma=half)[0], lif(x, 0.5, 0.5, 0.5, sigma=0.5)[0])
    assert torch.equal(iir(x, [half], [half])[0], iir(x, [0.5], [0.5])[0])
    assert IIR.exponential(half) == IIR.exponential(0.5)
    assert LIF(half, sigma=half).sigma == 0.5


@pytest.mark.parametrize("bad", [True, np.True_, np.array(True), "0.5", np.array([0.5]), 1j], ids=repr)
def test_other_things_are_no_floats(bad):
    x = torch.randn(4, 2, 3)
    for name in ("decay", "sigma"):
        with pytest.raises(TypeError, match=f"{name} must be a finite number"):
            lif(x, **{"decay": 0.5, "reset_decay": 0.5, name: bad})
    with pytest.raises(TypeError, match="tau must be a finite number"):
        IIR.exponential(bad)


@pytest.mark.parametrize("yes", [np.True_, np.array(True)], ids=repr)
def test_bools_of_numpy(yes):
    x = torch.randn(4, 2, 3)
    out, state = lif(x, 0.5, 0.5, smooth=yes, return_state=yes)
    assert torch.equal(out, lif(x, 0.5, 0.5, smooth=True)[0])
    assert state.v.shape == (2, 3)
    assert iir(x, [0.5], [0.5], return_state=yes)[1] is not None
    assert LIF(0.9, smooth=yes).smooth is True
    assert isinstance(hnn_kernels.nn.IIR([0.5], [0.5], learn=yes).feedback, torch.nn.Parameter)
    assert IIR.dual_exponential(4, 1, normalize=yes) == IIR.dual_exponential(4, 1, normalize=True)


@pytest.mark.parametrize("bad", [1, 0, "true", np.int64(1), np.array([True]), torch.tensor(True), None], ids=repr)
def test_other_things_are_no_bools(bad):
    x = torch.randn(4, 2, 3)
    for call, name in (
        (lambda: lif(x, 0.5, 0.5, smooth=bad), "smooth"), (lambda: lif(x, 0.5, 0.5, return_state=bad), "return_state"),
        (lambda: LIF(0.9, smooth=bad), "smooth"), (lambda: hnn_kernels.nn.IIR([0.5], [0.5], learn=bad), "learn"),
        (lambda: IIR.dual_exponential(4, 1, normalize=bad), "normalize"),
    ):  # fmt: skip
        with pytest.raises(TypeError, match=f"{name} must be True or False; got"):
            call()


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.complex64], ids=dtype_id)
def test_a_current_of_another_dtype_is_refused(dtype):
    with pytest.raises(TypeError, match="current must have one of the dtypes float64, float32, bfloat16, float16"):
        lif(torch.ones(3, 2, 4).to(dtype), 0.5, 0.5)


@pytest.mark.parametrize("layout", [torch.strided, torch.jagged], ids=str)
def test_a_nested_tensor_is_refused(layout):
    nested = torch.nested.nested_tensor([torch.rand(3, 2), torch.rand(4, 2)], layout=layout)
    with pytest.raises(TypeError, match="current must be a dense tensor; got a nested tensor"):
        lif(nested, 0.5, 0.5)


# -- sizes -------------------------------------------------------------------------------------------------------------


def test_a_train_that_cannot_fit_is_refused(any_target):
    value = torch.zeros(2, 4, device=any_target.device)
    for call in (
        lambda: lif(value, 0.5, 0.5, steps=2**50, backend=any_target.backend),
        lambda: encode_gaussian(value, value, 2**50, backend=any_target.backend),
        lambda: encode_poisson(value, 2**50, backend=any_target.backend),
    ):
        with pytest.raises(MemoryError, match=r"steps=1125899906842624 .*\(2, 4\).* GiB, and .* GiB of memory"):
            call()


def test_a_train_that_takes_no_memory_is_taken():
    assert len(encode_duplicate(torch.zeros(2, 4), 2**50)) == 2**50


# -- no steps ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"readout": "count"}, {"axon": IIR((0.5,), (1.0, 0.1))}], ids=str)
def test_gradients_without_a_step(any_target, options):
    """The state comes out as it went in, with its gradient; what did not matter has gradients of zeros."""
    device = any_target.device
    current = torch.zeros(0, 2, 3, device=device, requires_grad=True)
    decay = torch.full((3,), 0.5, device=device, requires_grad=True)
    v, r = (torch.rand(2, 3, device=device, requires_grad=True) for _ in range(2))
    axon = torch.rand(2, 2, 3, device=device, requires_grad=True) if "axon" in options else None
    state = hnn_kernels.LIFState(v, r, None, axon)
    out, after = lif(current, decay, 0.5, state=state, backend=any_target.backend, **options)
    given = [current, decay, v, r] + ([] if axon is None else [axon])
    (out.sum() + 2 * after.v.sum() + 3 * after.r.sum() + (0 if axon is None else 4 * after.axon.sum())).backward()
    assert [None if t.grad is None else set(t.grad.flatten().tolist()) for t in given] == [
        set(), {0.0}, {2.0}, {3.0}, *([] if axon is None else [{4.0}]),
    ]  # fmt: skip
    x = torch.zeros(0, 2, 3, device=device, requires_grad=True)
    history = torch.rand(2, 2, 3, device=device, requires_grad=True)
    y, last = hnn_kernels.iir(x, (0.5,), (1.0, 0.1), state=history, backend=any_target.backend)
    assert y.requires_grad
    last.sum().backward()
    assert (history.grad == 1).all()
