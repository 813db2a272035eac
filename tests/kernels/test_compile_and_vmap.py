"""torch.compile without graph breaks or recompiles, and torch.func.vmap equal to a Python loop."""

import functools

import pytest
import torch

import hnn_kernels
from hnn_kernels import IIR, LIFState
from hnn_kernels._layer import COEFFICIENTS, TENSORS
from support.comparisons import equal_bits
from support.layers import PARAMETERS, inputs, replace, results, run, tensors
from support.targets import Target


def layer_and_gradients(backend, current, decay, threshold, steps=None, **options):
    """A function to compile: two layers with state in between, and what they give."""
    out, state = hnn_kernels.lif(current, decay, 0.7, threshold, steps=steps, backend=backend)
    out, state = hnn_kernels.lif(out * 1.5, 0.8, 0.7, threshold, state=state, backend=backend, **options)
    return out, state.v


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def hold_compiled(compiled, eager, *arguments):
    """Forward and backward of both on the same numbers."""
    found = []
    for function in (compiled, eager):
        leaves = [a.detach().clone().requires_grad_() for a in arguments]
        out, v = function(*leaves)
        incoming = torch.ones_like(out), torch.full_like(v, 0.5)
        found.append((out, v, *torch.autograd.grad((out, v), leaves, incoming)))
    for got, expected in zip(*found, strict=True):
        equal_bits(got, expected, "compiled")


def numbers(target, steps, batch):
    current = inputs((steps, batch, 6), device=target.device, seed=steps)["current"]
    return current, torch.rand(6, device=target.device), torch.rand(6, device=target.device) + 0.5


@pytest.mark.parametrize("readout", ["spikes", "count"])
def test_compile_with_dynamic_time_and_batch(target, readout):
    eager = functools.partial(layer_and_gradients, target.backend, readout=readout)
    compiled = torch.compile(eager, fullgraph=True, dynamic=True, backend="aot_eager")
    hold_compiled(compiled, eager, *numbers(target, 5, 4))
    with torch._dynamo.config.patch(error_on_recompile=True):
        hold_compiled(compiled, eager, *numbers(target, 3, 7))
        hold_compiled(compiled, eager, *numbers(target, 8, 2))


def test_compile_the_reference():
    """The plain loop compiles too, unrolled: one program per T."""
    eager = functools.partial(layer_and_gradients, "reference")
    compiled = torch.compile(eager, fullgraph=True, dynamic=False, backend="aot_eager")
    hold_compiled(compiled, eager, *numbers(Target("reference", "cpu"), 3, 4))


def test_compile_with_marked_time_and_batch(target):
    """mark_dynamic raises where an operator or a check would fix a size."""
    eager = functools.partial(layer_and_gradients, target.backend)
    compiled = torch.compile(eager, fullgraph=True, backend="aot_eager")
    current, decay, threshold = numbers(target, 5, 4)
    current.requires_grad_()
    for axis in (0, 1):
        torch._dynamo.mark_dynamic(current, axis)
    out, _ = compiled(current, decay, threshold)
    equal_bits(out, eager(current, decay, threshold)[0], "compiled")
    out.sum().backward()
    with torch._dynamo.config.patch(error_on_recompile=True):
        current, decay, threshold = numbers(target, 9, 3)
        current.requires_grad_()
        equal_bits(compiled(current, decay, threshold)[0], eager(current, decay, threshold)[0], "compiled")


def test_compile_with_constant_current_and_dynamic_steps(target):
    def eager(current, steps):
        return hnn_kernels.lif(current, 0.9, 0.7, steps=steps, backend=target.backend)[0]

    compiled = torch.compile(eager, fullgraph=True, dynamic=True, backend="aot_eager")
    current = inputs((3, 6), device=target.device, steps=1)["current"]
    equal_bits(compiled(current, 5), eager(current, 5), "compiled")
    with torch._dynamo.config.patch(error_on_recompile=True):
        equal_bits(compiled(current, 9), eager(current, 9), "compiled")


