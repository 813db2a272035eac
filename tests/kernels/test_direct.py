"""The direct way of a call: the operator's bits and errors, and the operator wherever something looks at it."""

import contextlib

import pytest
import torch
from torch.autograd import forward_ad
from torch.overrides import TorchFunctionMode
from torch.profiler import profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

import hnn_kernels
from hnn_kernels import IIR, LIFState, _direct, nn
from support.direct import both_ways, compare, count_operators, equal
from support.layers import DTYPES, KINDS, RESETS_AND_GRADS, inputs

pytestmark = pytest.mark.skipif(_direct._describe is None, reason="there is no direct way without the C++ kernels")


@pytest.fixture(autouse=True)
def calls(monkeypatch):
    return count_operators(monkeypatch)


FORMS = {
    "plain": {},
    "state": {"state": True},
    "filters": {"synapse": (2, 1), "axon": (2, 0), "state": True},
    "long axon": {"axon": (3, 2)},
    "constant": {"shape": (2, 3, 5), "steps": 4, "state": True},
    "no neurons": {"shape": (3, 0, 4, 2)},
    "no steps": {"shape": (0, 2, 4, 2), "state": True},
}


@pytest.mark.parametrize("learn", [True, False])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", FORMS)
def test_the_bits_are_the_operators(form, kind, learn, calls, monkeypatch):
    compare(inputs(kind=kind, **FORMS[form]), calls, monkeypatch, learn=learn)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("reset", "reset_grad"), RESETS_AND_GRADS)
def test_dtypes_and_resets(dtype, reset, reset_grad, calls, monkeypatch):
    arguments = inputs(dtype=dtype, reset=reset, kind="neuron", state=True) | {"reset_grad": reset_grad}
    compare(arguments, calls, monkeypatch)


@pytest.mark.parametrize("option", [{"readout": "count"}, {"smooth": True}, {"surrogate": "arctan"}, {"sigma": 0.7}])
@pytest.mark.parametrize("return_state", [True, False])
def test_options(option, return_state, calls, monkeypatch):
    compare(inputs() | option | {"return_state": return_state}, calls, monkeypatch)


def test_layouts_each_have_a_plan(calls, monkeypatch):
    arguments = inputs(shape=(3, 2, 4, 5), kind="channel")
    current = arguments["current"]
    for other in (
        current.movedim(2, -1).contiguous().movedim(-1, 2), current.transpose(0, 1).contiguous().transpose(0, 1),
        current[..., :1].expand_as(current), current[..., ::2],
    ):  # fmt: skip
        calls.clear()
        compare(arguments | {"current": other.detach()}, calls, monkeypatch)


def test_iir(calls, monkeypatch):
    arguments = {"x": torch.randn(4, 2, 3), "feedback": torch.tensor([0.5]), "feedforward": (1.0, 0.2)}
    learnt = [arguments["x"].requires_grad_(), arguments["feedback"].requires_grad_()]
    first = [both_ways(hnn_kernels.iir, arguments, learnt) for _ in range(4)]
    calls.clear()
    found = both_ways(hnn_kernels.iir, arguments, learnt)
    assert calls == []
    for one, other in zip(found, first[0], strict=True):
        equal(one, other)


def test_one_tensor_in_two_places_and_then_two(calls, monkeypatch):
    """A plan that was made for the first is right for the second: each of two tensors goes to its own place."""
    x, half, zeros = torch.randn(4, 2, 3), torch.tensor(0.5), torch.zeros(2, 3)

    def of(arguments):
        return {"decay": arguments["decay"], "v": arguments["state"].v}

    one = {"current": x, "decay": half, "reset_decay": half, "state": LIFState(zeros, zeros)}
    compare(one, calls, monkeypatch, of=of)
    other = torch.tensor(0.9, requires_grad=True), torch.full((2, 3), 0.3, requires_grad=True)
    two = one | {"reset_decay": other[0], "state": LIFState(zeros, other[1])}
    learnt = [*of(two).values(), *other]
    with monkeypatch.context() as patch:
        patch.setattr(_direct, "plain", lambda: False)
        expected = both_ways(hnn_kernels.lif, two, learnt)
    calls.clear()
    found = both_ways(hnn_kernels.lif, two, learnt)
    assert calls == []
    for got, wanted in zip(found, expected, strict=True):
        equal(got, wanted)


