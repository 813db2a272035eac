"""Gaussian and Poisson coding: the published generator, and the same numbers on every backend."""

import math

import pytest
import torch
from torch import nn

import hnn_kernels
from hnn_kernels import _noise as noise
from hnn_kernels import encode_gaussian, encode_poisson
from hnn_kernels._ops.coding import coding_ops
from hnn_kernels.nn import LIF, Gaussian, Poisson
from support.codings import trains, values
from support.comparisons import close, equal_bits
from support.guarded_memory import GuardedAllocations, among_nans, call_below
from support.layers import DTYPES
from support.targets import dtype_id

# Philox4x32-10: counter, key and words, from the known-answer tests of Random123 (Salmon et al.).
KNOWN = [
    ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344], [0xA4093822, 0x299F31D0],
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]  # fmt: skip


def pair(low: int, high: int) -> int:
    """Two words as the int64 of the same bits."""
    bits = high << 32 | low
    return bits - 2**64 if bits >> 63 else bits


def hold(target, got, expected, what):
    """Check for equal bits; for close numbers where float64 uses a library's exponential, or bfloat16 is truncated."""
    cut = target.interpreted and got.dtype == torch.bfloat16
    (close if cut or got.dtype == torch.float64 else equal_bits)(got, expected, what)


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
def test_the_reference_is_the_published_generator(counter, key, words):
    found = noise.philox([torch.tensor(c) for c in counter], [torch.tensor(k) for k in key])
    assert [int(word) for word in found] == words


@pytest.mark.parametrize(("counter", "key", "words"), [KNOWN[0], KNOWN[2]])
def test_known_words(target, counter, key, words):
    """A spike comes exactly where the word's upper 24 bits are below the probability."""
    seed = torch.tensor(pair(*key), device=target.device)
    element, step = pair(*counter[:2]), 4 * pair(*counter[2:])
    for i, word in enumerate(words):
        for above in (0, 1):
            p = torch.tensor([((word >> 8) + above) * 2.0**-24], device=target.device)
            train = coding_ops["poisson_forward", target.backend](p, seed, 4, step, element)
            assert train[i].item() == above


@pytest.mark.parametrize(("counter", "key", "words"), [KNOWN[0], KNOWN[2]])
def test_known_normal_numbers(any_target, counter, key, words):
    """The Box-Muller transform of the words, in float64."""
    expected = []
    for radius, angle in (words[:2], words[2:]):
        length = math.sqrt(-2 * math.log(((radius >> 1) + 0.5) / 2**31))
        place = math.pi / 4 + ((angle & 0x3FFFFFFF) - 2**29) * math.pi / 2**31
        for size, sign in ((math.sin(place), angle >> 31), (math.cos(place), angle >> 30 & 1)):
            expected.append(length * size * (-1 if sign else 1))
    seed, zero = torch.tensor(pair(*key), device=any_target.device), torch.zeros(1, device=any_target.device)
    first_step, first_element = 4 * pair(*counter[2:]), pair(*counter[:2])
    if any_target.backend == "reference":
        train = noise.normal(seed, 1, 4, first_step=first_step, first_element=first_element)
    else:
        op = coding_ops["gaussian_forward", any_target.backend]
        train = op(zero, zero, seed, 4, first_step, first_element)
    # Rounding: 4 ulp at most over a million numbers, except for lengths below 0.01.
    torch.testing.assert_close(train.flatten().double().cpu(), torch.tensor(expected).double(), rtol=1e-6, atol=1e-6)


def test_the_exponential_is_within_two_ulp_of_the_true_one():
    x = torch.linspace(-87.3, 88.72, 1_000_001)
    truth = x.double().exp()
    assert ((noise.exp(x).double() - truth).abs() / truth).max() < 2 * 2**-23
    edges = torch.tensor([-math.inf, -88.0, 0.0, 88.73, math.inf, math.nan])
    equal_bits(noise.exp(edges), torch.tensor([0.0, 0.0, 1.0, math.inf, math.inf, math.nan]), "edges")


# Shapes, the steps of a call, its first step and its first element.
CASES = {
    "a step": ((3, 5), 1, 0, 0),
    "no step": ((3, 5), 0, 2, 0),
    "within a group": ((3, 5), 2, 5, 0),
    "images": ((2, 3, 4, 5), 9, 0, 0),
    "whole tiles": ((4, 64), 37, 0, 0),
    "more than a block": ((2, 65), 70, 3, 7),
    "far on": ((3, 7), 6, 2**34 + 1, 2**40 + 3),
    "across 2^32 elements": ((3, 7), 5, 0, 2**32 - 10),
    "one number": ((1,), 8, 0, 0),
    "empty": ((2, 0), 3, 0, 0),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_id)
