"""Products with spikes: operands, gradients, and both ways of the CPU operators."""

import pytest
import torch

import hnn_kernels
from hnn_kernels._ops import density
from support.comparisons import as_good_as_the_loop

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
needs_kernels = pytest.mark.skipif(
    bool(hnn_kernels.backends()["cpu"].reason), reason="the kernels of the CPU are not there"
)


def take(way, monkeypatch):
    """Take the ``"sums"`` of the kernels, or the ``"dense"`` products of torch, whatever the density."""

    def sparse(name, spikes, rows, features, outputs, dtype):
        return way == "sums" and rows * features * outputs > 0

    monkeypatch.setattr(density, "sparse", sparse)
    monkeypatch.setattr(density, "_CHANNELS", 1)


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
