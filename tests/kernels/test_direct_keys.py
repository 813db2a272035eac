"""The direct way of a call: equal keys are checked alike, and plans cost no memory and may be shared."""

import gc
import inspect
import threading
import weakref

import pytest
import torch

import hnn_kernels
from hnn_kernels import IIR, LIFState, _direct
from hnn_kernels._ops import autograd
from support.direct import count_operators

pytestmark = pytest.mark.skipif(_direct._describe is None, reason="there is no direct way without the C++ kernels")


@pytest.fixture(autouse=True)
def calls(monkeypatch):
    return count_operators(monkeypatch)


BAD = [
    {"smooth": 1}, {"return_state": 0}, {"decay": True}, {"decay": float("nan")}, {"sigma": 0.0}, {"sigma": True},
    {"steps": 3.0}, {"reset": "Filter"}, {"reset_decay": None}, {"readout": "counts"}, {"backend": "gpu"},
    {"state": LIFState(torch.zeros(2, 3), torch.zeros(2, 4))}, {"decay": torch.zeros(3)},
    {"decay": torch.zeros(4, dtype=torch.float64)}, {"current": torch.zeros(4)},
    {"current": torch.zeros(3, 2, 4).int()},
    {"axon": IIR((), ())}, {"axon": IIR((0.5, "a"), (1.0,))}, {"axon": IIR((True,), (1.0,))}, {"axon": (1,)},
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD, ids=str)
def test_errors_are_those_of_a_first_call(bad, calls):
    good = {
        "current": torch.randn(3, 2, 4), "decay": 1.0, "reset_decay": 0.5, "sigma": 1.0, "smooth": True,
        "return_state": False, "reset": "filter", "readout": "spikes", "backend": "cpu", "state": None, "axon": None,
    }  # fmt: skip
    with pytest.raises((TypeError, ValueError)) as first:
        hnn_kernels.lif(**good | bad)
    for _ in range(4):
        hnn_kernels.lif(**good)
        with pytest.raises(first.type) as later:
            hnn_kernels.lif(**good | bad)
        assert str(later.value) == str(first.value)


def test_equal_numbers_of_other_bits_or_types_are_told_apart():
    def key(*args, **kwargs):
        return _direct._describe(args, kwargs, True)[0]

    x = torch.zeros(2, 3)
    values = [
        0.0, -0.0, 0, False, None, "0", "", (), [], (0.0,), [0.0], ((0.0,),), 1, 1.0, True, "1", (1.0, 2.0),
        IIR(1.0, 2.0), LIFState(1.0, 2.0), LIFState(x, x), IIR(x, x), (x, x), x, x.double(),
        x.T, x.half(), x.bfloat16(), torch.zeros(2, 3, requires_grad=True), torch.zeros(2, 1),
        torch.zeros(2, 1).expand(2, 3),
    ]  # fmt: skip
    keys = [key(value) for value in values] + [key(a=value) for value in values] + [key(b=1.0), key(1.0, 1.0), key()]
    assert len(set(keys)) == len(keys)
    assert key(torch.ones(2, 3)) == key(x)
    wanted = torch.zeros(2, 3, requires_grad=True)
    assert _direct._describe((wanted,), {}, False)[0] != key(wanted)


RECURSIVE: list = []
RECURSIVE.append(RECURSIVE)


@pytest.mark.parametrize(
    "value",
    [2**70, "\ud800", 1j, b"a", {1}, object(), [object()], (1, 2j), RECURSIVE],
    ids=lambda value: type(value).__name__,
)
def test_values_that_have_no_key(value):
    assert _direct._describe((value,), {}, True) is None
    assert _direct._describe((), {"a": value}, True) is None


def test_numbers_that_changed_are_new_numbers(calls):
    x = torch.randn(5, 2, 4)
    feedback = [0.5]
    for value in (0.5, 0.9, 0.5):
        feedback[0] = value
        for _ in range(3):
            found = hnn_kernels.lif(x, 0.7, 0.5, axon=IIR(feedback, (1.0,)))[0]
        assert torch.equal(found, hnn_kernels.lif(x, 0.7, 0.5, axon=IIR((value,), (1.0,)), backend="reference")[0])


