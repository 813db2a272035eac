"""The direct way of a plain call: its kernel, without torch's dispatcher and without checking again.

A call's *key* (``csrc/direct.inl``) has the type and the bits of every option, and the dtype, the device, the
layout and ``requires_grad`` of every tensor. So a call whose key is known needs no check: an equal one passed them all.
It has a plan, which holds everything but the addresses. A backend's *host* makes the plans of the built-in layer: its
compiled module, in which the operator's own function runs the kernel, or ``_triton/direct.py``. Those of neurons by
definition are in ``_define/cpu.py``.

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
        return module.describer([IIR, LIFState])
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


def model(result: Tensor | None, tensors: Sequence[Tensor]) -> tuple[Tensor, int] | None:
    """Return a result of a call, and the place of one of the call's tensors that it is allocated like; -1 for none."""
    if result is None:
        return None
    for place, tensor in enumerate(tensors):
        like = torch.empty_like(tensor)
        if like.dtype == result.dtype and like.shape == result.shape and like.stride() == result.stride():
            return result, place
    return result, -1


def places_of(own: Sequence[Tensor | None], given: dict[int, int]) -> list[int] | None:
    """Return the place of each of a call's own tensors; None where one was converted, and so not given."""
    if any(tensor is not None and id(tensor) not in given for tensor in own):
        return None
    return [-1 if tensor is None else given[id(tensor)] for tensor in own]


class Plan:
    """All of a call that its key determines. It keeps no tensor.

    Args:
        places: the place of each of the call's own tensors among those that it is given; -1 for one that is absent.
        count: the number of tensors that it is given.

    Attributes:
        forward: makes the outputs from the tensors that the call is given.
        backward: by the key of a backward call, what makes the gradients.
        result: makes the result of the decorated function from the outputs.
    """

    forward: Callable[[tuple[Tensor, ...]], tuple[Tensor, ...]]
    result: Any

    def __init__(self, places: list[int], count: int) -> None:
        self.places, self.count = places, count
        self.backward: dict[bytes, Callable[[tuple[Tensor, ...]], tuple[Tensor | None, ...]]] = {}

    def tensors(self, given: Sequence[Any]) -> list[Any]:
        """Return the call's own tensors from those that it is given."""
        return [None if place < 0 else given[place] for place in self.places]

    def gradients(
        self, grads: Sequence[Tensor | None], tensors: Sequence[Tensor | None], wanted: Sequence[bool]
    ) -> list[Tensor | None]:
        """Return the gradients of the call's own tensors, by the operator; None where one is not wanted."""
        raise NotImplementedError

    def plan_backward(
        self, tensors: Sequence[Tensor], places: list[int], there: list[int], models: list, outgoing: list[int],
        saved: Sequence[Tensor],
    ) -> Any:  # fmt: skip
        """Return what makes the gradients of a call.

        Args:
            tensors: those of the backward call: the gradients that come in, and what was saved.
            places: the places of the call's own tensors among these.
            there: the numbers of the outputs whose gradients come in.
            models: the gradients that are needed, as :func:`model` returns them.
            outgoing: their places in what is returned.
            saved: the tensors that the call was given.
        """
        raise NotImplementedError

    def keep_backward(
        self, described: tuple[bytes, tuple[Tensor, ...], bool], grads: Sequence, saved: Sequence, gradients: Sequence
    ) -> None:
        """Make the plan of a backward call whose ``gradients``, of the call's tensors, the operator has returned."""
        key, tensors, _ = described
        if len(self.backward) >= _MOST_BACKWARD:
            self.backward.clear()
        there = [i for i, grad in enumerate(grads) if grad is not None]
        self.backward[key] = self.plan_backward(
            tensors,
            [place if place < 0 else place + len(there) for place in self.places],
            there,
            [model(gradient, tensors) for gradient in gradients],
            [place + 1 for place in self.places],  # behind the plan
            saved,
        )


