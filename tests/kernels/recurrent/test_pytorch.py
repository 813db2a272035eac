"""Recurrent layers in torch's own machinery: gradcheck, compilers, transforms, autocast, hooks."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from hnn_kernels._layer import Layer
from hnn_kernels._ops.recurrent import forward_ops
from hnn_kernels.nn import LIF, Recurrent
from support.comparisons import equal_bits
from support.recurrent import FEATURES, MODULES, NEURONS, current, gradients, layer, loop, tensors
from support.targets import NEEDS_CPU

SMOOTH = [(n, w) for n in NEURONS for w in ("matrix", "module", "vector")]
SMOOTH += [("plif", "matrix"), ("two outputs", "matrix"), ("two outputs", "vector")]
# Their gradient leaves out a part of the chain on purpose.
EXACT = [(n, w) for n, w in SMOOTH if n not in ("one step", "subtract")]


@NEEDS_CPU
@pytest.mark.parametrize(("neuron", "weight"), EXACT)
def test_the_gradient_is_the_derivative(neuron, weight):
    options = {} if neuron == "iir" else {"smooth": True}
    made = layer(neuron, weight, "cpu", torch.float64, **options)
    x = current((4, 2, FEATURES), torch.float64)
    state = made(x[:1], return_state=True)[1].detach()
    flat, form = torch.utils._pytree.tree_flatten(state)
    names = [name for name, _ in made.named_parameters()]

    def run(x, *values):
        parameters = dict(zip(names, values, strict=False))
        there = iter(values[len(names) :])
        before = torch.utils._pytree.tree_unflatten([t if t is None else next(there) for t in flat], form)
        found = torch.func.functional_call(made, parameters, (x,), {"state": before, "return_state": True})
        return tuple(t for t in tensors(found) if t.requires_grad)

    leaves = [x, *made.parameters(), *(t for t in flat if t is not None)]
    leaves = [t.detach().requires_grad_() for t in leaves]
    assert torch.autograd.gradcheck(run, leaves, fast_mode=True)


@pytest.mark.parametrize(
    ("neuron", "weight"), [("filter", "matrix"), ("axon", "matrix"), ("filter", "module"), ("zero", "vector"),
                           ("two outputs", "matrix")]
)  # fmt: skip
def test_compiles_to_a_full_graph(neuron, weight):
    torch._dynamo.reset()  # each case compiles the same methods, and more of them than are kept
    x, made = current(), layer(neuron, weight, None)
    compiled = torch.compile(made, fullgraph=True, backend="aot_eager")
    for got, want in zip(tensors(compiled(x, return_state=True)), tensors(made(x, return_state=True)), strict=True):
        torch.testing.assert_close(got, want)
    expected = gradients(made, x, return_state=True)
    got = gradients(made, x, lambda _, x: compiled(x, return_state=True))
    for name, gradient in got.items():
        torch.testing.assert_close(gradient, expected[name], msg=name)


@NEEDS_CPU
def test_the_operators_are_sound():
    weight, bias, out = torch.randn(4, 4), torch.randn(4), torch.rand(3, 4)
    x = torch.randn(5, 3, 4)
    for needs in (False, True):
        tensors = [t.requires_grad_(needs) for t in (weight, bias, out, x)]
        call = Layer(tensors[3], decay_value=0.8, reset_decay_value=0.5, threshold_value=1.0)
        torch.library.opcheck(forward_ops["lif", "cpu"], (*tensors[:3], False, *call))


@pytest.mark.parametrize("weight", ["matrix", "module"])
def test_torch_func_has_the_gradients(weight):
    x, made = current(), layer("filter", weight, None)
    g = torch.randn(x.shape)
    (expected,) = torch.autograd.grad(made(x.requires_grad_()), x, g)
    _, pull = torch.func.vjp(made, x.detach())
    torch.testing.assert_close(pull(g)[0], expected)


def test_vmap_of_a_matrix_is_refused():
    made = layer("filter", "matrix", None)
    with pytest.raises(RuntimeError, match="Recurrent with a matrix has no rule for vmap: put what is mapped"):
        torch.vmap(made)(current()[None])


def test_a_second_derivative_is_refused():
    x = current().requires_grad_()
    (grad,) = torch.autograd.grad(layer("filter", "matrix", "cpu")(x).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match=r"nn\.Recurrent cannot be differentiated twice"):
        grad.sum().backward()


def test_forward_mode_is_refused():
    x, made = current(), layer("filter", "matrix", None)
    with pytest.raises(RuntimeError, match=r"nn\.Recurrent has no derivative in forward mode"):
        torch.func.jvp(made, (x,), (torch.ones_like(x),))


@pytest.mark.parametrize("weight", MODULES)
def test_under_autocast_the_product_has_its_dtype(weight):
    x, made = current(), layer("filter", weight, None)
    with torch.autocast("cpu", torch.bfloat16):
        got, expected = made(x), loop(made, x)[0]
        as_loop = gradients(made, x, lambda made, x: loop(made, x)[0])
        found = gradients(made, x)
    equal_bits(got, expected, "spikes")
    assert got.dtype == torch.float32
    for name, gradient in found.items():
        assert gradient.dtype == torch.float32
        # The loop rounds the matrix's gradient to bfloat16 in every step, and adds up in it.
        bound = 8 * torch.finfo(torch.bfloat16).eps * as_loop[name].abs().max().item()
        torch.testing.assert_close(gradient, as_loop[name], rtol=0, atol=bound, msg=name)


def test_whatever_watches_the_module_is_called():
    x, made = current(), layer("filter", "matrix", None)
    plain = made(x)
    seen = []
    handle = made.weight.register_forward_hook(lambda module, given, out: seen.append(out))
    equal_bits(made(x), plain, "with a hook")
    assert len(seen) == len(x)
    handle.remove()
    for change in (lambda weight: prune.l1_unstructured(weight, "weight", 0.5), parametrizations.weight_norm):
        made = layer("filter", "matrix", None)
        change(made.weight)
        equal_bits(made(x), loop(made, x)[0], "a changed module")
        assert len(gradients(made, x)) == 1 + len(list(made.parameters()))


def test_training_keeps_the_current_and_the_output_alone():
    made, x = Recurrent(LIF(0.8), nn.Linear(50, 50)), torch.randn(20, 8, 50)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        made(x)
    assert sum(t.numel() == x.numel() for t in kept) == 2
    assert sum(t.numel() for t in kept) <= 2 * x.numel() + 50 * 50 + 50
