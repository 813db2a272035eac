"""The transforms, tracers and modes of PyTorch that work on a differentiable operator work on these."""

import copy
import functools
import io
import warnings

import pytest
import torch
from torch.autograd.functional import jacobian
from torch.fx.experimental.proxy_tensor import make_fx

import hnn_kernels
from hnn_kernels import IIR, encode_gaussian
from hnn_kernels.nn import LIF

SHAPE = (4, 2, 3)


def lif(x, backend, **options):
    return hnn_kernels.lif(x, 0.8, 0.5, backend=backend, **options)[0]


FUNCTIONS = {
    "lif": lif,
    "count": functools.partial(lif, readout="count"),
    "filters": functools.partial(lif, axon=IIR.dual_exponential(4, 1), synapse=IIR.exponential(2)),
    "checkpoints": functools.partial(lif, checkpoint_every=2),
    "no state": functools.partial(lif, return_state=False),
    "constant": lambda x, backend: lif(x[0], backend, steps=4),
    "last state": lambda x, backend: hnn_kernels.lif(x, 0.8, 0.5, backend=backend)[1].v,
    "iir": lambda x, backend: hnn_kernels.iir(x, (0.5, 0.1), (1.0, 0.2), backend=backend)[0],
    "gaussian": lambda x, backend: encode_gaussian(x[0], x[1], 4, seed=3, backend=backend),
    "module": lambda x, backend: module(backend)(x),
}


@functools.cache
def module(backend):
    return LIF(0.9, learn=("decay",), axon=IIR.exponential(3), backend=backend)


@pytest.fixture(params=FUNCTIONS)
def function(request, any_target):
    if any_target.device != "cpu":
        pytest.skip("what is proved here is above the device")
    module(any_target.backend)  # its parameters are made before a tracer is active
    return functools.partial(FUNCTIONS[request.param], backend=any_target.backend)


@pytest.fixture
def x():
    return torch.randn(SHAPE) * 1.5


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def some_rows(function, x):
    """Incoming gradients, and the gradient that each gives by itself."""
    out = function(x)
    rows = torch.eye(out.numel()).reshape(-1, *out.shape)[::7]
    return rows, torch.stack([gradient(function, x, row) for row in rows])


def gradient(function, x, incoming):
    leaf = x.clone().requires_grad_()
    return torch.autograd.grad(function(leaf), leaf, incoming)[0]


@pytest.mark.parametrize("create_graph", [False, True])
def test_batched_gradients(function, x, create_graph):
    rows, expected = some_rows(function, x)
    leaf = x.clone().requires_grad_()
    out = function(leaf)
    for _ in range(2):
        (found,) = torch.autograd.grad(
            out, leaf, rows, is_grads_batched=True, create_graph=create_graph, retain_graph=True
        )
        close(found, expected)


def test_jacobians(function, x):
    _, expected = some_rows(function, x)
    out = function(x)
    for found in (
        jacobian(function, x, vectorize=True),
        torch.func.jacrev(function)(x),
        torch.func.jacrev(function, chunk_size=5)(x),
    ):
        close(found.reshape(out.numel(), *x.shape)[::7], expected)


def test_vmap_over_a_vjp(function, x):
    rows, expected = some_rows(function, x)
    close(torch.vmap(torch.func.vjp(function, x)[1])(rows)[0], expected)


def test_gradients_per_sample(function, x):
    samples = torch.stack([x, 2 * x, -x])
    per_sample = torch.func.grad(lambda x: function(x).square().sum())
    found = torch.vmap(per_sample)(samples)
    close(found, torch.stack([per_sample(sample) for sample in samples]))


def test_a_forward_mode_derivative_is_an_error(target, x):
    for name in ("lif", "iir", "gaussian"):
        with pytest.raises(RuntimeError, match=r"hnn_kernels.*forward mode.*reverse mode.*reference"):
            torch.func.jvp(functools.partial(FUNCTIONS[name], backend=target.backend), (x,), (x,))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_reference_has_forward_mode(name, x):
    function = functools.partial(FUNCTIONS[name], backend="reference")
    close(torch.func.jacfwd(function)(x), torch.func.jacrev(function)(x))


def test_functionalize(function, x):
    close(torch.func.functionalize(function)(x), function(x))
    total = torch.func.grad(lambda x: function(x).sum())
    close(torch.func.functionalize(total)(x), total(x))


