"""The noise as random numbers. All backends draw the same bits, so the reference stands for them.

The seeds are fixed, so a test passes always or never. Bounds are those that true random numbers exceed once in 10^5
(two-sided: 4.42 standard deviations), so that the two hundred numbers held here would do so once in 500 suites.
"""

import math

import pytest
import torch

from hnn_kernels import _noise as noise
from hnn_kernels import encode_poisson

DEVIATIONS = 4.42
ELEMENTS, STEPS = 1 << 14, 64
N = ELEMENTS * STEPS


@pytest.fixture(scope="module")
def normal():
    return noise.normal(torch.tensor(20210521), ELEMENTS, STEPS).double()


@pytest.fixture(scope="module")
def uniform():
    return noise.uniform(torch.tensor(20210521), ELEMENTS, STEPS).double()


def cdf(x):
    return torch.special.ndtr(x)


def hold(found, expected, deviation):
    assert abs(float(found) - expected) < DEVIATIONS * deviation, (float(found), expected, deviation)


def hold_uncorrelated(a, b):
    """The sample correlation of n independent pairs has the deviation 1 / sqrt(n)."""
    a, b = a - a.mean(), b - b.mean()
    hold((a * b).mean() / (a.std() * b.std()), 0, a.numel() ** -0.5)


def hold_distribution(x, cdf):
    """Kolmogorov and Smirnov: sqrt(n) D exceeds k once in 1 / (2 exp(-2 k^2)); k = 2.47."""
    x = x.flatten().sort().values
    n = x.numel()
    below = torch.arange(n, dtype=torch.float64) / n
    distance = torch.maximum((cdf(x) - below).abs(), (cdf(x) - below - 1 / n).abs()).max()
    assert distance * math.sqrt(n) < 2.47


def test_normal_moments(normal):
    for power, moment in ((1, 0), (2, 1), (3, 0), (4, 3), (6, 15)):
        double = math.prod(range(1, 2 * power, 2))  # E x^(2 p)
        hold((normal**power).mean(), moment, math.sqrt((double - moment**2) / N))


def test_normal_distribution(normal):
    hold_distribution(normal, cdf)
    for place in range(4):  # of a word in its group
        hold_distribution(normal[place::4], cdf)


@pytest.mark.parametrize("size", [2, 3, 4, 4.5])
@pytest.mark.parametrize("side", [-1, 1])
def test_normal_tails(normal, size, side):
    p = cdf(torch.tensor(-size, dtype=torch.float64)).item()
    found = (side * normal > size).sum()
    # The count of few events has Poisson's distribution, whose upper tail is heavier. Its bound at 1e-5, by the series.
    mean, most, left = N * p, 0, 1.0
    term = math.exp(-mean) if mean < 600 else None
    if term is None:
        hold(found, mean, math.sqrt(mean))
        return
    while left > 1e-5:
        left -= term
        most += 1
        term *= mean / most
    assert found <= most
    hold(min(found, mean), mean, math.sqrt(mean))


def test_the_largest_noise_there_can_be():
    """The smallest of the 2^31 radii: a tail beyond it has the probability 3e-11."""
    for angle in (0x3FFFFFFF, 0):
        first, second = noise._normals(torch.tensor([0, 1]), torch.tensor([angle, angle]))
        assert math.isclose(torch.hypot(first, second)[0].item(), math.sqrt(2 * math.log(2**32)), rel_tol=1e-6)
    first, second = noise._normals(torch.tensor([0xFFFFFFFF]), torch.tensor([0]))
    assert torch.equal(torch.stack([first, second]), torch.zeros(2, 1))


@pytest.mark.parametrize("lag", [1, 2, 3, 4, 5, 8])
def test_steps_are_independent(normal, uniform, lag):
    for x in (normal, uniform, normal.square(), normal.abs().log()):
        hold_uncorrelated(x[lag:], x[:-lag])


@pytest.mark.parametrize("lag", [1, 2, 7, 64, 256])
def test_elements_are_independent(normal, uniform, lag):
    for x in (normal, uniform, normal.square()):
        hold_uncorrelated(x[:, lag:], x[:, :-lag])


def test_an_element_and_a_step_are_not_each_others(normal):
    hold_uncorrelated(normal[1:, :-1], normal[:-1, 1:])
    hold_uncorrelated(normal[:, :64], normal[:, :64].T)


@pytest.mark.parametrize("other", [20210522, 20210521 + 2**32, 20210521 - 2**63, ~20210521])
def test_seeds_are_independent(normal, other):
    hold_uncorrelated(normal, noise.normal(torch.tensor(other), ELEMENTS, STEPS).double())


def test_uniform_distribution(uniform):
    assert uniform.min() >= 0
    assert uniform.max() < 1
    assert torch.equal(uniform * 2**24, (uniform * 2**24).round())
    hold_distribution(uniform, lambda x: x)
    # Every bit of the 24 is set half of the time.
    bits = (uniform * 2**24).long()
    for i in range(24):
        hold((bits >> i & 1).double().mean(), 0.5, 0.5 / math.sqrt(N))


@pytest.mark.parametrize("p", [1e-4, 0.02, 0.5, 0.9, 0.9999])
def test_poisson_rates(p):
    train = encode_poisson(torch.full((ELEMENTS,), p), STEPS, seed=7).double()
    hold(train.mean(), p, math.sqrt(p * (1 - p) / N))
    # The counts over time are binomial.
    counts = train.sum(0)
    variance = STEPS * p * (1 - p)
    fourth = variance * (1 + (3 * STEPS - 6) * p * (1 - p))
    hold(counts.var(), variance, math.sqrt((fourth - variance**2) / ELEMENTS))
    if 0.01 < p < 0.99:
        hold_uncorrelated(train[1:], train[:-1])
        hold_uncorrelated(train[:, 1:], train[:, :-1])
