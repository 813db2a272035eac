"""Errors for bad input to the codings with noise: they name the argument, what was given, and what is allowed."""

import math

import pytest
import torch

from hnn_kernels import encode_gaussian, encode_poisson
from hnn_kernels.nn import Gaussian, Poisson
from support.errors import refuses

MEAN = torch.zeros(2, 3)
HALF = torch.full((2, 3), 0.5)

BAD_VALUES = {
    "a list": ([1.0], TypeError, "tensor", "list"),
    "no axes": (torch.zeros(()), ValueError, "[B, *features]", "()"),
    "integers": (torch.zeros(2, 3, dtype=torch.int64), TypeError, "float32", "int64"),
    "sparse": (torch.zeros(2, 3).to_sparse(), TypeError, "dense"),
}


@pytest.mark.parametrize("case", BAD_VALUES)
def test_value(case):
    value, error, *said = BAD_VALUES[case]
    refuses(encode_gaussian, {"mean": value, "log_std": MEAN, "steps": 3}, error, "mean", *said)
    refuses(encode_poisson, {"probability": value, "steps": 3}, error, "probability", *said)


BAD_DEVIATIONS = {
    "a number": (0.0, TypeError, "tensor", "float"),
    "float64": (MEAN.double(), TypeError, "float32", "mean", "float64"),
    "another shape": (MEAN[:1], ValueError, "(2, 3)", "mean", "(1, 3)"),
    "another device": (MEAN.to("meta"), ValueError, "cpu", "mean", "meta"),
}


@pytest.mark.parametrize("case", BAD_DEVIATIONS)
def test_log_std(case):
    value, error, *said = BAD_DEVIATIONS[case]
    refuses(encode_gaussian, {"mean": MEAN, "log_std": value, "steps": 3}, error, "log_std", *said)


COUNTS = {
    "negative": (-1, ValueError, "at least 0", "-1"),
    "a float": (2.0, TypeError, "int", "float"),
    "a bool": (True, TypeError, "int", "bool"),
    "a tensor": (torch.tensor(2), TypeError, "int", "Tensor"),
}


@pytest.mark.parametrize("name", ["steps", "first_step", "first_element"])
@pytest.mark.parametrize("case", COUNTS)
def test_counts(name, case):
    value, error, *said = COUNTS[case]
    refuses(encode_gaussian, {"mean": MEAN, "log_std": MEAN, "steps": 3, name: value}, error, name, *said)
    refuses(encode_poisson, {"probability": HALF, "steps": 3, name: value}, error, name, *said)


def test_steps_of_the_modules():
    for module in (Gaussian, Poisson):
        refuses(module, {"steps": -1}, ValueError, "steps", "at least 0", "-1")


SEEDS = {
    "a float": (1.0, TypeError, "int", "tensor", "None", "1.0", "float"),
    "a bool": (True, TypeError, "int", "tensor", "None", "bool"),
    "65 bits": (2**63, ValueError, "2^63", str(2**63)),
    "a tensor of another dtype": (torch.tensor(1, dtype=torch.int32), TypeError, "int64", "int32"),
    "a tensor with axes": (torch.tensor([1]), ValueError, "without axes", "(1,)"),
    "a tensor elsewhere": (torch.tensor(1, device="meta"), ValueError, "cpu", "meta"),
}


@pytest.mark.parametrize("case", SEEDS)
def test_seed(case):
    value, error, *said = SEEDS[case]
    refuses(encode_gaussian, {"mean": MEAN, "log_std": MEAN, "steps": 3, "seed": value}, error, "seed", *said)
    refuses(Poisson(3), {"probability": HALF, "seed": value}, error, "seed", *said)


def test_backend():
    refuses(encode_poisson, {"probability": HALF, "steps": 3, "backend": "tpu"}, ValueError, "backend", "'tpu'")
    refuses(Gaussian(3, backend="tpu"), {"value": torch.zeros(2, 4)}, ValueError, "backend", "'tpu'")


PROBABILITIES = {
    "above": (1.5, "0.5 to 1.5"),
    "just above": (1 + 2**-20, "0.5 to 1.0000009536743164"),
    "below": (-0.25, "-0.25 to 0.5"),
    "infinite": (math.inf, "0.5 to inf"),
    "NaN": (math.nan, "NaN"),
}


@pytest.mark.parametrize("case", PROBABILITIES)
@pytest.mark.parametrize("place", [0, 5, 4999])
def test_probability(any_target, case, place):
    if any_target.device != "cpu":
        pytest.skip("there it is asserted on the device")
    value, said = PROBABILITIES[case]
    p = torch.full((50, 100), 0.5)
    p.view(-1)[place] = value
    for steps in (3, 0):
        arguments = {"probability": p, "steps": steps, "backend": any_target.backend}
        refuses(encode_poisson, arguments, ValueError, "probability", "[0, 1]", said)
    # Nothing of it is left for the next call.
    encode_poisson(HALF, 3, backend=any_target.backend)


@pytest.mark.parametrize("shape", [(4,), (2, 5), (2, 3, 4)], ids=str)
def test_value_of_the_gaussian_module(shape):
    refuses(Gaussian(3), {"value": torch.zeros(shape)}, ValueError, "value", "means", str(shape))
