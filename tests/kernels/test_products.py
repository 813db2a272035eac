"""Products with spikes equal torch's on every backend, by sums and by torch's product, and keep the input as bits."""

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional

from hnn_kernels import spike_conv2d, spike_linear
from support.comparisons import equal_bits
from support.spike_products import (
    DTYPES,
    conv_operands,
    hold,
    linear_operands,
    train,
    with_gradients,
)
from support.targets import dtype_id

# Blocks of outputs are 32 wide (16 in float64), those of inputs 256, tasks take 64 to 512 rows, words hold 64 bits.
LINEAR = [
    ((1, 1), 1), ((3, 7), 5), ((2, 5, 65), 33), ((600, 257), 40), ((70, 784), 500), ((7,), 3), ((130, 256), 64),
    ((4, 0, 9), 3), ((5, 3), 0), ((65, 513), 17),
]  # fmt: skip


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_id)
@pytest.mark.parametrize(("shape", "outputs"), LINEAR, ids=str)
def test_linear_is_torchs(any_target, shape, outputs, dtype):
    operands = linear_operands(shape, outputs, dtype, any_target.device, bias=outputs != 40)
    hold(lambda *given: spike_linear(*given, backend=any_target.backend), functional.linear, operands)


CONVOLUTIONS = [
    ((1, 1, 3, 3), 1, (3, 3), {}),
    ((3, 3, 9, 11), 5, (3, 3), {"padding": 1}),
    ((2, 32, 12, 10), 64, (3, 3), {}),
    ((33, 5, 7, 6), 33, (2, 3), {"padding": (1, 0)}),
    ((2, 70, 5, 6), 9, (5, 4), {"padding": (4, 3)}),
    ((2, 3, 4, 5), 6, (1, 1), {}),
    ((1, 2, 3, 3), 4, (3, 3), {"padding": (3, 4)}),
    ((2, 4, 9, 9), 6, (3, 3), {"stride": 2, "padding": 1}),
    ((2, 4, 9, 9), 6, (3, 3), {"groups": 2}),
    ((2, 4, 9, 9), 6, (3, 3), {"dilation": 2, "padding": 1}),
    ((2, 4, 6, 7), 6, (3, 3), {"padding": "same"}),
    ((2, 4, 6, 7), 6, (2, 4), {"padding": "same"}),
    ((0, 4, 6, 7), 6, (2, 4), {}),
]


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_id)
@pytest.mark.parametrize(("shape", "outputs", "kernel", "window"), CONVOLUTIONS, ids=str)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["rows", "channels_last"])
def test_conv2d_is_torchs(any_target, shape, outputs, kernel, window, dtype, layout):
    operands = conv_operands(
        shape, outputs, kernel, dtype, any_target.device, bias=outputs != 9, groups=window.get("groups", 1)
    )
    for name in ("input", "weight"):
        operands[name] = operands[name].contiguous(memory_format=layout)
    hold(
        lambda *given: spike_conv2d(*given, **window, backend=any_target.backend),
        lambda *given: functional.conv2d(*given, **window),
        operands,
    )


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("rate", [0.0, 0.5, 1.0])
def test_every_density(target, rate):
    hold(
        lambda *given: spike_linear(*given, backend=target.backend),
        functional.linear,
        linear_operands((65, 70), 33, rate=rate, device=target.device),
    )
    hold(
        lambda *given: spike_conv2d(*given, padding=1, backend=target.backend),
        lambda *given: functional.conv2d(*given, padding=1),
        conv_operands((3, 6, 5, 7), 33, (3, 3), rate=rate, device=target.device),
    )


def test_strides_of_every_kind(target, way):
    """Views are read as what they are: transposed weights, sliced rows, expanded gradients."""
    del way
    x, weight = train((2 * 40, 2 * 70), device=target.device)[::2, ::2], torch.randn(70, 33, device=target.device).t()
    product = lambda *given: spike_linear(*given, backend=target.backend)  # noqa: E731
    hold(product, functional.linear, {"input": x, "weight": weight, "bias": None})
    found = []
    for call in (product, functional.linear):
        leaf = weight.detach().requires_grad_()
        found += torch.autograd.grad(call(x, leaf).sum(), leaf)
    torch.testing.assert_close(*found)