def test_a_gradient_may_come_through_a_part_of_the_results(calls):
    x = torch.randn(1, 2, 3, requires_grad=True)
    state = LIFState(torch.zeros(2, 3), torch.zeros(2, 3))
    gradients = []
    for _ in range(4):
        calls.clear()
        out, after = hnn_kernels.lif(x, 0.7, 0.7, state=state)
        gradients.append([torch.autograd.grad(part, x, torch.ones_like(part), retain_graph=True)[0]
                          for part in (out, after.v, after.r)])  # fmt: skip
    assert calls == []
    for one, other in zip(gradients[0], gradients[-1], strict=True):
        equal([one], [other])


def test_module_in_a_loop(calls, monkeypatch):
    layer = nn.LIF(0.9, learn=("decay", "threshold"), axon=IIR.dual_exponential(4, 1), shape=(5,))
    x = torch.randn(12, 3, 5)

    def run():
        state, outputs = None, []
        for part in x.split(1):
            out, state = layer(part, state=state, return_state=True)
            outputs.append(out)
        total = torch.cat(outputs).sum()
        return torch.cat(outputs), torch.autograd.grad(total, list(layer.parameters()))

    with monkeypatch.context() as patch:
        patch.setattr(_direct, "plain", lambda: False)
        expected = run()
    for _ in range(3):
        run()
    calls.clear()
    out, gradients = run()
    assert calls == []
    equal([out, *gradients], [expected[0], *expected[1]])


# -- where the operator is taken ---------------------------------------------------------------------------------------


