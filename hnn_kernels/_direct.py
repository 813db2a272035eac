"""The direct way of a plain call: its kernel, without torch's dispatcher and without checking again.

A call's *key* (``csrc/direct.inl``) has the type and the bits of every option, and the dtype, the device, the
layout and ``requires_grad`` of every tensor. So a call whose key is known needs no check: an equal one passed them all.
It has a plan, which holds everything but the addresses. A backend's *host* makes the plans: its compiled module, in
which the operator's own function runs the kernel, or ``_triton/direct.py``.

Whatever looks at operators, or puts something in the place of tensors, gets the operator: :func:`plain` tells.
"""

import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.autograd import forward_ad

from . import _extensions, _triton, memory
from ._layer import KEPT, OUTPUTS, TENSORS, Layer
from ._ops import autograd
from .filters import IIR
from .state import LIFState

P = ParamSpec("P")
R = TypeVar("R")

# Calls whose keys are kept. Beyond them all are forgotten: a float that is another one in each call makes a key each.
MOST = 1024
_MOST_BACKWARD = 64

_include = torch._C._dispatch_tls_local_include_set
_exclude = torch._C._dispatch_tls_local_exclude_set
_function_mode = torch._C._is_torch_function_mode_enabled
_profiled = torch._C._autograd._profiler_enabled


def _usual() -> tuple[int, int]:
    """Return a thread's dispatch keys that are always in, and those that are always out."""
    found: list[int] = []

    def look() -> None:  # in a thread of its own, which no mode of the importing one reaches
        found.extend(keys.raw_repr() for keys in (_include(), _exclude()))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    included, excluded = found
    return included, excluded


_INCLUDED, _EXCLUDED_BEFORE = _usual()


def _bits(*names: str) -> int:
    """Return a set of dispatch keys, without those that this torch does not know."""
    keys = (torch._C._parse_dispatch_key(name) for name in names)
    return functools.reduce(int.__or__, (torch._C.DispatchKeySet(key).raw_repr() for key in keys if key), 0)


# In torch 2.11 a backward pass excludes names, too. A torch without named tensors does not know them.
_EXCLUDED = (_EXCLUDED_BEFORE, _EXCLUDED_BEFORE | _bits("Named"))
# Autocast takes its keys out. The operators have no rule of it, so it changes nothing here.
_AUTOCAST = _bits("AutocastCPU", "AutocastCUDA")


def plain() -> bool:
    """Tell if nothing is at work that has to see operators, or that gives a tensor another meaning.

    The thread's dispatch keys tell of dispatch modes (FakeTensorMode, FlopCounterMode), transforms (torch.func, vmap),
    tracers, functionalisation and inference mode.
    """
    return (
        _include().raw_repr() == _INCLUDED
        and _exclude().raw_repr() | _AUTOCAST in _EXCLUDED
        and not _function_mode()
        and not _profiled()
        and forward_ad._current_level < 0
    )


def _describer() -> Callable[[tuple, dict, bool], tuple[bytes, tuple[Tensor, ...], bool] | None] | None:
    """Return the function that makes a call's key, its tensors, and True if a gradient is wanted.

    Every compiled module has it.
    """
    module = _extensions.cpu or _extensions.cuda
    if module is None or not hasattr(Tensor, "__dlpack_c_exchange_api__"):
        return None
    try:
        return module.Describer([IIR, LIFState]).describe
    except RuntimeError:  # a torch with another version of the interface: slower, and otherwise the same
        return None


# What makes the plans, by backend and type of device. Others take the operator.
_HOSTS = {
    key: host
    for key, host in (
        (("cpu", "cpu"), _extensions.cpu),
        (("cuda", "cuda"), _extensions.cuda),
        (("cuda", "cpu"), _extensions.shim),
        (("triton", "cuda"), _triton.direct_host()),
    )
    if host is not None
}


_describe = _describer()


def _model(result: Tensor | None, tensors: Sequence[Tensor]) -> tuple[Tensor, int] | None:
    """Return a result of a call, and the place of one of the call's tensors that it is allocated like; -1 for none."""
    if result is None:
        return None
    for place, tensor in enumerate(tensors):
        like = torch.empty_like(tensor)
        if like.dtype == result.dtype and like.shape == result.shape and like.stride() == result.stride():
            return result, place
    return result, -1


class _Plan:
    """All of a call that its key determines."""

    def __init__(
        self, backend: str, layer: Layer, outputs: Sequence[Tensor], tensors: Sequence[Tensor], places: list[int]
    ) -> None:
        self.backend, self.host = backend, _HOSTS[backend, layer.current.device.type]
        self.names = layer.outputs()
        self.settings = layer[len(TENSORS) :]
        self.places, self.count = places, len(tensors)
        made = dict(zip(self.names, outputs, strict=True))
        models = [_model(made.get(name), tensors) for name in OUTPUTS]
        self.forward = self.host.plan_forward(tensors, places, models, *layer).run
        self.backward: dict[bytes, Callable[[tuple[Tensor, ...]], tuple[Tensor | None, ...]]] = {}
        self.result: Any = None

    def tensors(self, given: Sequence[Any]) -> list[Any]:
        """Return those of a layer from those of a call."""
        return [None if place < 0 else given[place] for place in self.places]

    def keep_backward(
        self, described: tuple[bytes, tuple[Tensor, ...], bool], grads: Sequence, saved: Sequence, gradients: Sequence
    ) -> None:
        """Make the plan of a backward call whose ``gradients``, of the layer's tensors, the operator has returned."""
        key, tensors, _ = described
        if len(self.backward) >= _MOST_BACKWARD:
            self.backward.clear()
        there = [i for i, grad in enumerate(grads) if grad is not None]
        incoming = {self.names[i]: place for place, i in enumerate(there)}
        self.backward[key] = self.host.plan_backward(
            tensors,
            [place if place < 0 else place + len(there) for place in self.places],
            [incoming.get(name, -1) for name in OUTPUTS],
            [_model(gradient, tensors) for gradient in gradients],
            [place + 1 for place in self.places],  # behind the plan
            self.count + 1,
            *self.tensors(saved),
            *self.settings,
        ).run


