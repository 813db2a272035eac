"""The operators with the rest of PyTorch: schemas, fake kernels, transforms, checkpointing, autocast, CUDA graphs."""

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

import hnn_kernels
from hnn_kernels._layer import COEFFICIENTS, TENSORS
from hnn_kernels._ops.layer import backward_ops, forward_ops
from support.comparisons import equal_bits
from support.layers import DTYPES, everything, gradients, inputs, replace, reset_of, results, run, tensors
from support.operators import every_need, raw_arguments
from support.targets import dtype_id

RAW_FORMS = [
    {}, {"constant": True}, {"count": True}, {"constant": True, "count": True}, {"smooth": True}, {"kind": "float"},
    {"kind": "mixed"}, {"kind": "scalar"}, {"dtype": torch.float64}, {"dtype": torch.bfloat16},
    {"synapse": (2, 1)}, {"axon": (1, 2), "kind": "mixed"}, {"synapse": (0, 1), "axon": (2, 0), "constant": True},
    {"synapse": (1, 0), "axon": (2, 1), "checkpoint_every": 2, "kind": "channel"},
    {"synapse": (2, 1), "membrane": False}, {"synapse": (1, 0), "membrane": False, "dtype": torch.bfloat16},
    {"reset": "subtract", "reset_grad": "detach"}, {"reset": "zero", "surrogate": "arctan"},
    {"return_state": False}, {"return_state": False, "synapse": (2, 1), "membrane": False},
    {"return_state": False, "synapse": (1, 0), "axon": (3, 1), "checkpoint_every": 2},
]  # fmt: skip


def form_id(form) -> str:
    return "+".join(f"{k}={v}".replace("torch.", "") for k, v in form.items()) or "plain"


@pytest.mark.parametrize("form", RAW_FORMS, ids=form_id)
def test_opcheck_forward(target, form):
    for shape in ((2, 3, 5), (2, 3, 1)):
        layer, _ = raw_arguments(shape, device=target.device, **form)
        torch.library.opcheck(forward_ops[target.backend], tuple(layer))


def bits(*names) -> int:
    return sum(1 << TENSORS.index(name) for name in names)


NEEDS = {
    "all": ~0,
    "current": bits("current"),
    "some coefficients": bits("decay", "threshold", "synapse_feedback", "axon_feedforward"),
    "states": bits("v", "r", "synapse_state", "axon_state"),
}
BOTH_FILTERS = {"synapse": (1, 1), "axon": (2, 0)}
NEEDED = [(form, "all") for form in RAW_FORMS] + [
    (form, some) for form in ({}, BOTH_FILTERS) for some in NEEDS if form or some != "all"
]


@pytest.mark.parametrize(
    ("form", "needs"), NEEDED, ids=lambda value: value if isinstance(value, str) else form_id(value)
)
def test_opcheck_backward(target, form, needs):
    layer, incoming = raw_arguments((2, 3, 5), device=target.device, **form)
    checkpoints = forward_ops[target.backend](*layer)[-1] if layer.checkpoint_every else None
    # Only tensors have gradients.
    needs = NEEDS[needs] & every_need(layer)
    torch.library.opcheck(backward_ops[target.backend], (*incoming, checkpoints, *layer, needs))


@pytest.mark.parametrize("permutation", [(1, 0, 2, 3), (0, 2, 3, 1), (3, 2, 1, 0)], ids=str)
@pytest.mark.parametrize("form", [{}, BOTH_FILTERS], ids=form_id)
def test_opcheck_of_strides(target, permutation, form):
    """The fake kernel promises the strides that the kernel gives."""
    layer, incoming = raw_arguments((2, 3, 5), device=target.device, **form)
    current = layer.current.permute(permutation).contiguous().permute(*torch.tensor(permutation).argsort().tolist())
    for view in (current, current[:1].expand(current.shape)):
        strided = layer._replace(current=view)
        torch.library.opcheck(forward_ops[target.backend], tuple(strided))
        torch.library.opcheck(backward_ops[target.backend], (*incoming, None, *strided, every_need(strided)))


