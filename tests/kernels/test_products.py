"""Products with spikes equal torch's on every backend, by sums and by torch's product, and keep the input as bits."""

import copy

import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional

import hnn_kernels
from hnn_kernels import _extensions, spike_conv2d, spike_linear, spikes_can_gain
from hnn_kernels._ops import density, products
from hnn_kernels._ops.bits import lines, pack, unpack
from hnn_kernels.nn import SpikeConv2d, SpikeLinear
from support.comparisons import as_good_as_the_loop, equal_bits
from support.guarded_memory import GuardedAllocations, among_nans, call_below
from support.spike_products import take
from support.targets import dtype_id

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


needs_kernels = pytest.mark.skipif(
    bool(hnn_kernels.backends()["cpu"].reason), reason="the kernels of the CPU are not there"
)


@pytest.fixture(params=["sums", "dense"])
def way(request, monkeypatch):
    """Both ways of the CPU operators, whatever the density."""
    take(request.param, monkeypatch)
    return request.param


def train(shape, dtype=torch.float32, device="cpu", rate=0.2):
    return (torch.rand(shape) < rate).to(device, dtype)


def with_gradients(product, operands, incoming):
    """Output and gradients of a product of ``(input, weight, bias)``; a bias of None stays None."""
    leaves = {name: value.detach().requires_grad_() for name, value in operands.items() if value is not None}
    out = product(*(leaves.get(name) for name in ("input", "weight", "bias")))
    found = torch.autograd.grad(out, list(leaves.values()), incoming.to(out.dtype))
    return {"out": out.detach(), **dict(zip(leaves, found, strict=True))}


def hold(product, dense, operands):
    """Check a product against torch's in the same dtype and in float64."""
    exact = {name: None if value is None else value.double() for name, value in operands.items()}
    with torch.no_grad():
        incoming = torch.randn_like(dense(*exact.values()))
    incoming = incoming.to(operands["input"].dtype).double()
    truth = with_gradients(dense, exact, incoming)
    loop = with_gradients(dense, operands, incoming)
    as_good_as_the_loop(with_gradients(product, operands, incoming), loop, truth)


def linear_operands(shape, outputs, dtype=torch.float32, device="cpu", bias=True, rate=0.2):
    return {
        "input": train(shape, dtype, device, rate),
        "weight": torch.randn(outputs, shape[-1]).to(device, dtype),
        "bias": torch.randn(outputs).to(device, dtype) if bias else None,
    }


def conv_operands(shape, outputs, kernel, dtype=torch.float32, device="cpu", bias=True, groups=1, rate=0.2):
    return {
        "input": train(shape, dtype, device, rate),
        "weight": torch.randn(outputs, shape[1] // groups, *kernel).to(device, dtype),
        "bias": torch.randn(outputs).to(device, dtype) if bias else None,
    }


# -- equal to torch's --------------------------------------------------------------------------------------------------

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


# -- memory ------------------------------------------------------------------------------------------------------------


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


# -- values, shapes and types that are not allowed ---------------------------------------------------------------------


@pytest.mark.parametrize("value", [0.5, -1.0, 2.0, float("nan")])
@pytest.mark.parametrize("place", [0, 63, 64, 130])
@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_id)
def test_other_values_are_refused(any_target, value, place, dtype):
    if any_target.device != "cpu":
        pytest.skip("there it is asserted on the device")
    x = train((2, 131), dtype)
    x[1, place] = value
    message = r"input must hold 0 and 1 only; got (NaN|values from -?[0-9.]+ to [0-9.]+)"
    with pytest.raises(ValueError, match=message):
        spike_linear(x, torch.randn(3, 131).to(dtype), backend=any_target.backend)
    with pytest.raises(ValueError, match=message):
        spike_conv2d(x.view(2, 131, 1, 1), torch.randn(3, 131, 1, 1).to(dtype), backend=any_target.backend)


