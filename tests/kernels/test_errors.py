"""Errors for bad input: the right type, and a message that names the argument, what was given and what is allowed."""

import math

import pytest
import torch

import hnn_kernels
from hnn_kernels import LIFState
from hnn_kernels import _dispatch as dispatch
from hnn_kernels import nn as hnn_nn
from support.errors import refuses

T, B, N = 4, 2, 3
CURRENT = torch.zeros(T, B, N)


def zero_state(**changed):
    return LIFState(**{"v": torch.zeros(B, N), "r": torch.zeros(B, N), **changed})


BAD_CURRENTS = {
    "a list": ([[1.0]], TypeError, "tensor", "list"),
    "a number": (1.0, TypeError, "tensor", "float"),
    "nothing": (None, TypeError, "tensor", "NoneType"),
    "no axes": (torch.zeros(()), ValueError, "[T, B, *features]", "()"),
    "one axis": (torch.zeros(5), ValueError, "[T, B, *features]", "(5,)"),
    "integers": (torch.zeros(T, B, N, dtype=torch.int64), TypeError, "float32", "int64"),
    "booleans": (torch.zeros(T, B, N, dtype=torch.bool), TypeError, "float32", "bool"),
    "complex": (torch.zeros(T, B, N, dtype=torch.complex64), TypeError, "bfloat16", "complex64"),
    "eight bits": (torch.zeros(T, B, N, dtype=torch.float8_e4m3fn), TypeError, "float16", "float8_e4m3fn"),
    "sparse": (torch.zeros(T, B, N).to_sparse(), TypeError, "dense", "torch.sparse_coo"),
}


@pytest.mark.parametrize("case", BAD_CURRENTS)
def test_current(case):
    value, *expected = BAD_CURRENTS[case]
    arguments = {"current": value, "decay": 0.9, "reset_decay": 0.5}
    refuses(hnn_kernels.lif, arguments, expected[0], "current", *expected[1:])


@pytest.mark.parametrize("case", BAD_CURRENTS)
def test_current_of_the_module(case):
    value, *expected = BAD_CURRENTS[case]
    refuses(hnn_nn.LIF(), {"current": value}, expected[0], "current", *expected[1:])


def test_constant_current_without_a_batch():
    arguments = {"current": torch.zeros(()), "decay": 0.9, "reset_decay": 0.5, "steps": 3}
    refuses(hnn_kernels.lif, arguments, ValueError, "current", "[B, *features]", "()")


COEFFICIENTS = ("decay", "reset_decay", "threshold")
BAD_COEFFICIENTS = {
    "NaN": (math.nan, ValueError, "finite", "nan"),
    "infinity": (math.inf, ValueError, "finite", "inf"),
    "minus infinity": (-math.inf, ValueError, "finite", "-inf"),
    "a bool": (True, TypeError, "number", "bool"),
    "a string": ("0.9", TypeError, "number", "str"),
    "nothing": (None, TypeError, "number", "got None"),
    "a list": ([0.9], TypeError, "number", "list"),
    "complex": (1j, TypeError, "number", "complex"),
    "another length": (torch.ones(N + 1), ValueError, "broadcast", "(3,)", "(4,)"),
    "the batch's axis": (torch.ones(B, N), ValueError, "broadcast", "(3,)", "(2, 3)"),
    "more axes": (torch.ones(1, N), ValueError, "broadcast", "(3,)", "(1, 3)"),
    "no elements": (torch.ones(0), ValueError, "broadcast", "(3,)", "(0,)"),
    "float64": (torch.ones(N, dtype=torch.float64), TypeError, "float32", "float64"),
    "bfloat16": (torch.ones(N, dtype=torch.bfloat16), TypeError, "float32", "bfloat16"),
    "integers": (torch.ones(N, dtype=torch.int64), TypeError, "float32", "int64"),
    "sparse": (torch.ones(N).to_sparse(), TypeError, "dense", "torch.sparse_coo"),
    "another device": (torch.ones(N, device="meta"), ValueError, "cpu", "meta"),
}


