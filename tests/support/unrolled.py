"""Networks whose loops over time are unrolled beside the loops themselves."""

import copy
import warnings
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import nn

import hnn_kernels
from hnn_kernels import UnrollWarning

# Sums over the steps are of T terms in another order, at 25 steps some 1e-7 of their size.
GRADIENT = 1e-5


class Passed(NamedTuple):
    """The results of a pass, its gradients by parameter, and the buffers after it."""

    results: list[torch.Tensor]
    gradients: dict[str, torch.Tensor]
    buffers: dict[str, torch.Tensor]


def passed(model: nn.Module, call: Any, *inputs: torch.Tensor, seed: int = 0) -> Passed:
    """Run a pass of ``call``, and backward if there is a gradient."""
    torch.manual_seed(seed)
    model.zero_grad()
    found = call(*inputs)
    results = list(torch.utils._pytree.tree_leaves(found))
    if any(r.requires_grad for r in results):
        sum((r.float() * torch.linspace(0.5, 1.5, r.numel()).view_as(r)).sum() for r in results).backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return Passed([r.detach().clone() for r in results], gradients, {n: b.clone() for n, b in model.named_buffers()})


def hold_equal(
    model: nn.Module,
    *inputs: torch.Tensor,
    passes: int = 2,
    atol: float = 1e-5,
    twin: nn.Module | None = None,
    sizes: Mapping[str, float] = MappingProxyType({}),
) -> Any:
    """Compare a model and its unrolled copy, or an equal ``twin``, over some passes; return what unrolled it.

    Spikes are equal, and potentials and gradients to ``atol`` of their largest value, or of their size in ``sizes``.
    """
    twin = twin or copy.deepcopy(model)
    twin.load_state_dict(model.state_dict())
    unrolled = hnn_kernels.unroll(twin)
    for seed in range(passes):
        a, b = passed(model, model, *inputs, seed=seed), passed(twin, unrolled, *inputs, seed=seed)
        compare(a, b, atol, sizes)
    return unrolled


def compare(a: Passed, b: Passed, atol: float = 1e-5, sizes: Mapping[str, float] = MappingProxyType({})) -> None:
    """Compare two passes. ``sizes`` has, by parameter, what a gradient that cancels is compared with."""
    assert len(a.results) == len(b.results)
    assert any(r.count_nonzero() for r in a.results)  # something fires
    for x, y in zip(a.results, b.results, strict=True):
        torch.testing.assert_close(y, x, rtol=0, atol=atol * max(1.0, float(x.abs().max())))
    assert a.gradients.keys() == b.gradients.keys()
    for name, gradient in a.gradients.items():
        size = sizes.get(name, float(gradient.abs().max()))
        torch.testing.assert_close(b.gradients[name], gradient, rtol=0, atol=GRADIENT * max(size, 1e-3), msg=name)
    assert a.buffers.keys() == b.buffers.keys()
    for name, buffer in a.buffers.items():
        torch.testing.assert_close(b.buffers[name], buffer, rtol=1e-5, atol=atol, msg=name)


def left(call: Any, *inputs: torch.Tensor) -> str:
    """Return the warnings of a call, which leaves something as it was."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        call(*inputs)
    return "\n".join(str(w.message) for w in said if w.category is UnrollWarning)
