"""Products with spikes and the rest of PyTorch: operators, gradcheck, the compiler, transforms, guarded memory."""

import pytest
import torch

from hnn_kernels import spike_conv2d, spike_linear
from hnn_kernels._ops.bits import pack
from hnn_kernels._ops.products import product_ops
from hnn_kernels.nn import SpikeConv2d, SpikeLinear

pytestmark = pytest.mark.usefixtures("way")


@pytest.fixture
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def train(*shape, dtype=torch.float32, device="cpu"):
    return (torch.rand(shape) < 0.3).to(device, dtype)


def kind(target):
    return "cpu" if target.backend == "cpu" else "torch"


WINDOWS = [([1, 1], [0, 0], [1, 1], 1), ([1, 1], [2, 1], [1, 1], 1), ([2, 1], [1, 1], [1, 2], 2)]
SUMMED = {"rtol": 1e-5, "atol": 1e-5}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("lead", [(5,), (2, 3), (), (0,)], ids=str)
def test_opcheck_linear(target, dtype, lead):
    x, weight = train(*lead, 70, dtype=dtype, device=target.device), torch.randn(9, 70, device=target.device).to(dtype)
    weight.requires_grad_()
    forward, backward = (product_ops[name, kind(target)] for name in ("spike_linear", "spike_linear_backward"))
    torch.library.opcheck(forward, (x, weight, torch.randn(9, device=target.device).to(dtype)), rtol=2e-2, atol=2e-2)
    torch.library.opcheck(forward, (x.requires_grad_(), weight, None), rtol=2e-2, atol=2e-2)
    grad, bits = torch.randn(*lead, 9, device=target.device).to(dtype), pack(x.detach())
    torch.library.opcheck(backward, (grad, bits, 70), rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize("shape", [(2, 4, 5, 6), (1, 2, 3, 3)], ids=str)
def test_opcheck_conv2d(target, window, shape):
    channels, dtype = shape[1] // window[-1], torch.float32
    x, weight = train(*shape, device=target.device), torch.randn(6, channels, 3, 2, device=target.device)
    weight.requires_grad_()
    forward, backward = (product_ops[name, kind(target)] for name in ("spike_conv2d", "spike_conv2d_backward"))
    for image in (x, x.contiguous(memory_format=torch.channels_last)):
        torch.library.opcheck(forward, (image, weight, torch.randn(6, device=target.device), *window), **SUMMED)
    out, bits = forward(x, weight.detach(), None, *window)
    grad = torch.randn(out.shape, device=target.device, dtype=dtype)
    torch.library.opcheck(backward, (grad, bits, list(shape), [3, 2], *window), **SUMMED)


def test_gradcheck(any_target):
    """The weights and the bias; a train cannot be changed a little. Its gradient is compared with torch's elsewhere."""
    options = {"dtype": torch.float64, "device": any_target.device, "requires_grad": True}
    x = train(7, 5, dtype=torch.float64, device=any_target.device)
    weight, bias = torch.randn(3, 5, **options), torch.randn(3, **options)
    assert torch.autograd.gradcheck(lambda w, b: spike_linear(x, w, b, backend=any_target.backend), (weight, bias))
    image = train(2, 3, 5, 4, dtype=torch.float64, device=any_target.device)
    kernel = torch.randn(3, 3, 3, 2, **options)
    for padding in (0, (2, 1)):
        assert torch.autograd.gradcheck(
            lambda w, b, p=padding: spike_conv2d(image, w, b, padding=p, backend=any_target.backend), (kernel, bias)
        )


def test_the_reference_can_be_differentiated_twice_and_no_other(target):
    x, weight = train(4, 5, device=target.device), torch.randn(3, 5, device=target.device).requires_grad_()
    image, kernel = x.view(1, 1, 4, 5), weight.detach()[:, :4].reshape(3, 1, 2, 2).requires_grad_()
    for product, operands in ((spike_linear, (x, weight)), (spike_conv2d, (image, kernel))):
        for backend in ("reference", target.backend):
            leaf = operands[1]
            (grad,) = torch.autograd.grad(product(*operands, backend=backend).square().sum(), leaf, create_graph=True)
            if backend == "reference":
                grad.sum().backward()
            else:
                with pytest.raises(RuntimeError, match=rf"{product.__name__} cannot be differentiated twice"):
                    grad.sum().backward()


def test_forward_mode_is_refused_by_name(target):
    x, weight = train(4, 5, device=target.device), torch.randn(3, 5, device=target.device)
    with pytest.raises(RuntimeError, match="no derivative in forward mode"):
        torch.func.jvp(lambda w: spike_linear(x, w, backend=target.backend), (weight,), (weight,))


# -- the compiler ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("fresh_compiler")
def test_compile_with_a_dynamic_batch(any_target):
    torch.manual_seed(1)
    network = torch.nn.Sequential(
        SpikeConv2d(2, 3, 3, padding=1, backend=any_target.backend),
        torch.nn.Threshold(0, 0),
    ).to(any_target.device)
    linear = SpikeLinear(60, 4, backend=any_target.backend).to(any_target.device)

    def eager(x):
        return network(x).sum() + linear(x.flatten(1)).square().sum()

    compiled = torch.compile(eager, fullgraph=True, dynamic=True, backend="aot_eager")
    parameters = [*network.parameters(), *linear.parameters()]

    def compare(batch):
        x = train(batch, 2, 5, 6, device=any_target.device).requires_grad_()
        found = [torch.autograd.grad(function(x), [x, *parameters]) for function in (compiled, eager)]
        for got, expected in zip(*found, strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4, check_stride=False)

    compare(4)
    with torch._dynamo.config.patch(error_on_recompile=True):
        compare(7)
        compare(3)


@pytest.mark.usefixtures("fresh_compiler")
def test_other_values_are_found_in_a_compiled_graph(target):
    if target.device != "cpu":
        pytest.skip("there it is asserted on the device")
    weight = torch.randn(3, 5)
    compiled = torch.compile(
        lambda x: spike_linear(x, weight, backend=target.backend), fullgraph=True, backend="aot_eager"
    )
    compiled(train(4, 5))
    with pytest.raises((RuntimeError, ValueError), match="input must hold 0 and 1 only"):
        compiled(torch.full((4, 5), 0.5))


# -- transforms --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mapped", [(0, None, None), (None, 0, None), (1, 0, 0)], ids=str)
def test_vmap_is_a_loop(target, mapped):
    def stacked(*shape, dim, make):
        return torch.stack([make(*shape) for _ in range(3)], dim or 0) if dim is not None else make(*shape)

    def randn(*shape):
        return torch.randn(*shape, device=target.device)

    def spikes(*shape):
        return train(*shape, device=target.device)

    for product, shapes in (
        (spike_linear, ((4, 5), (3, 5), (3,))),
        (spike_conv2d, ((2, 2, 4, 5), (3, 2, 2, 3), (3,))),
    ):
        operands = [
            stacked(*shape, dim=dim, make=make)
            for shape, dim, make in zip(shapes, mapped, (spikes, randn, randn), strict=True)
        ]
        call = lambda *given, f=product: f(*given, backend=target.backend)  # noqa: E731
        got = torch.vmap(call, mapped)(*operands)
        expected = torch.stack(
            [
                call(*(o if dim is None else o.select(dim, i) for o, dim in zip(operands, mapped, strict=True)))
                for i in range(3)
            ]
        )
        torch.testing.assert_close(got, expected, **SUMMED)


def test_gradients_per_sample(target):
    weight, bias = torch.randn(3, 5, device=target.device), torch.randn(3, device=target.device)
    x = train(6, 4, 5, device=target.device)

    def loss(weight, bias, x):
        return spike_linear(x, weight, bias, backend=target.backend).square().sum()

    got = torch.func.vmap(torch.func.grad(loss, argnums=(0, 1)), (None, None, 0))(weight, bias, x)
    loop = [torch.func.grad(loss, argnums=(0, 1))(weight, bias, one) for one in x]
    for found, expected in zip(got, zip(*loop, strict=True), strict=True):
        torch.testing.assert_close(found, torch.stack(expected), **SUMMED)


def test_batched_gradients(target):
    weight = torch.randn(3, 5, device=target.device).requires_grad_()
    x = train(4, 5, device=target.device).requires_grad_()
    out = spike_linear(x, weight, backend=target.backend)
    incoming = torch.randn(2, *out.shape, device=target.device)
    got = torch.autograd.grad(out, (x, weight), incoming, retain_graph=True, is_grads_batched=True)
    for i in range(2):
        for found, expected in zip(
            got, torch.autograd.grad(out, (x, weight), incoming[i], retain_graph=True), strict=True
        ):
            torch.testing.assert_close(found[i], expected, **SUMMED)