def test_the_numbers_are_those_of_the_reference(target, dtype, case):
    shape, steps, first_step, first_element = CASES[case]
    mean, log_std, p = values(shape, dtype, target.device)
    where = {"seed": -(2**62) + 5, "first_step": first_step, "first_element": first_element}
    for encode, arguments in ((encode_gaussian, (mean, log_std)), (encode_poisson, (p,))):
        got = encode(*arguments, steps, **where, backend=target.backend)
        assert got.shape == (steps, *shape)
        hold(target, got, encode(*arguments, steps, **where, backend="reference"), encode.__name__)


def test_every_dtype_has_the_same_noise(any_target):
    mean, log_std, p = values((3, 50), torch.bfloat16, any_target.device)
    wide = encode_gaussian(mean.double(), log_std.double(), 9, seed=3, backend=any_target.backend)
    spikes = encode_poisson(p.double(), 9, seed=3, backend=any_target.backend)
    for dtype in DTYPES[1:]:
        got = encode_gaussian(mean.to(dtype), log_std.to(dtype), 9, seed=3, backend=any_target.backend)
        tolerance = 4 * torch.finfo(dtype).eps
        torch.testing.assert_close(got.double(), wide, rtol=tolerance, atol=tolerance)
        equal_bits(encode_poisson(p.to(dtype), 9, seed=3, backend=any_target.backend).double(), spikes, "spikes")


@pytest.mark.parametrize("split", [1, 4, 5, 8])
def test_two_calls_over_split_time_are_one(any_target, split):
    mean, log_std, p = values((3, 7), device=any_target.device)
    for encode, arguments in ((encode_gaussian, (mean, log_std)), (encode_poisson, (p,))):
        options = {"seed": 11, "backend": any_target.backend}
        parts = [encode(*arguments, split, **options), encode(*arguments, 9 - split, first_step=split, **options)]
        equal_bits(torch.cat(parts), encode(*arguments, 9, **options), "time")


def test_two_calls_over_a_split_batch_are_one(any_target):
    mean, log_std, p = values((5, 3, 7), device=any_target.device)
    for encode, arguments in ((encode_gaussian, (mean, log_std)), (encode_poisson, (p,))):
        options = {"seed": 11, "backend": any_target.backend}
        parts = [
            encode(*(x[:2] for x in arguments), 6, **options),
            encode(*(x[2:] for x in arguments), 6, first_element=2 * 3 * 7, **options),
        ]
        equal_bits(torch.cat(parts, 1), encode(*arguments, 6, **options), "batch")


def layouts(x):
    """The same numbers in other memory: channels last, a step out of two, half of a wider output, expanded."""
    yield x.movedim(1, -1).contiguous().movedim(-1, 1)
    yield x.repeat_interleave(2, -1)[..., ::2]
    yield torch.cat([x, x + 1], 1)[:, : x.shape[1]]
    yield x[:1].expand(x.shape)


@pytest.mark.parametrize("kind", range(4), ids=["channels last", "strided", "half", "expanded"])
def test_the_layout_in_memory_does_not_matter(target, kind):
    tensors = values((2, 3, 4, 5), device=target.device)
    mean, log_std, p = (list(layouts(x))[kind] for x in tensors)
    log_std_of_its_own = log_std.contiguous()  # numbered by the mean's memory
    for encode, arguments in (
        (encode_gaussian, (mean, log_std)), (encode_gaussian, (mean, log_std_of_its_own)), (encode_poisson, (p,)),
    ):  # fmt: skip
        got = encode(*arguments, 6, seed=2, backend=target.backend)
        expected = encode(*(x.contiguous() for x in arguments), 6, seed=2, backend="reference")
        hold(target, got, expected, "layout")
        assert got[0].stride() == torch.empty_like(arguments[0]).stride()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=dtype_id)
@pytest.mark.parametrize("shape", [(2, 35), (2, 3, 4, 5)], ids=str)
def test_nothing_outside_the_tensors_is_touched(target, shape, dtype):
    """Inputs, also the halves of a [B, 2 F] output, lie among NaNs, and outputs between guards."""
    margin = 300
    seed = torch.tensor(5, device=target.device)
    mean, log_std, p = (among_nans(x, margin) for x in values(shape, dtype, target.device))
    both = among_nans(torch.cat([mean, log_std], 1), margin)
    halves = both.tensor_split(2, 1)
    train = among_nans(torch.randn((7, *shape), device=target.device).to(dtype), margin)
    for name, arguments in (
        ("gaussian_forward", (mean, log_std, seed, 7, 1, 0)),
        ("gaussian_forward", (*halves, seed, 7, 1, 0)),
        ("poisson_forward", (p, seed, 7, 1, 0)),
        ("gaussian_backward", (train, log_std, seed, 1, 0, 3)),
        ("gaussian_backward", (train.transpose(1, 2), halves[1].transpose(0, 1), seed, 1, 0, 3)),
    ):
        guards = GuardedAllocations(margin)
        found = call_below(coding_ops[name, target.backend], guards, target.device, arguments)
        guards.check()
        for result in found if isinstance(found, list) else [found]:
            assert not result.isnan().any(), name