_NOTHING = (None,) * len(KEPT)


class DirectLayer(torch.autograd.Function):
    """A layer whose forward and backward are a kernel each, called by a plan."""

    @staticmethod
    def forward(ctx, plan: _Plan, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.plan = plan
        ctx.save_for_backward(*tensors)
        ctx.set_materialize_grads(False)
        return plan.forward(tensors)

    @staticmethod
    def backward(ctx, *grads):
        plan, saved, needed = ctx.plan, ctx.saved_tensors, ctx.needs_input_grad
        described = None
        # With create_graph=True it is the operator that refuses to be differentiated.
        if not torch.is_grad_enabled() and plain():
            assert _describe is not None
            described = _describe((needed, grads, saved), {}, False)
            if described is not None:
                run = plan.backward.get(described[0])
                if run is not None:
                    return run(described[1])
        tensors = plan.tensors(saved)
        wanted = [place >= 0 and needed[place + 1] for place in plan.places]
        gradients = autograd.gradients(plan.backend, plan.names, grads, _NOTHING, tensors, plan.settings, wanted)
        if described is not None:
            plan.keep_backward(described, grads, saved, gradients)
        result: list[Tensor | None] = [None] * (plan.count + 1)
        for place, gradient in zip(plan.places, gradients, strict=True):
            if place >= 0:
                result[place + 1] = gradient
        return tuple(result)

    jvp = autograd.LayerFunction.jvp


# The method of Function in C++. The one in Python first looks for what the transforms left of a tensor, for 2 us.
_apply = super(torch.autograd.Function, DirectLayer).apply


class _Noted(threading.local):
    """The backend and the layer that the thread's last call ran, and its outputs, where a call listens."""

    listens = False
    call: tuple[str, Layer, Sequence[Tensor]] | None = None


_noted = _Noted()


def note(backend: str, layer: Layer, outputs: Sequence[Tensor]) -> None:
    """Tell of a call that a backend's kernels ran by their operator."""
    if _noted.listens and (backend, layer.current.device.type) in _HOSTS:
        _noted.call = backend, layer, outputs


def _plan_of(tensors: tuple[Tensor, ...]) -> _Plan | None:
    """Make a plan of the call that was noted; None where it has to take the operator."""
    if _noted.call is None:
        return None
    backend, layer, outputs = _noted.call
    given = {id(tensor): place for place, tensor in enumerate(tensors)}
    if len(given) < len(tensors):  # one tensor twice does not tell which is which
        return None
    own = layer[: len(TENSORS)]
    if (
        layer.varying_surrogate is not None
        or not set(KEPT).isdisjoint(layer.outputs())  # a plan saves no outputs
        or any(t is not None and id(t) not in given for t in own)
    ):
        return None  # the last: a tensor that was converted
    return _Plan(backend, layer, outputs, tensors, [-1 if t is None else given[id(t)] for t in own])


def _watched(pack: Callable[[Sequence[Tensor]], R], outputs: Sequence[Tensor]) -> Callable[[Sequence[Tensor]], R]:
    """Return ``pack``; for a call of large ``outputs`` one that counts the call too, which costs the others nothing."""
    on_cpu = outputs[0].device.type == "cpu"
    if not on_cpu or sum(output.numel() * output.itemsize for output in outputs) < memory.LARGE:
        return pack

    def watched(outputs: Sequence[Tensor]) -> R:
        memory.watch(stacklevel=4)  # the caller of the decorated function
        return pack(outputs)

    return watched


def remembered(
    packer: Callable[[Layer], Callable[[Sequence[Tensor]], R]],
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a function that runs a layer: from its third equal call on, a plain one takes the direct way.

    Args:
        packer: returns, for a layer, the function that makes the decorated function's result from its outputs.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        plans: dict[bytes, _Plan | None] = {}  # None at first: not every call comes again

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            if torch.compiler.is_compiling() or _describe is None or not plain():
                return function(*args, **kwargs)
            described = _describe(args, kwargs, torch.is_grad_enabled())
            if described is None:
                return function(*args, **kwargs)
            key, tensors, wanted = described
            plan = plans.get(key)
            if plan is not None:
                return plan.result(_apply(plan, *tensors) if wanted else plan.forward(tensors))
            if key not in plans:
                if len(plans) >= MOST:
                    plans.clear()
                plans[key] = None
                return function(*args, **kwargs)
            _noted.listens = True
            try:
                result = function(*args, **kwargs)
                plan = _plan_of(tensors)
                if plan is not None and _noted.call is not None:
                    _, layer, outputs = _noted.call
                    plan.result = _watched(packer(layer), outputs)
                    plans[key] = plan
            finally:
                _noted.listens, _noted.call = False, None
            return result

        return call

    return decorate