def test_compile_a_module_that_learns(target):
    learn = ("decay", "reset_decay", "threshold")
    module = hnn_kernels.nn.LIF(learn=learn, shape=(6,), backend=target.backend).to(target.device)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    current = numbers(target, 5, 4)[0]
    found = []
    for function in (compiled, module):
        module.zero_grad()
        out = function(current)
        out.sum().backward()
        found.append([out.detach(), *(p.grad.clone() for p in module.parameters())])
    for got, expected in zip(*found, strict=True):
        equal_bits(got, expected, "compiled")


def two_filtered_layers(backend, x, feedback, feedforward, threshold, **options):
    """A filter, and two layers with filters and state in between, all of whose coefficients can be learnt."""
    filtered, history = hnn_kernels.iir(x, feedback, feedforward, backend=backend)
    synapse, axon = IIR.exponential(3), IIR(feedback, feedforward)
    out, state = hnn_kernels.lif(filtered, 0.5, 0.7, threshold, axon=axon, synapse=synapse, backend=backend, **options)
    out, state = hnn_kernels.lif(
        out + x, 0.8, 0.7, threshold, axon=axon, synapse=synapse, state=state, backend=backend, **options
    )
    return out, state.v + state.axon.sum(0) + state.synapse.sum(0) + history.sum(0)


@pytest.mark.parametrize("checkpoint_every", [None, 2])
def test_compile_filters_with_dynamic_time_and_batch(target, checkpoint_every):
    eager = functools.partial(two_filtered_layers, target.backend, checkpoint_every=checkpoint_every)
    compiled = torch.compile(eager, fullgraph=True, dynamic=True, backend="aot_eager")

    def given(steps, batch):
        current, _, threshold = numbers(target, steps, batch)
        filters = inputs((1, 1, 6), device=target.device, kind="neuron", synapse=(2, 1), membrane=False)["synapse"]
        return current, *filters, threshold

    hold_compiled(compiled, eager, *given(5, 4))
    with torch._dynamo.config.patch(error_on_recompile=True):
        # Not so few steps that there is one checkpoint: torch takes every size of 1 for a program of its own.
        hold_compiled(compiled, eager, *given(7, 7))
        hold_compiled(compiled, eager, *given(8, 2))


@pytest.mark.parametrize("reset", ["subtract", "zero", "none"])
def test_compile_other_resets(target, reset):
    def eager(current, decay, threshold):
        out, state = hnn_kernels.lif(
            current, decay, None, threshold, reset=reset, surrogate="arctan", backend=target.backend
        )
        return out, state.v

    hold_compiled(
        torch.compile(eager, fullgraph=True, dynamic=True, backend="aot_eager"), eager, *numbers(target, 5, 4)
    )


def test_compile_with_inductor(target):
    """The default compiler once: it plans the memory and the strides that the fake kernels promise."""
    eager = functools.partial(layer_and_gradients, target.backend)
    current, decay, threshold = numbers(target, 5, 4)
    strided = current.movedim(0, 1).contiguous().movedim(1, 0)
    hold_compiled(torch.compile(eager, fullgraph=True, dynamic=True), eager, strided, decay, threshold)


def loop(function, in_dims, arguments):
    """The definition of vmap: one call per index, stacked."""
    size = next(a.shape[d] for a, d in zip(arguments, in_dims, strict=True) if d is not None)
    rows = [
        function(*(a if d is None else a.select(d, i) for a, d in zip(arguments, in_dims, strict=True)))
        for i in range(size)
    ]
    return tuple(map(torch.stack, zip(*rows, strict=True)))


def mapped(arguments, names, dims, size=3):
    """The named tensors with a new axis of ``size`` different rows at their dim."""
    given = tensors(arguments)
    return [
        given[name] if dim is None else torch.stack([given[name] * (1 + 0.2 * i) for i in range(size)], dim)
        for name, dim in zip(names, dims, strict=True)
    ]


