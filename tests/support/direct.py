"""The direct way of a call: which operators were called beside it, and comparisons bit for bit."""

import torch

import hnn_kernels
from hnn_kernels import _direct
from hnn_kernels._ops.layer import backward_ops, forward_ops
from support.layers import tensors


def count_operators(monkeypatch):
    """The names of the operators that are called from now on. The direct way calls none."""
    found = []
    for name, operators in (("forward", forward_ops), ("backward", backward_ops)):
        for backend, operator in operators.items():
            monkeypatch.setitem(operators, backend, counted(found, name, operator))
    return found


def counted(found, name, function):
    """A function that also adds a name to those that are found."""
    return lambda *arguments: (found.append(name), function(*arguments))[1]


def flat(result):
    """The tensors of a result, in order."""
    if isinstance(result, torch.Tensor):
        return [result]
    return [tensor for part in result if part is not None for tensor in flat(part)]


def both_ways(function, arguments, learnt):
    """The results of a call, and the gradients of ``learnt`` tensors."""
    results = flat(function(**arguments))
    if not learnt:
        return results, []
    grads = [torch.linspace(-1, 1, r.numel()).reshape(r.shape).to(r) for r in results]
    return results, torch.autograd.grad(results, learnt, grads)


def equal(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        assert one.stride() == other.stride()
        assert one.requires_grad == other.requires_grad
        assert torch.equal(one, other) or torch.equal(one.isnan(), other.isnan())
        bits = {8: torch.int64, 4: torch.int32, 2: torch.int16}[one.element_size()]
        assert torch.equal(one.detach().view(bits), other.detach().view(bits))  # the signs of zeros too


def compare(arguments, calls, monkeypatch, function=hnn_kernels.lif, learn=True, of=tensors):
    """Compare the operator with the fourth equal call, which goes the direct way. Return the latter's results.

    ``of`` returns the tensors of the arguments by name.
    """
    learnt = [t.requires_grad_() for t in of(arguments).values()] if learn else []
    with monkeypatch.context() as patch:
        patch.setattr(_direct, "plain", lambda: False)
        expected = both_ways(function, arguments, learnt)
    assert calls == ["forward", *["backward"] * learn]
    for _ in range(3):
        both_ways(function, arguments, learnt)
    calls.clear()
    found = both_ways(function, arguments, learnt)
    assert calls == []
    for one, other in zip(found, expected, strict=True):
        equal(one, other)
    return found