@pytest.mark.parametrize("form", [{}, BOTH_FILTERS], ids=form_id)
def test_opcheck_of_absent_state_and_gradients(target, form):
    layer, incoming = raw_arguments((2, 3, 5), device=target.device, **form)
    layer = layer._replace(v=None, r=None, synapse_state=None, axon_state=None)
    torch.library.opcheck(forward_ops[target.backend], tuple(layer))
    several = range(1, 1 << len(incoming))
    # The interpreter takes seconds for one.
    for present in (1 << i for i in range(len(incoming))) if target.interpreted else several:
        some = [g if present >> i & 1 else None for i, g in enumerate(incoming)]
        if any(g is not None for g in some):
            torch.library.opcheck(
                backward_ops[target.backend], (*some, None, *layer, every_need(layer)),
                test_utils=("test_schema", "test_faketensor"),
            )  # fmt: skip


@pytest.mark.parametrize("form", [{}, BOTH_FILTERS, {"synapse": (2, 1), "membrane": False}], ids=form_id)
def test_no_host_sync_by_construction(target, form):
    """Forward and backward run on fake tensors, which have no numbers to wait for."""
    with FakeTensorMode():
        arguments = inputs((5, 2, 3), kind="neuron", state=True, **form)
        leaves = {name: value.requires_grad_() for name, value in tensors(arguments).items()}
        out, state = run(replace(arguments, **leaves), target.backend) if target.device == "cpu" else (None, None)
        if out is None:
            pytest.skip("on a CUDA device the sync debug mode proves it")
        loss = sum(result.sum() for result in results(out, state).values())
        found = torch.autograd.grad(loss, list(leaves.values()))
    for leaf, gradient in zip(leaves.values(), found, strict=True):
        assert gradient.shape == leaf.shape
        assert gradient.dtype == leaf.dtype


