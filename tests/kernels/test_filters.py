"""The filter alone: presets, equation, state, and errors."""

import math

import numpy as np
import pytest
import torch

import hnn_kernels
from hnn_kernels import IIR, LIFState
from hnn_kernels.state import state_dtype
from support.comparisons import equal_bits, hold_derivative
from support.errors import refuses
from support.layers import DTYPES, inputs, run
from support.targets import dtype_id

ORDERS = [(0, 0), (1, 0), (2, 0), (0, 1), (2, 1), (0, 3), (3, 2), (6, 5)]


def impulse_response(coefficients: IIR, steps: int = 40) -> torch.Tensor:
    x = torch.zeros(steps, 1, dtype=torch.float64)
    x[0] = 1
    return hnn_kernels.iir(x, *coefficients)[0][:, 0]


TIME = torch.arange(40, dtype=torch.float64)


@pytest.mark.parametrize("tau", [0.5, 4.0, 20])
def test_exponential(tau):
    torch.testing.assert_close(impulse_response(IIR.exponential(tau)), torch.exp(-TIME / tau), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize(("tau_m", "tau_s"), [(4, 1), (10.0, 9.0), (20, 0.5)])
def test_dual_exponential(tau_m, tau_s):
    expected = torch.exp(-(TIME + 1) / tau_m) - torch.exp(-(TIME + 1) / tau_s)
    response = impulse_response(IIR.dual_exponential(tau_m, tau_s))
    torch.testing.assert_close(response, expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(("tau_m", "tau_s"), [(4, 1), (10.0, 9.0), (20, 0.5)])
def test_normalised_dual_exponential(tau_m, tau_s):
    """The form of SNN-IIR: two decaying variables and a factor, one number at a time."""
    ratio = tau_m / tau_s
    factor = ratio ** (ratio / (ratio - 1)) / (ratio - 1)
    m = s = 0.0
    expected = []
    for x in [1.0] + [0.0] * 39:
        m, s = math.exp(-1 / tau_m) * m + x, math.exp(-1 / tau_s) * s + x
        expected.append(factor * (m - s))
    response = impulse_response(IIR.dual_exponential(tau_m, tau_s, normalize=True))
    np.testing.assert_allclose(response.numpy(), expected, rtol=1e-10, atol=1e-14)


def test_the_peaks_of_the_constants_of_snn_iir():
    plain = impulse_response(IIR.dual_exponential(4, 1))
    normalised = impulse_response(IIR.dual_exponential(4, 1, normalize=True))
    assert plain.max().item() == pytest.approx(0.471, abs=5e-4)
    assert normalised.max().item() == pytest.approx(1, abs=0.01)
    assert normalised[0] == 0
    assert normalised.argmax() == plain.argmax() + 1


@pytest.mark.parametrize("make", [IIR.exponential, lambda tau: IIR.dual_exponential(tau, 1.0)])
def test_presets_can_be_learnt_from(make):
    feedback, feedforward = (torch.tensor(c, requires_grad=True) for c in make(4.0))
    x = torch.randn(6, 2, 3)
    y, _ = hnn_kernels.iir(x, feedback, feedforward)
    # As floats the same numbers go to float32 once they are in the kernel.
    equal_bits(y.detach(), hnn_kernels.iir(x, *make(4.0))[0], "y")
    y.sum().backward()
    assert (feedback.grad != 0).all()
    assert (feedforward.grad != 0).all()


def written_out(arguments: dict) -> np.ndarray:
    """The equation, one number at a time, with the state as the past."""
    x, (feedback, feedforward) = arguments["current"].double().cpu().numpy(), arguments["synapse"]
    p, q = len(feedback), len(feedforward) - 1
    state = arguments["state"].synapse.double().cpu().numpy()
    a, b = (
        [np.broadcast_to(c.double().cpu().numpy() if isinstance(c, torch.Tensor) else c, x.shape[2:]) for c in part]
        for part in (feedback, feedforward)
    )
    y = np.zeros_like(x)
    for at in np.ndindex(x.shape[1:]):
        ys, xs = list(state[(slice(0, p), *at)]), list(state[(slice(p, p + q), *at)])
        for t in range(len(x)):
            xs.insert(0, x[(t, *at)])
            total = sum(b[i][at[1:]] * xs[i] for i in range(q + 1))
            total += sum(a[i][at[1:]] * ys[i] for i in range(p))
            ys.insert(0, total)
            y[(t, *at)] = total
    return y


@pytest.mark.parametrize("orders", ORDERS, ids=str)
@pytest.mark.parametrize("kind", ["float", "scalar", "channel", "neuron", "mixed"])
def test_the_equation(any_target, orders, kind):
    arguments = inputs(
        (7, 2, 3, 2), dtype=torch.float64, device=any_target.device, kind=kind, state=True, synapse=orders,
        membrane=False,
    )  # fmt: skip
    y, state = run(arguments, any_target.backend)
    expected = written_out(arguments)
    np.testing.assert_allclose(y.cpu().numpy(), expected, rtol=1e-12, atol=1e-13)
    # The state is the last outputs, newest first, and then the last inputs.
    last = [y[6 - p] for p in range(orders[0])] + [arguments["current"][6 - q] for q in range(orders[1])]
    assert state.synapse.shape == (sum(orders), 2, 3, 2)
    for got, want in zip(state.synapse, last, strict=True):
        equal_bits(got, want, "state")


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_id)
def test_dtypes(any_target, dtype):
    arguments = inputs((7, 2, 3), dtype=dtype, device=any_target.device, kind="neuron", state=True, synapse=(2, 1),
                       membrane=False)  # fmt: skip
    y, state = run(arguments, any_target.backend)
    assert y.dtype == dtype
    assert state.synapse.dtype == state_dtype(dtype)
    # Stored once in the narrow type; what is carried stays wide, so the error does not grow.
    tolerance = torch.finfo(dtype).eps
    np.testing.assert_allclose(y.double().cpu().numpy(), written_out(arguments), rtol=2 * tolerance, atol=2 * tolerance)


@pytest.mark.parametrize("orders", [(1, 0), (3, 2), (0, 4)], ids=str)
@pytest.mark.parametrize("cuts", [(4,), (0, 1, 2, 9)], ids=str)
def test_time_in_pieces(any_target, orders, cuts):
    """The pieces may be shorter than the filter's memory."""
    arguments = inputs((9, 2, 3), device=any_target.device, kind="neuron", state=True, synapse=orders, membrane=False)
    whole, last = run(arguments, any_target.backend)
    state, pieces = arguments["state"], []
    for start, end in zip((0, *cuts), (*cuts, 9), strict=True):
        piece = {**arguments, "current": arguments["current"][start:end], "state": state}
        y, state = run(piece, any_target.backend)
        pieces.append(y)
    equal_bits(torch.cat(pieces), whole, "y")
    equal_bits(state.synapse, last.synapse, "state")


def test_no_step_hands_back_a_copy_of_the_state(any_target):
    x, given = torch.zeros(0, 2, 3, device=any_target.device), torch.randn(3, 2, 3, device=any_target.device)
    y, state = hnn_kernels.iir(x, [0.5, 0.1], [1.0, 0.2], state=given, backend=any_target.backend)
    assert y.shape == (0, 2, 3)
    equal_bits(state, given, "state")
    assert state.untyped_storage().data_ptr() != given.untyped_storage().data_ptr()


@pytest.mark.parametrize("orders", [(2, 1), (0, 2)], ids=str)
def test_it_is_linear_and_the_same_at_all_times(any_target, orders):
    arguments = inputs((9, 2, 3), dtype=torch.float64, device=any_target.device, synapse=orders, membrane=False)
    x, z = arguments["current"], torch.randn(9, 2, 3, dtype=torch.float64, device=any_target.device)

    def y(values):
        return run({**arguments, "current": values}, any_target.backend)[0]

    torch.testing.assert_close(y(3 * x - 0.5 * z), 3 * y(x) - 0.5 * y(z), rtol=1e-12, atol=1e-12)
    late = y(torch.cat([torch.zeros_like(x[:4]), x]))
    assert not late[:4].any()
    equal_bits(late[4:], y(x), "y, later")


def test_every_form_of_coefficient_is_the_same_filter(any_target):
    """Floats, a tensor, and a sequence with some of each."""
    x = torch.randn(7, 2, 3, device=any_target.device)
    values = [0.5, -0.25]
    one = torch.full((3,), 0.5, device=any_target.device, requires_grad=True)
    forms = [
        (values, [1.0, 0.5]),
        (tuple(values), (1, 0.5)),
        (torch.tensor(values, device=any_target.device), torch.tensor([1, 0.5], device=any_target.device)),
        ([one, -0.25], [1.0, torch.tensor(0.5, device=any_target.device)]),
    ]
    ys = [hnn_kernels.iir(x, *form, backend=any_target.backend)[0] for form in forms]
    for y in ys[1:]:
        equal_bits(y.detach(), ys[0], "y")
    (got,) = torch.autograd.grad(ys[-1].sum(), one)
    (expected,) = torch.autograd.grad(hnn_kernels.iir(x, *forms[-1], backend="reference")[0].sum(), one)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
    assert got.abs().min() > 0


@pytest.mark.parametrize("orders", [(0, 0), (1, 0), (2, 1), (0, 2)], ids=str)
def test_the_gradient_is_the_derivative(any_target, orders):
    arguments = inputs((4, 2, 2), dtype=torch.float64, device=any_target.device, kind="channel", state=True,
                       synapse=orders, membrane=False)  # fmt: skip
    hold_derivative(any_target.backend, arguments, fast=any_target.interpreted)


def test_a_synapse_makes_current_based_lif(any_target):
    """I[t] = s I[t-1] + x[t], V[t] = d V[t-1] + I[t], the threshold off at once; all numbers exact in binary."""
    x = torch.tensor([0.5, 0.5, 0.0, 0.0, 1.0], device=any_target.device)[:, None, None]
    #   I = 0.5, 0.75, 0.375, 0.1875, 1.09375;  V = 0.5, 1, 0.375, 0.375, 1.28125
    out, state = hnn_kernels.lif(x, 0.5, None, reset="subtract", synapse=IIR([0.5], [1.0]), backend=any_target.backend)
    assert out.flatten().tolist() == [0, 1, 0, 0, 1]
    assert state.v.item() == 0.28125
    assert state.synapse.item() == 1.09375


def test_an_axon_filters_the_spikes(any_target):
    arguments = inputs((9, 2, 3), device=any_target.device, axon=(2, 1))
    train, _ = run({**arguments, "axon": None}, any_target.backend)
    filtered, state = run(arguments, any_target.backend)
    expected, expected_state = hnn_kernels.iir(train, *arguments["axon"], backend=any_target.backend)
    assert train.any()
    equal_bits(filtered, expected, "F")
    equal_bits(state.axon, expected_state, "state.axon")


X = torch.zeros(4, 2, 3)
BAD_COEFFICIENTS = {
    "a number": (0.5, TypeError, "float", "sequence"),
    "a string": ("0.5", TypeError, "str", "sequence"),
    "nothing": (None, TypeError, "NoneType", "sequence"),
    "NaN": ([0.1, math.nan], ValueError, "{}[1]", "finite", "nan"),
    "infinity": ([math.inf], ValueError, "{}[0]", "finite", "inf"),
    "a bool": ([True], TypeError, "{}[0]", "number", "bool"),
    "strings": (["a"], TypeError, "{}[0]", "number", "str"),
    "no order": (torch.tensor(0.5), ValueError, "first axis"),
    "another length": (torch.ones(1, 4), ValueError, "broadcast", "(3,)", "(1, 4)"),
    "the batch's axis": (torch.ones(1, 2, 3), ValueError, "broadcast", "(3,)", "(1, 2, 3)"),
    "float64": (torch.ones(1, 3, dtype=torch.float64), TypeError, "float32", "float64"),
    "integers": (torch.ones(1, dtype=torch.int64), TypeError, "float32", "int64"),
    "sparse": (torch.ones(1, 3).to_sparse(), TypeError, "dense", "torch.sparse_coo"),
    "another device": (torch.ones(1, device="meta"), ValueError, "cpu", "meta"),
    "one of another length": ([0.5, torch.ones(4)], ValueError, "{}[1]", "broadcast", "(3,)", "(4,)"),
    "one of another dtype": ([torch.ones(3).double()], TypeError, "{}[0]", "float32", "float64"),
}


@pytest.mark.parametrize("part", ["feedback", "feedforward"])
@pytest.mark.parametrize("case", BAD_COEFFICIENTS)
def test_bad_coefficients(part, case):
    value, error, *said = BAD_COEFFICIENTS[case]
    said = [words.format(part) for words in said]
    given = {"feedback": [0.5], "feedforward": [1.0], part: value}
    refuses(hnn_kernels.iir, {"x": X, **given}, error, part, *said)
    for name in ("synapse", "axon"):
        layer = {"current": X, "decay": 0.9, "reset_decay": 0.5, name: IIR(**given)}
        refuses(hnn_kernels.lif, layer, error, f"{name}.{part}", *said)


@pytest.mark.parametrize("feedforward", [[], (), torch.ones(0), torch.ones(0, 3)], ids=repr)
def test_a_filter_has_at_least_one_feedforward_coefficient(feedforward):
    refuses(hnn_kernels.iir, {"x": X, "feedback": [0.5], "feedforward": feedforward}, ValueError, "feedforward", "none")


BAD_FILTERS = {
    "a tensor": (torch.ones(2, 1), TypeError, "IIR", "Tensor"),
    "a number": (4.0, TypeError, "IIR", "float"),
    "a list": ([[0.5], [1.0]], TypeError, "IIR", "list"),
    "three parts": (((), (1.0,), ()), TypeError, "IIR", "tuple"),
}


@pytest.mark.parametrize("name", ["synapse", "axon"])
@pytest.mark.parametrize("case", BAD_FILTERS)
def test_what_is_no_filter(name, case):
    value, *expected = BAD_FILTERS[case]
    refuses(hnn_kernels.lif, {"current": X, "decay": 0.9, "reset_decay": 0.5, name: value}, expected[0], name,
            *expected[1:])  # fmt: skip


BAD_STATES = {
    "a LIFState": (LIFState(X[0], X[0]), TypeError, "tensor", "LIFState"),
    "too shallow": (torch.zeros(1, 2, 3), ValueError, "(2, 2, 3)", "(1, 2, 3)"),
    "no depth": (torch.zeros(2, 3), ValueError, "(2, 2, 3)", "(2, 3)"),
    "one that would broadcast": (torch.zeros(2, 1, 3), ValueError, "(2, 2, 3)", "(2, 1, 3)"),
    "float64": (torch.zeros(2, 2, 3).double(), TypeError, "float32", "float64"),
    "another device": (torch.zeros(2, 2, 3, device="meta"), ValueError, "cpu", "meta"),
}


@pytest.mark.parametrize("case", BAD_STATES)
def test_bad_states(case):
    value, *expected = BAD_STATES[case]
    given = IIR([0.5], [1.0, 0.2])
    refuses(hnn_kernels.iir, {"x": X, **given._asdict(), "state": value}, expected[0], "state", *expected[1:])
    for name in ("synapse", "axon"):
        layer = {"current": X, "decay": 0.9, "reset_decay": 0.5, name: given}
        state = LIFState(X[0], X[0])._replace(**{name: value})
        refuses(hnn_kernels.lif, {**layer, "state": state}, expected[0], f"state.{name}", *expected[1:])


@pytest.mark.parametrize("name", ["synapse", "axon"])
def test_a_state_and_its_filter_belong_together(name):
    layer = {"current": X, "decay": 0.9, "reset_decay": 0.5}
    refuses(hnn_kernels.lif, {**layer, name: IIR.exponential(4), "state": LIFState(X[0], X[0])}, ValueError,
            f"state.{name}")  # fmt: skip
    state = LIFState(X[0], X[0])._replace(**{name: torch.zeros(1, 2, 3)})
    refuses(hnn_kernels.lif, {**layer, "state": state}, ValueError, f"state.{name}", "None")


def test_an_axon_has_no_count():
    layer = {"current": X, "decay": 0.9, "reset_decay": 0.5, "axon": IIR.exponential(4), "readout": "count"}
    refuses(hnn_kernels.lif, layer, ValueError, "readout", "axon", "'spikes'", "'count'")


@pytest.mark.parametrize(
    ("make", "arguments", "error", "said"),
    [
        (IIR.exponential, {"tau": 0.0}, ValueError, ("tau", "above 0", "0.0")),
        (IIR.exponential, {"tau": -1}, ValueError, ("tau", "above 0")),
        (IIR.exponential, {"tau": math.nan}, ValueError, ("tau", "nan")),
        (IIR.exponential, {"tau": torch.tensor(4.0)}, TypeError, ("tau", "tensor")),
        (IIR.dual_exponential, {"tau_m": 0, "tau_s": 1}, ValueError, ("tau_m", "above 0")),
        (IIR.dual_exponential, {"tau_m": 4, "tau_s": "1"}, TypeError, ("tau_s", "str")),
        (IIR.dual_exponential, {"tau_m": 1, "tau_s": 1}, ValueError, ("tau_m", "tau_s", "tau_m=1", "tau_s=1")),
        (IIR.dual_exponential, {"tau_m": 1, "tau_s": 4}, ValueError, ("tau_m", "tau_s")),
        (IIR.dual_exponential, {"tau_m": 4, "tau_s": 1, "normalize": 1}, TypeError, ("normalize", "True")),
    ],
)
def test_bad_presets(make, arguments, error, said):
    refuses(make, arguments, error, *said)


@pytest.mark.parametrize("x", [None, [1.0], torch.zeros(()), torch.zeros(3), torch.zeros(4, 2, dtype=torch.int64)])
def test_bad_x(x):
    error = ValueError if isinstance(x, torch.Tensor) and x.dim() < 2 else TypeError
    refuses(hnn_kernels.iir, {"x": x, "feedback": [], "feedforward": [1.0]}, error, "x")