@pytest.mark.parametrize("name", COEFFICIENTS)
@pytest.mark.parametrize("case", BAD_COEFFICIENTS)
def test_coefficient(name, case):
    value, *expected = BAD_COEFFICIENTS[case]
    arguments = {"current": CURRENT, "decay": 0.9, "reset_decay": 0.5, "threshold": 1.0, name: value}
    refuses(hnn_kernels.lif, arguments, expected[0], name, *expected[1:])


@pytest.mark.parametrize("name", COEFFICIENTS)
@pytest.mark.parametrize("case", ["NaN", "infinity", "a bool", "a string", "a list", "complex", "sparse"])
def test_coefficient_of_the_module(name, case):
    """The error comes when the layer is made, not when it first runs."""
    value, *expected = BAD_COEFFICIENTS[case]
    refuses(hnn_nn.LIF, {name: value}, expected[0], name, *expected[1:])
    refuses(hnn_nn.LIF, {name: value, "learn": COEFFICIENTS}, expected[0], name, *expected[1:])


@pytest.mark.parametrize("name", COEFFICIENTS)
@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64], ids=str)
def test_coefficient_of_the_module_of_a_wrong_dtype(name, dtype):
    refuses(hnn_nn.LIF, {name: torch.ones(N, dtype=dtype)}, TypeError, name, "float32", str(dtype)[6:])


def test_float32_coefficient_for_a_float64_current():
    arguments = {"current": CURRENT.double(), "decay": torch.ones(N), "reset_decay": 0.5}
    refuses(hnn_kernels.lif, arguments, TypeError, "decay", "float64", "float32")


def test_float16_coefficient_for_a_bfloat16_current():
    arguments = {"current": CURRENT.bfloat16(), "decay": 0.9, "reset_decay": torch.ones(N).half()}
    refuses(hnn_kernels.lif, arguments, TypeError, "reset_decay", "bfloat16", "float32", "float16")