NAMES = ("current", "decay", "reset_decay", "threshold", "v", "r")
IN_DIMS = [
    (0, None, None, None, None, None),
    (1, None, None, None, None, None),
    (2, None, None, None, None, None),
    (-1, None, None, None, None, None),
    (None, 0, None, None, None, None),
    (None, None, 0, 0, None, None),
    (None, None, None, -1, None, None),
    (None, None, None, None, 0, None),
    (None, None, None, None, 1, -1),
    (0, 0, 0, 0, 0, 0),
    (1, -1, None, 0, None, 2),
]


def layer_of(arguments, backend, **options):
    def layer(current, decay, reset_decay, threshold, v, r):
        out, state = hnn_kernels.lif(
            current, decay, reset_decay, threshold, state=LIFState(v, r), steps=arguments["steps"], backend=backend,
            **options,
        )  # fmt: skip
        return tuple(results(out, state).values())

    return layer


@pytest.mark.parametrize("in_dims", IN_DIMS, ids=str)
@pytest.mark.parametrize("kind", ["scalar", "row", "channel"])
@pytest.mark.parametrize("form", ["train", "count", "constant", "constant count"])
def test_vmap(target, in_dims, kind, form):
    if kind == "scalar" and in_dims[3] == -1:
        in_dims = (*in_dims[:3], 0, *in_dims[4:])
    steps = 4 if "constant" in form else None
    shape = (2, 4, 5) if steps else (4, 2, 4, 5)
    arguments = inputs(shape, device=target.device, kind=kind, state=True, steps=steps)
    layer = layer_of(arguments, target.backend, readout="count" if "count" in form else "spikes")
    given = mapped(arguments, NAMES, in_dims)
    for got, expected in zip(torch.vmap(layer, in_dims)(*given), loop(layer, in_dims, given), strict=True):
        equal_bits(got, expected, "vmap")


@pytest.mark.parametrize("checkpoint_every", [None, 2])
def test_vmap_without_the_state(target, checkpoint_every):
    arguments = inputs((4, 2, 4, 5), device=target.device, kind="row", state=True)
    layer = layer_of(arguments, target.backend, return_state=False, checkpoint_every=checkpoint_every)
    given = mapped(arguments, NAMES, IN_DIMS[-1])
    (got,), (expected,) = torch.vmap(layer, IN_DIMS[-1])(*given), loop(layer, IN_DIMS[-1], given)
    equal_bits(got, expected, "vmap")


@pytest.mark.parametrize("in_dims", IN_DIMS, ids=str)
@pytest.mark.parametrize("kind", ["scalar", "row", "channel"])
@pytest.mark.parametrize("form", ["train", "count", "constant"])
def test_vmap_of_grad(target, in_dims, kind, form):
    """Per-sample gradients of every argument, mapped or not."""
    if kind == "scalar" and in_dims[3] == -1:
        in_dims = (*in_dims[:3], 0, *in_dims[4:])
    steps = 4 if form == "constant" else None
    shape = (2, 4, 5) if steps else (4, 2, 4, 5)
    arguments = inputs(shape, device=target.device, kind=kind, state=True, steps=steps)
    layer = layer_of(arguments, target.backend, readout="count" if form == "count" else "spikes")

    def loss(*values):
        out, v, r = layer(*values)
        return (out * torch.arange(out.numel(), device=out.device).view_as(out)).sum() + v.square().sum() + r.sum()

    gradient = torch.func.grad(loss, argnums=tuple(range(6)))
    given = mapped(arguments, NAMES, in_dims)
    found, wanted = torch.vmap(gradient, in_dims)(*given), loop(gradient, in_dims, given)
    for name, got, expected in zip(NAMES, found, wanted, strict=True):
        # A coefficient's sum over neurons is taken in another order. Measured: 2.5 eps of the largest.
        tolerance = 16 * torch.finfo(got.dtype).eps * expected.abs().max().item() if name in COEFFICIENTS else 0
        torch.testing.assert_close(got, expected, rtol=0, atol=tolerance, msg=name)