def test_hooks(function, x):
    leaf, seen = x.clone().requires_grad_(), []
    leaf.register_hook(lambda grad: seen.append("input") or 2 * grad)
    out = function(leaf)
    out.retain_grad()
    out.register_hook(lambda grad: seen.append("output"))
    out.grad_fn.register_hook(lambda *grads: seen.append("node"))
    out.grad_fn.register_prehook(lambda grads: seen.append("before the node"))
    out.sum().backward()
    assert seen == ["output", "before the node", "node", "input"]
    assert out.grad is not None
    close(leaf.grad, 2 * gradient(function, x, torch.ones_like(out)))


def test_saved_tensors_can_be_packed(function, x):
    leaf, packed = x.clone().requires_grad_(), []
    with torch.autograd.graph.save_on_cpu():
        close(torch.autograd.grad(function(leaf).sum(), leaf)[0], gradient(function, x, torch.ones_like(function(x))))
    with torch.autograd.graph.saved_tensors_hooks(lambda t: packed.append(t) or t.numpy(force=True), torch.from_numpy):
        out = function(leaf)
    assert packed
    close(torch.autograd.grad(out.sum(), leaf)[0], gradient(function, x, torch.ones_like(out)))


def test_profilers_name_the_operators(target, x):
    leaf = x.clone().requires_grad_()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        lif(leaf, target.backend).sum().backward()
    names = {event.key for event in profile.key_averages()}
    assert {f"hnn::lif_forward_{target.backend}", f"hnn::lif_backward_{target.backend}"} <= names


