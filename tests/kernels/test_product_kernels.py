"""The rule that chooses between sums and torch's product, and the kernels of the sums alone."""

import pytest
import torch

from hnn_kernels import _extensions, spike_conv2d, spike_linear, spikes_can_gain
from hnn_kernels._ops import density, products
from hnn_kernels._ops.bits import lines, pack, unpack
from support.comparisons import equal_bits
from support.guarded_memory import GuardedAllocations, among_nans, call_below
from support.spike_products import conv_operands, linear_operands, needs_kernels, train
from support.targets import dtype_id

# -- the rule ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def calls(monkeypatch):
    """The names of the raw operators that a call uses."""
    used = []
    for name, operator in products.raw.items():
        monkeypatch.setitem(products.raw, name, lambda *given, o=operator, n=name: used.append(n) or o(*given))
    return used


@pytest.mark.parametrize("rate", [0.05, 0.7])
@needs_kernels
def test_density_decides(calls, rate):
    for product, operands, name in (
        (spike_linear, linear_operands((128, 200), 256, rate=rate), "sparse_linear"),
        (spike_conv2d, conv_operands((4, 32, 9, 9), 64, (3, 3), rate=rate), "sparse_conv2d"),
    ):
        calls.clear()
        out = product(operands["input"], operands["weight"].requires_grad_())
        out.sum().backward()
        assert [used for used in calls if used.startswith("sparse")] == (
            [name, f"{name}_backward"] if rate < 0.1 else []
        )


@needs_kernels
def test_the_plain_kernels_leave_more_to_torch(calls):
    module = _extensions.cpu
    before = module.build_info()["instruction_set"]
    operands = linear_operands((128, 200), 256, rate=0.3)
    found = {}
    try:
        for name in module.instruction_sets():
            module.use_instruction_set(name)
            calls.clear()
            spike_linear(operands["input"], operands["weight"])
            found[name] = "sparse_linear" in calls
    finally:
        module.use_instruction_set(before)
    assert found == {name: name != "default" for name in found}


@needs_kernels
def test_few_outputs_are_a_dense_product(calls):
    spike_linear(train((128, 200), rate=0.05), torch.randn(10, 200))
    assert not any(used.startswith("sparse") for used in calls)


@pytest.mark.parametrize("outputs", [1, 10, 15, 16, 31, 32, 64, 500])
def test_a_product_can_gain_if_a_train_of_few_spikes_takes_the_sums(outputs):
    window = products.Window((1, 1), (1, 1), (1, 1), 1)
    float32 = torch.float32
    linear = density.sparse("spike_linear", 1, 10_000, 100, outputs, float32)
    assert spikes_can_gain(torch.empty(outputs, 100)) == linear
    for channels in (2, 15, 16, 40):
        gains = [
            density.sparse_window(name, 1, (32, channels, 20, 20), outputs, window, float32)
            for name in ("spike_conv2d", "spike_conv2d_backward")
        ]
        assert spikes_can_gain(torch.empty(outputs, channels, 3, 3)) == any(gains)


def test_a_weight_of_no_product_is_refused():
    with pytest.raises(ValueError, match=r"weight must be \[out, in\] or .*; got shape \(3, 3, 3\)"):
        spikes_can_gain(torch.empty(3, 3, 3))
    with pytest.raises(TypeError, match="weight must be a tensor; got list"):
        spikes_can_gain([[1.0]])


# -- the kernels ------------------------------------------------------------------------------------------------------

RAW = [name for name in products.RAW_SCHEMAS if name.startswith("sparse")]


@needs_kernels
@pytest.mark.parametrize("name", RAW)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=dtype_id)
@pytest.mark.parametrize("outputs", [1, 31, 32, 65])
def test_no_kernel_leaves_its_tensors(name, dtype, outputs):
    """Values lie among NaNs and results among guards; no NaN comes in, no guard is hit, nothing is left out."""
    x = train((67, 130), dtype=dtype)
    image = train((3, 5, 6, 7), dtype=dtype)
    bits, image_bits = pack(x), pack(lines(image))
    weight, bias = torch.randn(outputs, 130).to(dtype), torch.randn(outputs).to(dtype)
    kernel, grad = torch.randn(outputs, 5, 3, 2).to(dtype), torch.randn(67, outputs).to(dtype)
    grad_image = torch.randn(3, outputs, 6, 8).to(dtype).contiguous(memory_format=torch.channels_last)
    grad_image = products._channels_last(grad_image)
    arguments = {
        "sparse_linear": (bits, weight, bias),
        "sparse_linear_backward": (grad, bits, 130),
        "sparse_conv2d": (image_bits, kernel, torch.stack([bias, -bias, bias]), 7, [1, 1]),
        "sparse_conv2d_backward": (grad_image, image_bits, 5, 7, [3, 2], [1, 1]),
    }[name]
    expected = products.raw[name](*arguments)
    placed = tuple(among_nans(a, 40) if isinstance(a, torch.Tensor) and a.is_floating_point() else a for a in arguments)
    allocations = GuardedAllocations(40)
    got = call_below(products.raw[name], allocations, "cpu", placed)
    allocations.check()
    equal_bits(got, expected, name)


@needs_kernels
def test_bits_are_packed_as_written():
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        for length in (1, 7, 8, 63, 64, 65, 200):
            x = train((5, length), dtype=dtype)
            bits, count = products.raw["spike_pack"](x)
            equal_bits(bits, pack(x), "bits")
            assert count == products.raw["spike_count"](bits) == int(x.sum(dtype=torch.float64))
            equal_bits(products.raw["spike_unpack"](bits, length, x), x, "values")
            equal_bits(unpack(bits, length, x), x, "values")