x, w, image, kernel = torch.zeros(4, 6), torch.zeros(3, 6), torch.zeros(2, 4, 5, 5), torch.zeros(3, 4, 3, 3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: spike_linear([0.0], w), TypeError, "input must be a tensor; got list"),
        (lambda: spike_linear(x.int(), w), TypeError, "input must have one of the dtypes .* got int32"),
        (lambda: spike_linear(x, w.double()), TypeError, "weight must be float32, as input is; got float64"),
        (lambda: spike_linear(x, w[0]), ValueError, r"weight must have 2 axes; got shape \(6,\)"),
        (lambda: spike_linear(x[:, :5], w), ValueError, r"input must be \[\*, 6\] .*got shape \(4, 5\)"),
        (lambda: spike_linear(x, w, x[0]), ValueError, r"bias must have shape \(3,\), .*got \(6,\)"),
        (lambda: spike_linear(x, w, w), ValueError, r"bias must have shape \(3,\), .* or \(S, 3\); got \(3, 6\)"),
        (lambda: spike_linear(x, w, w[:, :3]), ValueError, r"bias must have one row .* first axis of 4; .* \(3, 3\)"),
        (lambda: spike_linear(x, w, w[:0, :3]), ValueError, r"bias must have one row .* got shape \(0, 3\)"),
        (lambda: spike_conv2d(image[0], kernel, w[:2, :3]), ValueError, r"bias must have one row .* axis of 1"),
        (lambda: spike_linear(x, w.to("meta")), ValueError, "weight must be on cpu, where input is; .* on meta"),
        (lambda: spike_linear(x.sum(), w), ValueError, r"input must be \[\*, in\]"),
        (lambda: spike_linear(x, w, backend="gpu"), ValueError, "backend must be one of"),
        (lambda: spike_conv2d(x, kernel), ValueError, r"input must be \[B, C, H, W\] or \[C, H, W\]"),
        (lambda: spike_conv2d(image, kernel[:, :3]), ValueError, r"weight must be \[out, C / groups, kh, kw\]"),
        (lambda: spike_conv2d(image, kernel[:, :2], groups=2), ValueError, "out a multiple of groups=2"),
        (lambda: spike_conv2d(image, kernel, padding="full"), ValueError, "padding must be one of 'valid', 'same'"),
        (lambda: spike_conv2d(image, kernel, padding=-1), ValueError, "padding must be at least 0; got -1"),
        (lambda: spike_conv2d(image, kernel, stride=0), ValueError, "stride must be at least 1; got 0"),
        (lambda: spike_conv2d(image, kernel, stride=1.5), TypeError, "stride must be an int"),
        (lambda: spike_conv2d(image, kernel, dilation=(1, 1, 1)), ValueError, "dilation must be one int, or two"),
        (lambda: spike_conv2d(image, kernel, 2, stride=2, padding="same"), TypeError, "bias must be a tensor"),
        (
            lambda: spike_conv2d(image, kernel, stride=2, padding="same"),
            ValueError,
            "padding='same' needs a stride of 1",
        ),
        (lambda: spike_conv2d(image, kernel, dilation=3), ValueError, "input must be at least as large as the window"),
    ],
)
def test_what_is_not_allowed_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


# -- modules -----------------------------------------------------------------------------------------------------------

MODULES = [
    (SpikeLinear, nn.Linear, (70, 33), {}, (2, 5, 70)),
    (SpikeLinear, nn.Linear, (70, 33), {"bias": False}, (70,)),
    (SpikeConv2d, nn.Conv2d, (3, 6, 3), {}, (4, 3, 9, 11)),
    (SpikeConv2d, nn.Conv2d, (3, 6, (3, 2), 1, (1, 2)), {"bias": False}, (4, 3, 9, 11)),
    (SpikeConv2d, nn.Conv2d, (3, 6, 3), {"padding": 1, "padding_mode": "reflect"}, (4, 3, 9, 11)),
    (SpikeConv2d, nn.Conv2d, (3, 6, 3), {"padding": "same", "padding_mode": "circular"}, (4, 3, 9, 11)),
    (SpikeConv2d, nn.Conv2d, (3, 6, 3), {"stride": 2, "groups": 3}, (3, 9, 11)),
]


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(("ours", "theirs", "arguments", "options", "shape"), MODULES)
def test_modules_take_the_place_of_torchs(any_target, ours, theirs, arguments, options, shape):
    torch.manual_seed(3)
    module = ours(*arguments, **options, backend=any_target.backend)
    torch.manual_seed(3)
    other = theirs(*arguments, **options)
    assert repr(module).removeprefix("Spike") == repr(other)
    for name, value in other.state_dict().items():
        equal_bits(module.state_dict()[name], value, name)
    module.load_state_dict(other.state_dict())
    assert isinstance(module, theirs)
    module, other, x = module.to(any_target.device), other.to(any_target.device), train(shape, device=any_target.device)
    out = copy.deepcopy(module)(x)
    expected = other(x)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5, check_stride=False)
    (module(x) * expected.detach()).sum().backward()
    (expected * expected.detach()).sum().backward()
    for got, wanted in zip(module.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(got.grad, wanted.grad, rtol=1e-5, atol=1e-4, check_stride=False)


def test_autocast_is_torchs(target):
    module = SpikeLinear(300, 200, backend=target.backend).to(target.device)
    x = train((70, 300), device=target.device, rate=0.05)
    with torch.autocast(target.device, torch.bfloat16):
        out = module(x)
        expected = functional.linear(x, module.weight, module.bias)
    assert out.dtype == expected.dtype == torch.bfloat16
    torch.testing.assert_close(out, expected, rtol=2e-2, atol=2e-2)
    out.float().sum().backward()
    assert module.weight.grad.dtype == torch.float32
