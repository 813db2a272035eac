"""The direct way of a call: the operator's bits and errors, and the operator wherever something looks at it."""

import contextlib
import gc
import threading
import weakref

import pytest
import torch
from torch.autograd import forward_ad
from torch.overrides import TorchFunctionMode
from torch.profiler import profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

import hnn_kernels
from hnn_kernels import IIR, LIFState, _direct, nn
from hnn_kernels._ops import autograd
from hnn_kernels._ops.layer import backward_ops, forward_ops
from support.layers import DTYPES, KINDS, RESETS_AND_GRADS, inputs, tensors

pytestmark = pytest.mark.skipif(_direct._describe is None, reason="there is no direct way without the C++ kernels")


@pytest.fixture(autouse=True)
def calls(monkeypatch):
    """The names of the operators that are called. The direct way calls none."""
    found = []

    def counted(name, operator):
        return lambda *arguments: (found.append(name), operator(*arguments))[1]

    for name, operators in (("forward", forward_ops), ("backward", backward_ops)):
        monkeypatch.setitem(operators, "cpu", counted(name, operators["cpu"]))
    return found


def flat(result):
    """The tensors of a result, in order."""
    if isinstance(result, torch.Tensor):
        return [result]
    return [tensor for part in result if part is not None for tensor in flat(part)]


def both_ways(function, arguments, learnt):
    """The results of a call, and the gradients of ``learnt`` tensors."""
    results = flat(function(**arguments))
    if not learnt:
        return results, []
    grads = [torch.linspace(-1, 1, r.numel()).reshape(r.shape).to(r.dtype) for r in results]
    return results, torch.autograd.grad(results, learnt, grads)


def equal(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        assert one.stride() == other.stride()
        assert one.requires_grad == other.requires_grad
        assert torch.equal(one, other) or torch.equal(one.isnan(), other.isnan())
        bits = {8: torch.int64, 4: torch.int32, 2: torch.int16}[one.element_size()]
        assert torch.equal(one.detach().view(bits), other.detach().view(bits))  # the signs of zeros too


def compare(arguments, calls, monkeypatch, function=hnn_kernels.lif, learn=True):
    """Compare the operator with the fourth equal call, which goes the direct way. Return the latter's results."""
    learnt = [t.requires_grad_() for t in tensors(arguments).values()] if learn else []
    with monkeypatch.context() as patch:
        patch.setattr(_direct, "plain", lambda: False)
        expected = both_ways(function, arguments, learnt)
    assert calls == ["forward", *["backward"] * learn]
    for _ in range(3):
        both_ways(function, arguments, learnt)
    calls.clear()
    found = both_ways(function, arguments, learnt)
    assert calls == []
    for one, other in zip(found, expected, strict=True):
        equal(one, other)
    return found


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
    with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(torch._C.DispatchKey.AutogradCPU)):
        yield


MODES = {
    "function": Functions, "dispatch": Dispatch, "flops": lambda: FlopCounterMode(display=False),
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16), "inference": torch.inference_mode,
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


@pytest.mark.parametrize("mode", ["dispatch", "flops", "autocast", "profiler", "excluded"])
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


# -- the key -----------------------------------------------------------------------------------------------------------

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


@pytest.mark.parametrize("value", [2**70, "\ud800", 1j, b"a", {1}, object(), [object()], (1, 2j)])
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
    import inspect

    assert list(inspect.signature(hnn_kernels.lif).parameters)[:4] == ["current", "decay", "reset_decay", "threshold"]
    assert hnn_kernels.lif.__doc__.startswith("Run a layer")


def test_the_two_ways_share_the_refusal_of_forward_mode():
    assert _direct.DirectLayer.jvp is autograd.LayerFunction.jvp
