"""A step that cannot be traced is refused with the line of its source, and a call with the argument that is wrong."""

import math

import numpy as np
import pytest
import torch

import hnn_kernels
from hnn_kernels import fire, neuron
from hnn_kernels._define.layer import _choose
from support.defined import NEURONS, inputs


def a_choice(x, v):
    if v > 1:  # here
        v = v - 1
    return v, v


def a_loop(x, v):
    while v > 1:  # here
        v = v - 1
    return v, v


def a_chain(x, v):
    return fire(v), torch.where(0 < v < 1, v, x)  # here


def a_maximum(x, v):
    return v, max(x, v)  # here


def unknown(x, v):
    return v, torch.special.bessel_j0(v)  # here


def a_method(x, v):
    return v, v.cumsum(0)  # here


def of_math(x, v):
    return v, math.exp(v)  # here


def of_numpy(x, v):
    return v, np.exp(v)  # here


def in_place(x, v):
    v += x  # here
    return v, v


def a_tensor(x, v):
    return v, v * torch.ones(3)  # here


def an_item(x, v):
    return v, v[0]  # here


def a_dtype(x, v):
    return v, v.to(torch.float16)  # here


def a_rounding(x, v):
    return v, round(v)  # here


def a_text(x, v):
    return v, torch.where(v > 0, v, "0")  # here


def a_helper(x, v):
    return v, helped(v)


def helped(v):
    return v if v > 0 else -v  # here


REFUSED = (
    a_choice, a_loop, a_chain, a_maximum, unknown, a_method, of_math, of_numpy, in_place, a_tensor, an_item, a_dtype,
    a_rounding, a_text, a_helper,
)  # fmt: skip


@pytest.mark.parametrize("step", REFUSED)
def test_the_message_has_the_line(step):
    source = helped if step is a_helper else step
    with open(__file__) as file:
        lines = file.read().splitlines()
    first = source.__code__.co_firstlineno
    line = next(i for i in range(first, len(lines)) if lines[i].endswith("# here")) + 1
    with pytest.raises(TypeError) as error:
        neuron(states=("v",))(step)
    assert f"{__file__}:{line}: " in str(error.value)
    assert lines[line - 1].strip() in str(error.value)


@pytest.mark.parametrize(
    ("states", "step", "error", "match"),
    [
        (("w",), lambda x, v: (v, v), TypeError, r"parameters \(x, w, \*, coefficients\)"),
        (("v",), lambda x, *v: (x, x), TypeError, "parameters"),
        (("v",), lambda x, v, **c: (v, v), TypeError, "parameters"),
        (("v",), lambda x, v, *, steps: (v, v), ValueError, "coefficient called steps"),
        (("v",), lambda x, v, *, tau="4": (v, v), TypeError, "default of tau"),
        (("v",), lambda x, v: v, TypeError, r"must return \(output, \(v,\)\)"),
        (("v", "w"), lambda x, v, w: (v, v), TypeError, "must return"),
        (("v",), lambda x, v: (None, v), TypeError, "no value"),
        ("v", lambda x, v: (v, v), TypeError, "sequence of names"),
    ],
)
def test_definitions_of_another_form_are_refused(states, step, error, match):
    with pytest.raises(error, match=match):
        neuron(states=states)(step)


@pytest.mark.parametrize(
    ("changed", "error", "match"),
    [
        ({"decay": None}, TypeError, "needs its coefficient decay"),
        ({"decay": "0.9"}, TypeError, "decay must be a finite number"),
        ({"decay": math.nan}, ValueError, "decay must be a finite number"),
        ({"decay": torch.ones(4)}, ValueError, r"decay must broadcast against the features \(3, 5\)"),
        ({"decay": torch.ones(5, dtype=torch.float64)}, TypeError, "decay must be float32"),
        ({"tau": 4.0}, TypeError, r"coefficients .*; got \['tau'\]"),
        ({"state": torch.zeros(2, 3, 5)}, TypeError, "state must be a tuple of the states"),
        ({"state": (torch.zeros(2, 3, 5),)}, TypeError, "state must be a tuple of the states"),
        ({"state": (torch.zeros(2, 3, 4),) * 2}, ValueError, r"state\['v'\] must have the shape"),
        ({"x": torch.zeros(6, 2, 3, 5, dtype=torch.int64)}, TypeError, "dtypes"),
        ({"steps": -1}, ValueError, "steps must be at least 0"),
        ({"smooth": 1.0}, TypeError, "smooth must be True or False"),
        ({"checkpoint_every": 0}, ValueError, "checkpoint_every must be at least 1"),
        ({"backend": "gpu"}, ValueError, "backend must be one of"),
    ],
)
def test_calls_with_a_wrong_argument_are_refused(changed, error, match):
    layer, _ = NEURONS["adaptive"]
    with pytest.raises(error, match=match):
        layer(**{"backend": "reference", **inputs("adaptive"), **changed})


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ((torch.ones(2), "step"), ValueError, "surrogate must be one of"),
        ((torch.ones(2), "gaussian", 0.0), ValueError, "sigma must be a finite number above 0"),
        ((1.0,), TypeError, "distance must be a tensor"),
    ],
)
def test_a_spike_with_a_wrong_argument_is_refused(arguments, error, match):
    with pytest.raises(error, match=match):
        hnn_kernels.fire(*arguments)


def test_the_width_cannot_be_a_coefficient():
    with pytest.raises(TypeError, match="sigma must be a number"):
        neuron(states=("v",))(lambda x, v, *, width: (fire(v, sigma=width), v))


def test_a_backend_without_definitions_is_refused(monkeypatch):
    from hnn_kernels import _dispatch

    monkeypatch.setattr(_dispatch, "choose", lambda device, backend: "cuda")
    with pytest.raises(RuntimeError, match=r"backend='cuda' has no kernel of a neuron by definition.*'reference'"):
        NEURONS["delay"][0](torch.ones(2, 3), backend="cuda")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_takes_triton_or_an_error_says_why_not():
    """The reference does not run there unasked, since it is slow."""
    with pytest.raises(RuntimeError, match=r"backend='triton' cannot take this call: .*'reference'"):
        _choose(torch.device("cuda"), None)