class Functions(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


class Dispatch(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def excluded():
    with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(torch._C.DispatchKey.ADInplaceOrView)):
        yield


MODES = {
    "function": Functions, "dispatch": Dispatch, "flops": lambda: FlopCounterMode(display=False),
    "inference": torch.inference_mode,
    "profiler": profile, "autograd profiler": torch.autograd.profiler.profile,
    "device": lambda: torch.device("cpu"), "forward": forward_ad.dual_level, "excluded": excluded,
}  # fmt: skip


def warmed(x, calls, **options):
    """A function of a current whose calls go the direct way."""

    def run(value):
        return hnn_kernels.lif(value, 0.7, 0.5, **options)[0]

    for _ in range(3):
        run(x)
    calls.clear()
    run(x)
    assert calls == []
    return run


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("learn", [True, False])
def test_modes_see_the_operator(mode, learn, calls):
    x = torch.randn(3, 2, 4, requires_grad=learn)
    run = warmed(x, calls)
    expected = run(x)
    with MODES[mode]():
        found = run(x)
    assert "forward" in calls
    assert torch.equal(found, expected)
    calls.clear()
    run(x)
    assert calls == []


@pytest.mark.parametrize("mode", ["dispatch", "flops", "profiler", "excluded"])
def test_modes_see_the_operator_of_backward(mode, calls):
    x = torch.randn(3, 2, 4, requires_grad=True)
    run = warmed(x, calls)
    grad = torch.ones(3, 2, 4)
    for _ in range(2):
        expected = torch.autograd.grad(run(x), x, grad)
    out = run(x)
    calls.clear()
    with MODES[mode]():
        found = torch.autograd.grad(out, x, grad)
    assert "backward" in calls
    assert torch.equal(found[0], expected[0])


def test_autocast_has_nothing_to_do_with_it(calls):
    x = torch.randn(3, 2, 4, requires_grad=True)
    run = warmed(x, calls)
    for _ in range(2):
        (expected,) = torch.autograd.grad(run(x).sum(), x)
    calls.clear()
    with torch.autocast("cpu", torch.bfloat16):
        out = run(x)
        (found,) = torch.autograd.grad(out.sum(), x)
    assert calls == []
    assert out.dtype == torch.float32
    assert torch.equal(found, expected)


TRANSFORMS = {
    "vmap": lambda run, x: torch.vmap(run, 1, 1)(x[:, None].expand(3, 2, 2, 4)),
    "vjp": lambda run, x: torch.func.vjp(run, x)[0],
    "grad": lambda run, x: torch.func.grad(lambda value: run(value).sum())(x),
    "functionalize": lambda run, x: torch.func.functionalize(run)(x),
    "jit.trace": lambda run, x: torch.jit.trace(run, (x,), check_trace=False)(x),
    "make_fx": lambda run, x: torch.fx.experimental.proxy_tensor.make_fx(run)(x),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_see_the_operator(name, calls):
    x = torch.randn(3, 2, 4)
    run = warmed(x, calls)
    TRANSFORMS[name](run, x)
    assert "forward" in calls


def test_compiled_calls_see_the_operator():
    x = torch.randn(3, 2, 4, requires_grad=True)
    graphs = []

    def backend(graph, example):
        graphs.append(graph)
        return graph

    torch.compile(lambda value: hnn_kernels.lif(value, 0.7, 0.5)[0], backend=backend, fullgraph=True)(x)
    assert any("lif_forward_cpu" in str(node.target) for node in graphs[0].graph.nodes)


class Tagged(torch.Tensor):
    pass


def strange_tensors():
    """Tensors of the same numbers, none of which is just its memory."""
    x = torch.randn(3, 2, 4)
    with torch.inference_mode():
        inference = x.clone()
    return {
        "subclass": x.as_subclass(Tagged),
        "negative": torch._neg_view(x),
        "zeros": torch._efficientzerotensor(3, 2, 4),
        "buffer": torch.nn.Buffer(x),
    }, inference


@pytest.mark.parametrize("name", strange_tensors()[0])
def test_strange_tensors_take_the_operator(name, calls):
    run = warmed(torch.randn(3, 2, 4), calls)
    value = strange_tensors()[0][name]
    found = run(value)
    if name != "buffer":  # a plain tensor with a mark
        assert calls == ["forward"]
    assert torch.equal(torch.as_tensor(found), run(value.as_subclass(torch.Tensor) * 1 + 0))


@pytest.mark.parametrize("make", [torch.Tensor.to_sparse, torch.Tensor.to_mkldnn, lambda x: x.to("meta")])
def test_tensors_without_memory_are_never_described(make):
    assert _direct._describe((torch.randn(3, 2, 4),), {}, False) is not None
    assert _direct._describe((make(torch.randn(3, 2, 4)),), {}, False) is None


def test_a_tensor_of_a_transform_is_never_described():
    seen = []
    torch.vmap(lambda x: (seen.append(_direct._describe((x,), {}, False)), x)[1])(torch.randn(2, 3))
    torch.func.functionalize(lambda x: (seen.append(_direct._describe((x,), {}, False)), x)[1])(torch.randn(2, 3))
    assert seen == [None, None]


def test_inference_tensors_are_not_saved(calls):
    run = warmed(torch.randn(3, 2, 4), calls)
    inference = strange_tensors()[1]
    assert torch.equal(run(inference), run(inference.clone()))
    learnt = torch.tensor(0.5, requires_grad=True)
    for _ in range(4):
        with pytest.raises(RuntimeError, match="Inference tensors cannot be saved for backward"):
            hnn_kernels.lif(inference, learnt, 0.5)


def test_forward_mode_is_refused(calls):
    x = torch.randn(3, 2, 4)
    run = warmed(x, calls)
    with forward_ad.dual_level(), pytest.raises(RuntimeError, match="no derivative in forward mode"):
        run(forward_ad.make_dual(x, torch.ones_like(x)))


def test_a_second_derivative_is_refused(calls):
    x = torch.randn(3, 2, 4, requires_grad=True)
    run = warmed(x, calls)
    grad = torch.ones(3, 2, 4, requires_grad=True)
    for _ in range(3):
        torch.autograd.grad(run(x), x, grad)
    (found,) = torch.autograd.grad(run(x), x, grad, create_graph=True)
    with pytest.raises(RuntimeError, match="cannot be differentiated twice"):
        found.sum().backward()


def test_hooks_of_saved_tensors_are_heard(calls):
    x = torch.randn(3, 2, 4, requires_grad=True)
    run = warmed(x, calls)
    grad = torch.ones(3, 2, 4)
    for _ in range(2):
        expected = torch.autograd.grad(run(x), x, grad)
    packed = []

    def pack(tensor):
        packed.append(tensor)
        return tensor.double()

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept.float().mT.contiguous().mT):
        found = torch.autograd.grad(run(x), x, grad)
    assert len(packed) == 1
    assert torch.equal(found[0], expected[0])