def test_a_coefficient_that_changed_is_checked_again(calls):
    decay = torch.nn.Parameter(torch.full((4,), 0.5))
    x = torch.randn(5, 2, 4)
    for _ in range(4):
        hnn_kernels.lif(x, decay, 0.5)
    with torch.no_grad():
        decay.fill_(0.9)
    assert torch.equal(
        hnn_kernels.lif(x, decay, 0.5)[0], hnn_kernels.lif(x, decay, 0.5, backend="reference")[0]
    )  # fmt: skip
    decay.data = torch.full((3,), 0.5)
    with pytest.raises(ValueError, match="decay must broadcast"):
        hnn_kernels.lif(x, decay, 0.5)
    decay.data = torch.full((4,), 0.5, dtype=torch.float64)
    with pytest.raises(TypeError, match="decay must be float32"):
        hnn_kernels.lif(x, decay, 0.5)


def test_one_tensor_in_two_places(calls):
    x = torch.randn(4, 2, 3)
    same = torch.tensor(0.6, requires_grad=True)
    expected = None
    for turn in range(4):
        (found,) = torch.autograd.grad(hnn_kernels.lif(x, threshold=same, decay=same, reset_decay=0.5)[0].sum(), same)
        expected = found if turn == 0 else expected
        assert torch.equal(found, expected)
    two = [torch.tensor(0.6, requires_grad=True) for _ in range(2)]
    for _ in range(4):
        out = hnn_kernels.lif(x, threshold=two[0], decay=two[1], reset_decay=0.5)[0]
        assert torch.allclose(sum(torch.autograd.grad(out.sum(), two)), expected)
    calls.clear()
    torch.autograd.grad(hnn_kernels.lif(x, threshold=same, decay=same, reset_decay=0.5)[0].sum(), same)
    assert calls == []


def test_gradients_of_some_tensors(calls):
    x, decay = torch.randn(4, 2, 3, requires_grad=True), torch.tensor(0.6, requires_grad=True)
    for needed in ([x], [decay], [decay, x], [x], [decay], [decay, x]):
        calls.clear()
        for _ in range(4):
            out = hnn_kernels.lif(x, decay, 0.5)[0]
            found = torch.autograd.grad(out.sum(), needed)
        with torch.enable_grad():
            plain = torch.autograd.grad(hnn_kernels.lif(x, decay, 0.5, backend="reference")[0].sum(), needed)
        torch.testing.assert_close(found, plain)
    assert calls == []


# -- resources ---------------------------------------------------------------------------------------------------------


def test_a_plan_keeps_no_tensor():
    x, decay = torch.randn(4, 2, 3, requires_grad=True), torch.tensor(0.6, requires_grad=True)
    for _ in range(4):
        out, state = hnn_kernels.lif(x, decay, 0.5)
        grads = torch.autograd.grad(out.sum() + state.v.sum(), (x, decay))
    kept = [weakref.ref(tensor) for tensor in (x, decay, out, *state[:2], *grads)]
    del x, decay, out, state, grads
    gc.collect()
    assert [ref() for ref in kept] == [None] * len(kept)


def test_the_number_of_keys_is_bounded(monkeypatch, calls):
    monkeypatch.setattr(_direct, "MOST", 8)
    x = torch.randn(3, 2, 4)
    (plans,) = (cell.cell_contents for cell in hnn_kernels.lif.__closure__ if isinstance(cell.cell_contents, dict))
    for i in range(40):
        for _ in range(3):
            hnn_kernels.lif(x, 0.5 + i / 100, 0.5)
        assert len(plans) <= max(8, 1)
    assert calls.count("forward") == 80


def test_threads_share_a_plan():
    x = [torch.randn(6, 4, 64, requires_grad=True) for _ in range(4)]
    learnt = torch.rand(64, requires_grad=True)

    def run(value):
        out, state = hnn_kernels.lif(value, learnt, 0.5, axon=IIR.dual_exponential(4, 1))
        return [out, *state[:2], *torch.autograd.grad(out.sum() + state.v.sum(), (value, learnt))]

    expected = [run(value) for value in x]
    for value in x * 2:
        run(value)
    wrong = []

    def work(i):
        for _ in range(200):
            if not all(map(torch.equal, run(x[i]), expected[i])):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_signature_is_the_functions_own():
    assert list(inspect.signature(hnn_kernels.lif).parameters)[:4] == ["current", "decay", "reset_decay", "threshold"]
    assert hnn_kernels.lif.__doc__.startswith("Run a layer")


def test_the_two_ways_share_the_refusal_of_forward_mode():
    assert _direct.DirectLayer.jvp is autograd.LayerFunction.jvp