class CountedCalls(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(str(function))
        return function(*args, **(kwargs or {}))


@pytest.mark.skipif("meta" not in hnn_kernels.backends()["cpu"].devices, reason="the C++ kernels are not built")
def test_meta_tensors_have_their_shapes_from_one_operator_without_a_loop():
    train, step = (torch.empty(shape, device="meta", requires_grad=True) for shape in ((50, 2, 3), (2, 3)))
    weight, window = (torch.empty(shape, device="meta", requires_grad=True) for shape in ((4, 3), (4, 2, 3, 3)))
    probability, images = step.detach(), torch.empty(5, 2, 8, 8, device="meta")
    for call, shape in (
        (lambda: hnn_kernels.lif(train, 0.9, 0.5)[0], (50, 2, 3)),
        (lambda: hnn_kernels.lif(train, 0.9, 0.5, return_state=True)[1].v, (2, 3)),
        (lambda: hnn_kernels.lif(train, 0.9, 0.5, readout="count")[0], (2, 3)),
        (lambda: hnn_kernels.lif(step, 0.9, 0.5, steps=2**40)[0], (2**40, 2, 3)),
        (lambda: hnn_kernels.iir(train, [0.5], [0.5])[0], (50, 2, 3)),
        (lambda: hnn_kernels.encode_gaussian(step, step, 2**40, seed=1), (2**40, 2, 3)),
        (lambda: hnn_kernels.encode_poisson(probability, 2**40, seed=1), (2**40, 2, 3)),
        (lambda: hnn_kernels.spike_linear(train, weight), (50, 2, 4)),
        (lambda: hnn_kernels.spike_conv2d(images, window), (5, 4, 6, 6)),
    ):
        with CountedCalls() as calls:
            found = call()
        assert (found.shape, found.device.type) == (shape, "meta")
        assert len([name for name in calls.names if name.startswith("hnn")]) == 1
        assert len(calls.names) <= 2, calls.names
        if found.requires_grad:
            found.sum().backward()
    for leaf in (train, step, weight, window):
        assert (leaf.grad.shape, leaf.grad.device.type) == (leaf.shape, "meta")


def test_a_meta_tensor_does_not_take_the_plan_of_a_real_one():
    """The direct way knows a call by its shapes, and takes the addresses of its tensors."""
    for _ in range(4):
        hnn_kernels.lif(torch.zeros(5, 2, 3), 0.9, 0.5)
        assert hnn_kernels.lif(torch.empty(5, 2, 3, device="meta"), 0.9, 0.5)[0].is_meta


needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@needs_cuda
def test_no_host_sync_on_a_device(target):
    if target.device != "cuda":
        pytest.skip("the sync debug mode watches CUDA tensors")
    arguments = inputs((9, 2, 3, 5), device="cuda", kind="neuron", state=True)
    gradients(arguments, target.backend)  # compiles
    leaves = {name: value.requires_grad_() for name, value in tensors(arguments).items()}
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        out, state = run({**arguments, **{n: leaves[n] for n in COEFFICIENTS if n in leaves}}, target.backend)
        torch.autograd.grad(out.sum() + state.v.sum(), list(leaves.values()))
    finally:
        torch.cuda.set_sync_debug_mode("default")


@needs_cuda
def test_cuda_graph(target):
    """Forward and backward are captured once and replayed on other numbers."""
    if target.device != "cuda":
        pytest.skip("only CUDA kernels can be captured")
    arguments = inputs((9, 2, 3, 5), device="cuda", kind="neuron")
    current = arguments["current"].requires_grad_()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            torch.autograd.grad(run(arguments, target.backend)[0].sum(), current)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out, _ = run(arguments, target.backend)
        (gradient,) = torch.autograd.grad(out.sum(), current)
    with torch.no_grad():
        current.copy_(torch.randn_like(current))
    graph.replay()
    expected, _ = run(arguments, target.backend)
    equal_bits(out, expected, "spikes")
    equal_bits(gradient, torch.autograd.grad(expected.sum(), current)[0], "gradient")


@pytest.mark.parametrize("wanted", TENSORS)
def test_a_gradient_penalty_is_an_error(target, wanted):
    """The gradient depends on every input, so a penalty on it must not be dropped from the gradient in silence."""
    arguments = inputs(
        (4, 2, 3), device=target.device, kind="neuron", state=True, reset=reset_of(wanted), **BOTH_FILTERS
    )
    leaf = tensors(arguments)[wanted].requires_grad_()
    out, _ = run(arguments, target.backend)
    loss = out.sum()
    (gradient,) = torch.autograd.grad(loss, leaf, create_graph=True)
    with pytest.raises(RuntimeError, match="cannot be differentiated twice"):
        (loss + gradient.square().sum()).backward()


def test_double_backward_through_the_incoming_gradient_is_an_error(target):
    arguments = inputs((4, 2, 3), device=target.device)
    current = arguments["current"].requires_grad_()
    out, _ = run(arguments, target.backend)
    (gradient,) = torch.autograd.grad(out.square().sum(), current, create_graph=True)
    with pytest.raises(RuntimeError, match="cannot be differentiated twice"):
        gradient.sum().backward()


def test_forward_mode_is_an_error(target):
    arguments = inputs((4, 2, 3), device=target.device)
    current = arguments["current"]
    with pytest.raises((RuntimeError, NotImplementedError), match=r"jvp|forward mode|forward AD"):
        torch.func.jvp(
            lambda x: run({**arguments, "current": x}, target.backend)[0], (current,), (torch.ones_like(current),)
        )


@pytest.mark.parametrize("wanted", TENSORS)
@pytest.mark.parametrize("checkpoint_every", [None, 2])
def test_func_grad(target, wanted, checkpoint_every):
    arguments = inputs(
        (5, 2, 3, 4), device=target.device, kind="neuron", state=True, reset=reset_of(wanted), **BOTH_FILTERS
    )
    value = tensors(arguments)[wanted]

    def loss(value):
        given = replace(arguments, **{wanted: value})
        return run(given, target.backend, checkpoint_every=checkpoint_every)[0].sum()

    leaf = value.detach().requires_grad_()
    expected = torch.autograd.grad(loss(leaf), leaf)[0]
    equal_bits(torch.func.grad(loss)(value), expected, wanted)


def test_iir_cannot_be_differentiated_twice(target):
    x = torch.randn(4, 2, 3, device=target.device, requires_grad=True)
    y, _ = hnn_kernels.iir(x, [0.5], [1.0], backend=target.backend)
    (gradient,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="cannot be differentiated twice"):
        gradient.sum().backward()


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpoint(target, use_reentrant):
    arguments = inputs((5, 2, 3), device=target.device, kind="neuron")
    current = arguments["current"].requires_grad_()

    def layer(x):
        return run({**arguments, "current": x}, target.backend)[0]

    expected = torch.autograd.grad(layer(current).sum(), current)[0]
    checkpoint(layer, current, use_reentrant=use_reentrant).sum().backward()
    equal_bits(current.grad, expected, "gradient")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=dtype_id)
