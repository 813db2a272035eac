"""SpikeLinear and SpikeConv2d in the place of torch's modules, and what products with spikes refuse."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from hnn_kernels import spike_conv2d, spike_linear
from hnn_kernels.nn import SpikeConv2d, SpikeLinear
from support.comparisons import equal_bits
from support.spike_products import (
    DTYPES,
    train,
)
from support.targets import dtype_id

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