class LayerPlan(Plan):
    """The plan of a call of the built-in layer."""

    def __init__(
        self, backend: str, layer: Layer, outputs: Sequence[Tensor], tensors: Sequence[Tensor], places: list[int]
    ) -> None:
        super().__init__(places, len(tensors))
        self.backend, self.host = backend, _HOSTS[backend, layer.current.device.type]
        self.names = layer.outputs()
        self.settings = layer[len(TENSORS) :]
        made = dict(zip(self.names, outputs, strict=True))
        models = [model(made.get(name), tensors) for name in OUTPUTS]
        self.forward = self.host.plan_forward(tensors, places, models, *layer)

    @classmethod
    def of(
        cls, backend: str, layer: Layer, outputs: Sequence[Tensor], tensors: Sequence[Tensor], given: dict[int, int]
    ) -> "LayerPlan | None":
        """Return the plan of a call that was noted, where it has one; ``given`` has the tensors' places by their id."""
        places = places_of(layer[: len(TENSORS)], given)
        if (
            (backend, layer.current.device.type) not in _HOSTS
            or layer.varying_surrogate is not None
            or not set(KEPT).isdisjoint(layer.outputs())  # a plan saves no outputs
            or places is None
        ):
            return None
        return cls(backend, layer, outputs, tensors, places)

    def gradients(
        self, grads: Sequence[Tensor | None], tensors: Sequence[Tensor | None], wanted: Sequence[bool]
    ) -> list[Tensor | None]:
        return autograd.gradients(self.backend, self.names, grads, _NOTHING, tensors, self.settings, wanted)

    def plan_backward(
        self, tensors: Sequence[Tensor], places: list[int], there: list[int], models: list, outgoing: list[int],
        saved: Sequence[Tensor],
    ) -> Any:  # fmt: skip
        incoming = {self.names[i]: place for place, i in enumerate(there)}
        return self.host.plan_backward(
            tensors, places, [incoming.get(name, -1) for name in OUTPUTS], models, outgoing, self.count + 1,
            *self.tensors(saved), *self.settings,
        )  # fmt: skip


_NOTHING = (None,) * len(KEPT)


class DirectLayer(torch.autograd.Function):
    """A layer whose forward and backward are a kernel each, called by a plan."""

    @staticmethod
    def forward(ctx, plan: Plan, *tensors: Tensor) -> tuple[Tensor, ...]:
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
        gradients = plan.gradients(grads, tensors, wanted)
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


# By the type of a call: what makes its plan, as LayerPlan.of does.
PLANS: dict[type, Callable[..., Plan | None]] = {Layer: LayerPlan.of}


class _Noted(threading.local):
    """The backend and the call that the thread ran last, and its outputs, where a decorated function listens."""

    listens = False
    call: tuple[str, Any, Sequence[Tensor]] | None = None


_noted = _Noted()


def note(backend: str, call: Any, outputs: Sequence[Tensor]) -> None:
    """Tell of a call that a backend's kernels ran."""
    if _noted.listens:
        _noted.call = backend, call, outputs


def _plan_of(tensors: tuple[Tensor, ...]) -> Plan | None:
    """Make a plan of the call that was noted; None where it has to take the operator."""
    if _noted.call is None:
        return None
    backend, call, outputs = _noted.call
    given = {id(tensor): place for place, tensor in enumerate(tensors)}
    return PLANS[type(call)](backend, call, outputs, tensors, given)


def _apart(arguments: Any) -> Any:
    """Return ``arguments`` with a view for each tensor that was there before: a plan tells tensors by their objects."""
    seen: set[int] = set()

    def own(tensor: Tensor) -> Tensor:
        if id(tensor) in seen:
            return tensor.view_as(tensor)
        seen.add(id(tensor))
        return tensor

    return torch.utils._pytree.tree_map_only(Tensor, own, arguments)


def _watched(
    pack: Callable[[Sequence[Tensor]], R], outputs: Sequence[Tensor], stacklevel: int
) -> Callable[[Sequence[Tensor]], R]:
    """Return ``pack``; for a call of large ``outputs`` one that counts the call too, which costs the others nothing."""
    on_cpu = outputs[0].device.type == "cpu"
    if not on_cpu or sum(output.numel() * output.itemsize for output in outputs) < memory.LARGE:
        return pack

    def watched(outputs: Sequence[Tensor]) -> R:
        memory.watch(stacklevel)
        return pack(outputs)

    return watched


def remembered(
    packer: Callable[[Any], Callable[[Sequence[Tensor]], R]], stacklevel: int = 1
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a function that runs a layer: from its third equal call on, a plain one takes the direct way.

    Args:
        packer: returns, for a call that was noted, the function that makes the decorated function's result from its
            outputs.
        stacklevel: the place of the caller's own code, counted from the caller of the decorated function as 1.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        plans: dict[bytes, Plan | None] = {}  # None at first: not every call comes again

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
            if len({id(tensor) for tensor in tensors}) < len(tensors):  # such as zeros for both states
                args, kwargs = _apart((args, kwargs))
                described = _describe(args, kwargs, torch.is_grad_enabled())
                assert described is not None
                key, tensors, _ = described
            _noted.listens = True
            try:
                result = function(*args, **kwargs)
                plan = _plan_of(tensors)
                if plan is not None and _noted.call is not None:
                    _, noted, outputs = _noted.call
                    plan.result = _watched(packer(noted), outputs, stacklevel + 3)
                    plans[key] = plan
            finally:
                _noted.listens, _noted.call = False, None
            return result

        return call

    return decorate