def test_autocast(target, dtype):
    """lif casts nothing: it takes the dtype of the layer before, which autocast may have made narrow."""
    linear = nn.Linear(6, 5, device=target.device)
    layer = hnn_kernels.nn.LIF(0.9, learn=("decay", "threshold"), shape=(5,), backend=target.backend).to(target.device)
    x = torch.randn(4, 3, 6, device=target.device)
    with torch.autocast(target.device, dtype):
        out, state = layer(linear(x), return_state=True)
        loss = out.float().mean()
    assert out.dtype == dtype
    assert state.v.dtype == torch.float32
    loss.backward()
    assert linear.weight.grad.dtype == torch.float32
    assert layer.decay.grad.dtype == torch.float32
    assert linear.weight.grad.abs().sum() > 0
    assert layer.threshold.grad.abs().sum() > 0


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_id)
@pytest.mark.parametrize("autocast", [torch.bfloat16, torch.float16], ids=dtype_id)
def test_autocast_changes_no_bit(target, dtype, autocast):
    """Autocast would change the operations of the plain loop; it must not change a layer's results."""
    arguments = inputs((5, 2, 3), dtype=dtype, device=target.device, kind="neuron", state=True, **BOTH_FILTERS)
    expected = everything(arguments, target.backend)
    with torch.autocast(target.device, autocast):
        found = everything(arguments, target.backend)
    for name, got in found.items():
        equal_bits(got, expected[name], name)


def test_the_gradient_has_the_dtype_of_the_current(target):
    """The dtype in which the loss was computed does not matter."""
    for dtype in DTYPES:
        current = inputs((4, 2, 3), dtype=dtype, device=target.device)["current"].requires_grad_()
        out, _ = hnn_kernels.lif(current, 0.9, 0.5, backend=target.backend)
        out.double().square().sum().backward()
        assert current.grad.dtype == dtype


def test_retain_graph(target):
    """Backward twice over one graph gives the same gradients twice."""
    arguments = inputs((5, 2, 3), device=target.device)
    current = arguments["current"].requires_grad_()
    loss = run(arguments, target.backend)[0].sum()
    first = torch.autograd.grad(loss, current, retain_graph=True)[0]
    equal_bits(torch.autograd.grad(loss, current)[0], first, "gradient")


def test_training_lowers_a_loss_as_the_reference_does(target):
    """Steps of Adam from the same start give the same losses as the reference, and the last is lower than the first."""
    epochs, steps = (6, 4) if target.interpreted else (30, 8)
    torch.manual_seed(0)
    x = torch.randn(16, 6)
    labels = torch.arange(16) % 3
    curves = []
    for backend in (target.backend, "reference"):
        torch.manual_seed(1)
        first, second = nn.Linear(6, 20), nn.Linear(20, 3)
        with torch.no_grad():  # enough current for spikes from the start
            first.weight.mul_(3)
            second.weight.mul_(4)
        hidden = hnn_kernels.nn.LIF(0.5, learn=("decay", "threshold"), shape=(20,), backend=backend)
        last = hnn_kernels.nn.LIF(0.5, readout="count", backend=backend)
        model = nn.ModuleList([first, second, hidden, last]).to(target.device)
        optimiser = torch.optim.Adam(model.parameters(), 2e-2)
        curve = []
        for _ in range(epochs):
            count = last(second(hidden(first(x.to(target.device)), steps=steps)))
            loss = nn.functional.cross_entropy(count, labels.to(target.device))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            curve.append(loss.item())
        curves.append(curve)
    assert curves[0][-1] < (0.9 if target.interpreted else 0.5) * curves[0][0]
    # Gradients agree to rounding and spikes are discrete, so the curves part only where a potential is within rounding
    # of its threshold. Measured on the CPU: no difference at all; 1e-4 is room for the rounding of a GPU.
    assert curves[0] == pytest.approx(curves[1], rel=1e-4)