@pytest.mark.usefixtures("way")
def test_a_bias_of_any_stride(any_target):
    column = torch.randn(33, 3, device=any_target.device)[:, 1]
    for product, dense, operands in (
        (spike_linear, functional.linear, linear_operands((128, 70), 33, device=any_target.device)),
        (spike_conv2d, functional.conv2d, conv_operands((3, 6, 5, 7), 33, (3, 3), device=any_target.device)),
    ):
        operands["bias"] = column
        hold(lambda *given, product=product: product(*given, backend=any_target.backend), dense, operands)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("parts", [1, 2, 6])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=dtype_id)
def test_a_bias_for_each_part_of_a_train(any_target, parts, dtype):
    def dense(product):
        def sum_of_both(x, weight, bias):
            ones = (1,) * (x.dim() - 2)
            rows = bias.repeat_interleave(x.shape[0] // parts, 0)
            rows = rows.view(-1, *ones, 33) if product is functional.linear else rows.view(-1, 33, *ones)
            return product(x, weight) + rows

        return sum_of_both

    bias = torch.randn(parts, 33).to(any_target.device, dtype)
    options = {"dtype": dtype, "device": any_target.device}
    for product, torchs, operands in (
        (spike_linear, functional.linear, linear_operands((6, 4, 70), 33, **options)),
        (spike_linear, functional.linear, linear_operands((60, 70), 33, **options)),
        (spike_linear, functional.linear, linear_operands((0, 70), 33, **options)),
        (spike_conv2d, functional.conv2d, conv_operands((12, 6, 5, 7), 33, (3, 3), **options)),
    ):
        call = lambda *given, product=product: product(*given, backend=any_target.backend)  # noqa: E731
        hold(call, dense(torchs), operands | {"bias": bias})


def test_negative_zero_is_no_spike(target):
    x = torch.tensor([[0.0, -0.0, 1.0] * 30], device=target.device)
    weight = torch.randn(4, 90, device=target.device)
    torch.testing.assert_close(spike_linear(x, weight, backend=target.backend), x @ weight.t())


def test_equal_calls_give_equal_bits_on_any_number_of_threads(target, way):
    linear, conv = linear_operands((700, 300), 70), conv_operands((37, 5, 9, 8), 33, (3, 3))
    calls = (
        (lambda *given: spike_linear(*given, backend=target.backend), linear, (700, 70)),
        (lambda *given: spike_conv2d(*given, backend=target.backend), conv, (37, 33, 7, 6)),
    )
    threads = torch.get_num_threads()
    for product, operands, shape in calls:
        operands = {name: value.to(target.device) for name, value in operands.items()}
        incoming = torch.randn(shape, device=target.device)
        found = []
        try:
            for count in (1, 2, 3):
                torch.set_num_threads(count)
                found.append(with_gradients(product, operands, incoming))
        finally:
            torch.set_num_threads(threads)
        # The products that are torch's have torch's order of summation, which it may choose by the number of threads.
        for name in ("out", "weight") if way == "sums" and target.backend == "cpu" else ():
            for other in found[1:]:
                equal_bits(other[name], found[0][name], name)


@pytest.mark.usefixtures("way")
def test_the_input_is_kept_as_bits(target):
    def kept(product, x, weight):
        storages = {}
        with saved_tensors_hooks(lambda t: storages.update({t.data_ptr(): t}) or t, lambda t: t):
            product(x, weight, backend=target.backend)
        return sum(t.numel() * t.itemsize for t in storages.values() if t.data_ptr() != weight.data_ptr())

    x = train((40, 784), device=target.device)
    assert kept(spike_linear, x, torch.randn(9, 784, device=target.device).requires_grad_()) == 40 * 784 / 8
    x = train((3, 16, 9, 8), device=target.device)
    weight = torch.randn(9, 16, 3, 3, device=target.device).requires_grad_()
    assert kept(spike_conv2d, x, weight) == x.numel() / 8