FILTERED = {
    "both": {"synapse": (2, 1), "axon": (1, 2)},
    "subtract": {"axon": (2, 0), "reset": "subtract"},
    "alone": {"synapse": (2, 1), "membrane": False},
}
# The mapped dims by name; a tensor without a name here is not mapped.
FILTER_DIMS = [
    {"current": 1},
    {"current": -1, "synapse_feedback": 1, "axon_feedback": -1},
    {"synapse_feedforward": 0, "axon_feedforward": 0},
    {"synapse_state": 1, "axon_state": -1, "v": 0},
    dict.fromkeys(TENSORS, 0),
]


@pytest.mark.parametrize("layer", FILTERED)
@pytest.mark.parametrize("dims", FILTER_DIMS, ids=lambda dims: "+".join(dims) if len(dims) < 5 else "all")
@pytest.mark.parametrize("kind", ["scalar", "row", "neuron"])
def test_vmap_of_filters(target, layer, dims, kind):
    """The results and every gradient of every sample, for mapped and unmapped coefficients and states of filters."""
    arguments = inputs((4, 2, 4, 5), device=target.device, kind=kind, state=True, **FILTERED[layer])
    names = tuple(tensors(arguments))
    in_dims = tuple(dims.get(name) for name in names)
    if not any(d is not None for d in in_dims):
        in_dims = (0, *in_dims[1:])  # none of these is there without the axon
    given = mapped(arguments, names, in_dims)

    def layer_of(*values):
        return tuple(
            results(*run(replace(arguments, **dict(zip(names, values, strict=True))), target.backend)).values()
        )

    def loss(*values):
        return sum((r * torch.arange(r.numel(), device=r.device).view_as(r)).sum() for r in layer_of(*values))

    for got, expected in zip(torch.vmap(layer_of, in_dims)(*given), loop(layer_of, in_dims, given), strict=True):
        equal_bits(got, expected, "vmap")
    gradient = torch.func.grad(loss, argnums=tuple(range(len(names))))
    found, wanted = torch.vmap(gradient, in_dims)(*given), loop(gradient, in_dims, given)
    for name, got, expected in zip(names, found, wanted, strict=True):
        tolerance = 16 * torch.finfo(got.dtype).eps * expected.abs().max().item() if name in PARAMETERS else 0
        torch.testing.assert_close(got, expected, rtol=0, atol=tolerance, msg=name)


def test_grad_of_vmap(target):
    arguments = inputs((4, 2, 5), device=target.device, kind="neuron", state=True)
    layer = layer_of(arguments, target.backend)
    in_dims = (0, None, None, 0, None, None)
    given = mapped(arguments, NAMES, in_dims)

    def total(function, threshold):
        return sum(result.square().sum() for result in function(*given[:3], threshold, *given[4:]))

    got = torch.func.grad(lambda t: total(torch.vmap(layer, in_dims), t))(given[3])
    expected = torch.func.grad(lambda t: total(lambda *a: loop(layer, in_dims, a), t))(given[3])
    # Sums in another order, and equal on the CPU; 1e-5 is room for a GPU's own order.
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


def test_vmap_of_vmap(target):
    arguments = inputs((4, 2, 5), device=target.device, kind="neuron", state=True)
    current = torch.stack([torch.stack([arguments["current"] * (i + j) for i in range(2)], 1) for j in range(3)], -1)

    def layer(x):
        return run({**arguments, "current": x}, target.backend)[0]

    got = torch.vmap(torch.vmap(layer, 1), -1)(current)
    expected = torch.stack(
        [torch.stack([layer(current[:, i, ..., j].contiguous()) for i in range(2)]) for j in range(3)]
    )
    equal_bits(got, expected, "vmap of vmap")


def test_vmap_with_an_out_dim_and_chunks(target):
    arguments = inputs((4, 2, 5), device=target.device)
    current = torch.stack([arguments["current"] * i for i in range(5)])

    def layer(x):
        return run({**arguments, "current": x}, target.backend)[0]

    got = torch.vmap(layer, 0, -1, chunk_size=2)(current)
    equal_bits(got, torch.stack([layer(x) for x in current], -1), "vmap")