def test_probabilities_of_nought_and_one_are_certain(any_target):
    p = torch.tensor([[0.0, 1.0]], device=any_target.device).expand(200, 2)
    train = encode_poisson(p, 100, seed=1, backend=any_target.backend)
    assert not train[..., 0].any()
    assert train[..., 1].all()


needs_cpu = pytest.mark.skipif("cpu" not in hnn_kernels.backends()["cpu"].devices, reason="no C++ kernels for the CPU")


@needs_cpu
def test_threads_change_no_bit():
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(trains((64, 1700)))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        for got, expected in zip(other, found[0], strict=True):
            equal_bits(got, expected, "threads")


@needs_cpu
@pytest.mark.parametrize("columns", [256, 250])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=dtype_id)
def test_large_trains_are_written_past_the_cache(dtype, columns):
    """From 8 MiB on at the latest, the CPU kernels store past the cache. 250 columns leave tiles that are not full."""
    rows = 4000 // dtype.itemsize
    for got, expected in zip(trains((rows, columns), dtype), trains((rows, columns), dtype, "reference"), strict=True):
        equal_bits(got, expected, "train")


@pytest.mark.parametrize("axes", [8, 12])
def test_many_axes(target, axes):
    """A call with many axes is correct, or an error that says so."""
    shape = [2 if i % 3 else 1 for i in range(axes)]
    mean, log_std, _ = (x.permute(*reversed(range(axes))) for x in values(shape, device=target.device))
    expected = encode_gaussian(mean, log_std, 3, seed=6, backend="reference")
    message = ""
    try:
        hold(target, encode_gaussian(mean, log_std, 3, seed=6, backend=target.backend), expected, "many axes")
    except RuntimeError as error:
        message = str(error)
    assert not message or (axes > 8 and "axes per step; at most 8" in message), message


# -- the seed ----------------------------------------------------------------------------------------------------------


def test_manual_seed_settles_the_noise(any_target):
    mean, log_std, p = values((3, 7), device=any_target.device)
    for encode, arguments in ((encode_gaussian, (mean, log_std)), (encode_poisson, (p,))):
        found = []
        for manual in (4, 4, 5):
            torch.manual_seed(manual)
            found += [encode(*arguments, 20, backend=any_target.backend) for _ in range(2)]
        equal_bits(found[2], found[0], "the same seed")
        equal_bits(found[3], found[1], "the same seed, the second call")
        for other in (found[1], found[4]):
            assert not torch.equal(other, found[0])


def test_a_seed_is_a_number_or_a_tensor(any_target):
    mean, log_std, _ = values((3, 7), device=any_target.device)
    for seed in (0, -1, 2**63 - 1, -(2**63)):
        as_tensor = torch.tensor(seed, device=any_target.device)
        found = [encode_gaussian(mean, log_std, 5, seed=s, backend=any_target.backend) for s in (seed, as_tensor)]
        equal_bits(*found, "seed")


# -- modules -----------------------------------------------------------------------------------------------------------


def test_modules(any_target):
    mean, log_std, p = values((3, 6, 4), device=any_target.device)
    backend = any_target.backend
    equal_bits(
        Gaussian(5, backend=backend)(torch.cat([mean, log_std], 1), seed=8),
        encode_gaussian(mean, log_std, 5, seed=8, backend=backend), "Gaussian",
    )  # fmt: skip
    equal_bits(Poisson(5, backend=backend)(p, seed=8), encode_poisson(p, 5, seed=8, backend=backend), "Poisson")
    assert repr(Gaussian(5)) == "Gaussian(steps=5)"
    assert repr(Poisson(5)) == "Poisson(steps=5)"


def test_a_hybrid_network_with_gaussian_coding_trains():
    model = nn.Sequential(nn.Linear(6, 10), Gaussian(7), LIF(0.9), nn.Linear(5, 3), LIF(0.9, readout="count"))
    model(torch.randn(4, 6)).sum().backward()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in model[0].parameters())


def test_meta_tensors():
    mean = torch.empty(3, 4, device="meta")
    assert encode_gaussian(mean, mean, 5).shape == (5, 3, 4)
    assert encode_poisson(mean, 5).device.type == "meta"


def test_the_public_names():
    assert {"encode_duplicate", "encode_gaussian", "encode_poisson"} <= set(hnn_kernels.__all__)