class Program(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def saved_and_loaded(save, load, program):
    file = io.BytesIO()
    save(program, file)
    file.seek(0)
    return load(file)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_traced_program_is_saved_loaded_and_trained(any_target, name, x):
    function = functools.partial(FUNCTIONS[name], backend=any_target.backend)
    program = copy.deepcopy(module(any_target.backend)) if name == "module" else Program(function)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        warnings.simplefilter("ignore", FutureWarning)
        traced = torch.jit.trace(program, (x,))
        loaded = saved_and_loaded(torch.jit.save, torch.jit.load, traced)
    other = torch.randn(SHAPE)
    for program in (traced, loaded):
        close(program(other), function(other))
        incoming = torch.ones_like(function(other))
        close(gradient(program, other, incoming), gradient(function, other, incoming))


def test_an_exported_program_is_saved_loaded_and_trained(function, x):
    program = torch.export.export(Program(function), (x,))
    loaded = saved_and_loaded(torch.export.save, torch.export.load, program)
    other = torch.randn(SHAPE)
    for module in (program.module(), loaded.module()):
        close(module(other), function(other))
        incoming = torch.ones_like(function(other))
        close(gradient(module, other, incoming), gradient(function, other, incoming))


@pytest.mark.parametrize("name", ["lif", "filters", "checkpoints", "iir"])
def test_an_exported_program_takes_other_steps_and_batches(target, name, x):
    function = functools.partial(FUNCTIONS[name], backend=target.backend)
    sizes = {0: torch.export.Dim("T", min=2), 1: torch.export.Dim("B", min=2)}
    program = torch.export.export(Program(function), (x,), dynamic_shapes={"x": sizes})
    other = torch.randn(7, 5, 3)
    close(program.module()(other), function(other))
    close(program.run_decompositions().module()(other), function(other))


def test_an_export_of_a_module_that_hands_out_its_state(target, x):
    layer = LIF(0.9, axon=IIR.exponential(3), backend=target.backend)
    program = torch.export.export(layer, (x,), {"return_state": True})
    out, state = saved_and_loaded(torch.export.save, torch.export.load, program).module()(x, return_state=True)
    expected, expected_state = layer(x, return_state=True)
    close(out, expected)
    assert type(state) is type(expected_state)
    close(state.axon, expected_state.axon)


def test_recorded_operations(function, x):
    close(make_fx(function)(x)(x), function(x))


def test_modes(function, x):
    with torch.inference_mode():
        close(function(x), function(x.clone()))
    with torch.autograd.detect_anomaly(check_nan=True):
        gradient(function, x, torch.ones_like(function(x)))


class Marked(torch.Tensor):
    pass


def test_a_tensor_subclass_comes_out(function, x):
    leaf = x.clone().as_subclass(Marked).requires_grad_()
    out = function(leaf)
    assert type(out) is Marked
    out.sum().backward()
    close(leaf.grad.as_subclass(torch.Tensor), gradient(function, x, torch.ones_like(function(x))))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_meta_tensors(name, x):
    """A call without a backend tells the shapes of tensors without data, those of gradients too."""
    function = functools.partial(FUNCTIONS[name], backend=None)
    expected = function(x).shape
    if name == "module":
        function = copy.deepcopy(module(None)).to("meta")
    leaf = x.to("meta").requires_grad_()
    out = function(leaf)
    assert out.shape == expected
    out.sum().backward()
    assert leaf.grad.shape == leaf.shape


# -- torch.compile -----------------------------------------------------------------------------------------------------


@pytest.fixture
def graphs():
    """The number of graphs that were compiled in this test."""
    counters = torch._dynamo.utils.counters
    torch._dynamo.reset()
    counters.clear()
    yield lambda: counters["stats"]["unique_graphs"]
    torch._dynamo.reset()


compiled = functools.partial(torch.compile, fullgraph=True, backend="aot_eager")


@functools.cache
def computes_with_floats():
    """True if this torch compiles arithmetic with a float that varies. Torch 2.11 makes constants of its results."""
    torch._dynamo.reset()
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    step = compiled(lambda x, value: x * (2.0 * value))
    for value in (0.3, 0.4, 0.5, 0.6):
        step(torch.ones(3), value)
    return torch._dynamo.utils.counters["stats"]["unique_graphs"] - before <= 2


def annealed(x, value, name, backend):
    """A layer of which one float is ``value``."""
    filters = {
        "axon": lambda: {"axon": IIR((value,), (1.0,))},
        "tau": lambda: {"synapse": IIR.exponential(value)},
        "tau_m": lambda: {"axon": IIR.dual_exponential(4 * value, value)},
        "normalized tau_m": lambda: {"axon": IIR.dual_exponential(4 * value, value, normalize=True)},
    }
    chosen = filters[name]() if name in filters else {name: value}
    return hnn_kernels.lif(x, **{"decay": 0.9, "reset_decay": 0.5} | chosen, backend=backend)[0]


@pytest.mark.parametrize(
    "name", ["sigma", "decay", "reset_decay", "threshold", "axon", "tau", "tau_m", "normalized tau_m"]
)
def test_a_float_that_varies_compiles_twice(any_target, graphs, name, x):
    """Once as a constant, and once for all other numbers."""
    if "tau" in name:
        if not computes_with_floats():
            pytest.skip("this torch makes constants of what is computed with a float")
        torch._dynamo.utils.counters.clear()
    eager = functools.partial(annealed, name=name, backend=any_target.backend)
    step = compiled(lambda x, value: eager(x, value))
    x = x.to(any_target.device)
    for epoch in range(5):
        value = 0.3 + epoch / 9
        found, expected = (gradient(functools.partial(f, value=value), x, torch.ones_like(x)) for f in (step, eager))
        assert torch.equal(found, expected)
    assert graphs() <= 2


def test_a_module_whose_options_vary(target, graphs, x):
    layer = LIF(0.9, backend=target.backend)
    step = compiled(layer)
    x = x.to(target.device).requires_grad_()
    for epoch in range(12):
        layer.sigma, layer.decay = 1 / (1 + epoch), 0.5 + epoch / 100
        step(x).sum().backward()
    assert graphs() <= 3


@pytest.mark.parametrize("coding", [hnn_kernels.nn.Duplicate, hnn_kernels.nn.Gaussian, hnn_kernels.nn.Poisson])
def test_a_coding_whose_steps_vary(graphs, coding):
    layer = coding(3)
    step = compiled(layer)
    for steps in range(2, 14):
        layer.steps = steps
        assert len(step(torch.rand(2, 4))) == steps
    assert graphs() <= 3


def test_a_stream_that_starts_without_a_state(target, graphs, x):
    layer = LIF(0.9, axon=IIR.exponential(3), backend=target.backend)
    step = compiled(lambda x, state: layer(x, state=state, return_state=True))
    x, state, outs = torch.randn(8, 2, 3, device=target.device), None, []
    for t in range(8):
        out, state = step(x[t : t + 1], state)
        outs.append(out)
    assert torch.equal(torch.cat(outs), layer(x))
    assert graphs() <= 2


def test_compiled_transforms(target, graphs, x):
    x = x.to(target.device)
    function = functools.partial(lif, backend=target.backend)
    per_sample = torch.vmap(torch.func.grad(lambda x: function(x).square().sum()))
    close(compiled(per_sample)(torch.stack([x, 2 * x])), per_sample(torch.stack([x, 2 * x])))
