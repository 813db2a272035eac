"""The direct way of a call on a GPU: the operator's bits, its device, its stream, and no operator."""

import gc
import time
import weakref

import pytest
import torch

import hnn_kernels
from hnn_kernels import _direct
from support.direct import both_ways, compare, count_operators, equal
from support.layers import inputs, tensors
from support.targets import EVERY_CASE

pytestmark = pytest.mark.skipif(_direct._describe is None, reason="there is no direct way without a compiled module")


@pytest.fixture(autouse=True)
def calls(monkeypatch):
    return count_operators(monkeypatch)


FORMS = {
    "plain": {"kind": "float"},
    "learnt": {"kind": "channel", "state": True},
    "filters": {"kind": "float", "synapse": (2, 1), "axon": (2, 0), "state": True},
    "learnt axon": {"kind": "neuron", "axon": (2, 0)},
    "constant": {"kind": "float", "shape": (2, 3, 5), "steps": 9, "state": True},
    "no neurons": {"kind": "scalar", "shape": (3, 0, 4, 2)},
}


@pytest.mark.parametrize("form", FORMS)
def test_the_bits_are_the_operators(target, form, calls, monkeypatch):
    if target.backend == "triton" and form not in ("plain", "learnt axon") and not EVERY_CASE:
        pytest.skip("Triton takes seconds for each form")
    layer = {"shape": (9, 2, 3, 5)} | FORMS[form]
    compare(inputs(device="cuda", **layer) | {"backend": target.backend}, calls, monkeypatch)


def test_iir(target, calls):
    x = torch.randn(4, 2, 3, device="cuda", requires_grad=True)
    arguments = {"x": x, "feedback": (0.5,), "feedforward": (1.0, 0.2), "backend": target.backend}
    first = [both_ways(hnn_kernels.iir, arguments, [x]) for _ in range(4)]
    calls.clear()
    found = both_ways(hnn_kernels.iir, arguments, [x])
    assert calls == []
    for one, other in zip(found, first[0], strict=True):
        equal(one, other)


def test_an_address_that_is_less_aligned_is_another_call(target, calls):
    memory = torch.randn(4 * 2 * 8 + 1, device="cuda")
    for start in (0, 1, 0, 1):
        x = memory[start : start + 64].view(4, 2, 8)
        calls.clear()
        for _ in range(3):
            found = hnn_kernels.lif(x, 0.7, 0.5, backend=target.backend)[0]
        assert torch.equal(found.cpu(), hnn_kernels.lif(x.cpu(), 0.7, 0.5, backend="reference")[0])
    assert calls == []


def test_a_captured_call_is_replayed(target, calls):
    x = torch.randn(4, 2, 8, device="cuda")

    def run():
        return hnn_kernels.lif(x, 0.7, 0.5, backend=target.backend)[0]

    for _ in range(3):
        expected = run()
    graph = torch.cuda.CUDAGraph()
    calls.clear()
    with torch.cuda.graph(graph):
        captured = run()
    assert calls == []
    x.neg_()
    graph.replay()
    assert not torch.equal(captured.cpu(), expected.cpu())
    assert torch.equal(captured.cpu(), hnn_kernels.lif(x.cpu(), 0.7, 0.5, backend="reference")[0])


def test_a_hook_of_triton_hears_of_launches(target, calls):
    if target.backend != "triton":
        pytest.skip("they are Triton's")
    from triton import knobs

    x, heard = torch.randn(4, 2, 8, device="cuda", requires_grad=True), []
    # Of two shapes, so that the sums are two launches, each of a part of what backward leaves.
    decay, reset_decay = (torch.full(shape, 0.6, device="cuda", requires_grad=True) for shape in ((), (8,)))
    arguments = {"current": x, "decay": decay, "reset_decay": reset_decay, "backend": "triton"}
    learnt = [x, decay, reset_decay]
    for _ in range(3):
        expected = both_ways(hnn_kernels.lif, arguments, learnt)
    knobs.runtime.launch_enter_hook.add(heard.append)
    try:
        calls.clear()
        found = both_ways(hnn_kernels.lif, arguments, learnt)
    finally:
        knobs.runtime.launch_enter_hook.remove(heard.append)
    names = ["lif_forward_kernel", "lif_backward_kernel", "add_up_kernel", "add_up_kernel"]
    assert [one.get()["name"] for one in heard] == names
    assert calls == []
    for one, other in zip(found, expected, strict=True):
        equal(one, other)


def test_a_plan_keeps_no_tensor(target):
    arguments = inputs((9, 2, 3, 5), device="cuda", kind="neuron") | {"backend": target.backend}
    learnt = [tensor.requires_grad_() for tensor in tensors(arguments).values()]
    for _ in range(4):
        found = both_ways(hnn_kernels.lif, arguments, learnt)
    kept = [weakref.ref(tensor) for tensor in (*learnt, *found[0], *found[1])]
    del arguments, learnt, found
    end = time.monotonic() + 60  # the device's thread of autograd lets go of its last task when it comes to it
    while any(ref() is not None for ref in kept) and time.monotonic() < end:
        gc.collect()
    assert [ref() for ref in kept] == [None] * len(kept)
