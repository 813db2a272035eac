"""A module of another library beside its converted twin: spikes, other outputs and gradients."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

import hnn_kernels

Run = Callable[[nn.Module, Tensor], Sequence[Tensor]]


def twins(make: Callable[[], nn.Module], dtype: torch.dtype = torch.float32) -> tuple[nn.Module, nn.Module]:
    """Return two equal modules, of which the second one is converted, every module that the report names."""
    made = []
    for _ in range(2):
        torch.manual_seed(7)
        made.append(make().to(dtype))
    report = hnn_kernels.convert(made[1])
    assert report.replaced
    assert not report.left, report
    return made[0], made[1]


def relative(got: Tensor, expected: Tensor) -> float:
    return float((got - expected).norm() / (expected.norm() + 1e-30))


def same(
    make: Callable[[], nn.Module],
    run: Run,
    x: Tensor,
    tolerance: float,
    reset: Callable[[nn.Module], object] = id,
) -> None:
    """Check that library and twin agree: the first output bit for bit, the others and all gradients up to rounding.

    ``tolerance`` is relative, norm over norm. ``reset`` is called behind each backward.
    """
    results = []
    for module in twins(make, x.dtype):
        leaf = x.clone().requires_grad_()
        outputs = run(module, leaf)
        assert float(outputs[0].detach().abs().mean()) > 1e-3, "nothing fires"
        # Weights that differ everywhere, so that no two gradients cancel.
        loss = sum(
            (o * torch.linspace(-1, 1, o.numel(), dtype=torch.float64).view_as(o).to(o.dtype)).sum() for o in outputs
        )
        loss.backward()
        reset(module)
        results.append((outputs, {"x": leaf.grad} | {name: p.grad for name, p in module.named_parameters()}))
    (expected, gradients), (got, ours) = results
    assert got[0].dtype == expected[0].dtype
    assert torch.equal(got[0], expected[0]), float((got[0] != expected[0]).double().mean())
    for i, (a, b) in enumerate(zip(got[1:], expected[1:], strict=True), start=1):
        assert relative(a.detach(), b.detach()) <= tolerance, f"output {i}"
    for name, gradient in gradients.items():
        if gradient is None:
            assert ours[name] is None, name
        else:
            assert relative(ours[name], gradient) <= tolerance, f"gradient of {name}: {relative(ours[name], gradient)}"


def by_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let neurons by definition run their steps as loops: their kernels take seconds to compile and equal these."""
    monkeypatch.setattr("hnn_kernels._define.layer._choose", lambda device, backend: "reference")
    monkeypatch.setattr("hnn_kernels._dispatch.warn_of_the_reference", lambda *args, **kwargs: None)