OPTIONS = {
    "sigma zero": ("sigma", 0.0, ValueError, "above 0", "0.0"),
    "sigma negative": ("sigma", -0.4, ValueError, "above 0", "-0.4"),
    "sigma NaN": ("sigma", math.nan, ValueError, "finite", "nan"),
    "sigma infinite": ("sigma", math.inf, ValueError, "finite", "inf"),
    "sigma a tensor": ("sigma", torch.tensor(0.4), TypeError, "tensor", "number"),
    "sigma a string": ("sigma", "0.4", TypeError, "number", "str"),
    "sigma a bool": ("sigma", True, TypeError, "number", "bool"),
    "sigma nothing": ("sigma", None, TypeError, "number", "NoneType"),
    "reset unknown": ("reset", "soft", ValueError, "'filter'", "'soft'"),
    "reset nothing": ("reset", None, ValueError, "'filter'", "None"),
    "reset a list": ("reset", ["filter"], ValueError, "'filter'", "['filter']"),
    "reset_grad unknown": ("reset_grad", "fully", ValueError, "'full'", "'one_step'", "'detach'", "'fully'"),
    "reset_grad a number": ("reset_grad", 0, ValueError, "'full'", "0"),
    "reset_grad a list": ("reset_grad", ["full"], ValueError, "'full'", "['full']"),
    "surrogate unknown": ("surrogate", "atan", ValueError, "'gaussian'", "'atan'"),
    "surrogate a list": ("surrogate", ["gaussian"], ValueError, "'gaussian'", "['gaussian']"),
    "readout unknown": ("readout", "rate", ValueError, "'spikes'", "'count'", "'rate'"),
    "readout nothing": ("readout", None, ValueError, "'spikes'", "None"),
    "checkpoint_every zero": ("checkpoint_every", 0, ValueError, "at least 1", "0"),
    "checkpoint_every negative": ("checkpoint_every", -5, ValueError, "at least 1", "-5"),
    "checkpoint_every a float": ("checkpoint_every", 4.0, TypeError, "int", "float"),
    "checkpoint_every a bool": ("checkpoint_every", True, TypeError, "int", "bool"),
    "smooth a number": ("smooth", 1, TypeError, "True", "False", "1"),
    "smooth nothing": ("smooth", None, TypeError, "True", "False", "None"),
    "smooth a string": ("smooth", "no", TypeError, "True", "False", "'no'"),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_option(case):
    name, value, error, *said = OPTIONS[case]
    arguments = {"current": CURRENT, "decay": 0.9, "reset_decay": 0.5, name: value}
    refuses(hnn_kernels.lif, arguments, error, name, *said)


@pytest.mark.parametrize("case", OPTIONS)
def test_option_of_the_module(case):
    """The error comes when the layer is made, not when it first runs."""
    name, value, error, *said = OPTIONS[case]
    refuses(hnn_nn.LIF, {name: value}, error, name, *said)


@pytest.mark.parametrize("value", [None, 1, "yes"], ids=repr)
def test_return_state(value):
    given = {"return_state": value}
    arguments = {"current": CURRENT, "decay": 0.9, "reset_decay": 0.5, **given}
    refuses(hnn_kernels.lif, arguments, TypeError, "return_state", "True", "False", repr(value))
    refuses(hnn_nn.LIF(), {"current": CURRENT, **given}, TypeError, "return_state", repr(value))
    refuses(hnn_kernels.iir, {"x": CURRENT, "feedback": (), "feedforward": (1.0,), **given}, TypeError, "return_state")


BAD_STEPS = {
    "negative": (-1, ValueError, "at least 0", "-1"),
    "a float": (5.0, TypeError, "int", "float"),
    "a string": ("5", TypeError, "int", "str"),
    "a bool": (True, TypeError, "int", "bool"),
    "a tensor": (torch.tensor(5), TypeError, "int", "Tensor"),
}


@pytest.mark.parametrize("case", BAD_STEPS)
def test_steps(case):
    steps, error, *said = BAD_STEPS[case]
    arguments = {"current": CURRENT[0], "decay": 0.9, "reset_decay": 0.5, "steps": steps}
    refuses(hnn_kernels.lif, arguments, error, "steps", *said)
    refuses(hnn_nn.LIF(), {"current": CURRENT[0], "steps": steps}, error, "steps", *said)
    refuses(hnn_kernels.encode_duplicate, {"value": CURRENT[0], "steps": steps}, error, "steps", *said)
    refuses(hnn_nn.Duplicate, {"steps": steps}, error, "steps", *said)


def test_steps_that_are_not_there():
    refuses(hnn_kernels.encode_duplicate, {"value": CURRENT[0], "steps": None}, TypeError, "steps", "int", "NoneType")
    refuses(hnn_nn.Duplicate, {"steps": None}, TypeError, "steps", "int", "NoneType")


@pytest.mark.parametrize(
    ("value", "error", "said"),
    [([1.0], TypeError, "list"), (1.0, TypeError, "float"), (torch.zeros(2, dtype=torch.int32), TypeError, "int32"),
     (torch.zeros(2).to_sparse(), TypeError, "dense")],
    ids=["a list", "a number", "integers", "sparse"],
)  # fmt: skip
def test_value_to_encode(value, error, said):
    refuses(hnn_kernels.encode_duplicate, {"value": value, "steps": 3}, error, "value", said)
    refuses(hnn_nn.Duplicate(3), {"value": value}, error, "value", said)


BAD_STATES = {
    "a tensor": (torch.zeros(2, B, N), TypeError, "state", "LIFState", "Tensor"),
    "a list": ([torch.zeros(B, N)] * 2, TypeError, "state", "LIFState", "list"),
    "one tensor": ((torch.zeros(B, N),), TypeError, "state", "LIFState", "tuple"),
    "five tensors": ((torch.zeros(B, N),) * 5, TypeError, "state", "LIFState", "tuple"),
    "v a number": (zero_state(v=0.0), TypeError, "state.v", "tensor", "float"),
    "r nothing": (zero_state(r=None), TypeError, "state.r", "tensor", "NoneType"),
    "v of another shape": (zero_state(v=torch.zeros(B, N + 1)), ValueError, "state.v", "(2, 3)", "(2, 4)"),
    "r without a batch": (zero_state(r=torch.zeros(N)), ValueError, "state.r", "(2, 3)", "(3,)"),
    "v that would broadcast": (zero_state(v=torch.zeros(1, N)), ValueError, "state.v", "(2, 3)", "(1, 3)"),
    "v float64": (zero_state(v=torch.zeros(B, N).double()), TypeError, "state.v", "float32", "float64"),
    "r bfloat16": (zero_state(r=torch.zeros(B, N).bfloat16()), TypeError, "state.r", "float32", "bfloat16"),
    "r integers": (zero_state(r=torch.zeros(B, N).int()), TypeError, "state.r", "float32", "int32"),
    "v on another device": (zero_state(v=torch.zeros(B, N, device="meta")), ValueError, "state.v", "cpu", "meta"),
    "r on another device": (zero_state(r=torch.zeros(B, N, device="meta")), ValueError, "state.r", "cpu", "meta"),
    "v sparse": (zero_state(v=torch.zeros(B, N).to_sparse()), TypeError, "state.v", "dense", "torch.sparse_coo"),
}


@pytest.mark.parametrize("case", BAD_STATES)
def test_state(case):
    state, error, *said = BAD_STATES[case]
    arguments = {"current": CURRENT, "decay": 0.9, "reset_decay": 0.5, "state": state}
    refuses(hnn_kernels.lif, arguments, error, *said)
    refuses(hnn_nn.LIF(), {"current": CURRENT, "state": state}, error, *said)


def test_state_of_a_narrow_current_is_wide():
    arguments = {"current": CURRENT.bfloat16(), "decay": 0.9, "reset_decay": 0.5}
    narrow = LIFState(*(t.bfloat16() for t in zero_state()[:2]))
    refuses(hnn_kernels.lif, {**arguments, "state": narrow}, TypeError, "state.v", "float32", "bfloat16")
    hnn_kernels.lif(**arguments, state=zero_state())


def test_unknown_backend():
    names = [repr(name) for name in hnn_kernels.backends()]
    for value in ("tpu", "", "CPU", 3, ["cpu"]):
        arguments = {"current": CURRENT, "decay": 0.9, "reset_decay": 0.5, "backend": value}
        refuses(hnn_kernels.lif, arguments, ValueError, "backend", repr(value), "None", *names)
        refuses(
            dispatch.choose, {"device": CURRENT.device, "requested": value}, ValueError, "backend", repr(value), *names
        )
        refuses(hnn_kernels.explain, {"current": CURRENT, "backend": value}, ValueError, "backend", repr(value), *names)


def test_unknown_backend_of_the_module():
    layer = hnn_nn.LIF(backend="tpu")
    refuses(layer, {"current": CURRENT}, ValueError, "backend", "'tpu'")


@pytest.mark.parametrize("backend", ["cpu", "cuda", "triton"])
def test_a_backend_that_does_not_take_the_device(backend):
    error = RuntimeError if dispatch._BACKENDS[backend].reason else ValueError
    arguments = {"current": "xpu", "backend": backend}
    refuses(hnn_kernels.explain, arguments, error, f"backend='{backend}'", "xpu", "'reference'")


def test_something_that_has_no_device():
    for value in (3.5, None, object()):
        with pytest.raises((TypeError, RuntimeError)):
            hnn_kernels.explain(value)


LEARN = {
    "a string": ("decay", TypeError, "sequence", "'decay'"),
    "an unknown name": (("tau",), ValueError, "'decay'", "'reset_decay'", "'threshold'", "'tau'"),
    "not a name": ((1,), ValueError, "'decay'", "1"),
    "a flag": (True, TypeError, "sequence", "True"),
}


@pytest.mark.parametrize("case", LEARN)
def test_learn(case):
    value, error, *said = LEARN[case]
    refuses(hnn_nn.LIF, {"learn": value}, error, "learn", *said)


@pytest.mark.parametrize("shape", [(-1,), (2.0,), 3], ids=repr)
def test_shape(shape):
    error = ValueError if shape == (-1,) else TypeError
    refuses(hnn_nn.LIF, {"learn": ("decay",), "shape": shape}, error, "shape", repr(shape).strip("(),"))


def test_shape_that_a_coefficient_does_not_fit():
    arguments = {"decay": torch.ones(4), "learn": ("decay",), "shape": (3,)}
    refuses(hnn_nn.LIF, arguments, ValueError, "decay", "(3,)", "(4,)")
