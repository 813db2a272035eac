"""From a module to nodes of NIR: one function for each class, in :data:`WRITERS`."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..nn import IIR, LIF, EachStep, SpikeConv2d, SpikeLinear
from . import equations, filters
from .draft import OURS, Draft, Value
from .equations import Filter, Time, Values
from .network import Rest, Scale, SumPool2d, shape_behind
from .package import nir

Writer = Callable[[Draft, str, Any, Value], Value]


def write(draft: Draft, name: str, module: nn.Module, value: Value) -> Value:
    """Write a module's nodes, and return its output.

    Raises:
        TypeError: NIR has no node for this class.
        ValueError: it has none for these options.
    """
    what = f"{name!r}, a {type(module).__name__}"
    writer = WRITERS.get(type(module))
    if writer is None:
        allowed = sorted({cls.__name__ for cls in WRITERS})
        raise TypeError(f"{what}, has no node in NIR; a layer must be one of {allowed}")
    try:
        return writer(draft, name, module, value)
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from error


# -- neurons and filters ---------------------------------------------------------------------------------------------


def _lif(draft: Draft, name: str, module: LIF, value: Value, v_leak: Any = 0.0) -> Value:
    _train(value)
    if module.smooth:
        raise ValueError("smooth must be False: NIR has spikes only")
    potential = module.readout == "none" and module.potential == "train" and module.reset == "none"
    if module.potential != "none" and not potential:
        raise ValueError(
            "potential must be 'none', or 'train' with readout='none' and reset='none'; "
            f"got {module.potential!r} with readout={module.readout!r} and reset={module.reset!r}"
        )
    decay = draft.spread(_number(module.decay), value)
    threshold = draft.spread(_number(module.threshold), value)
    integral = bool((decay == 1).all())
    spikes_alone = module.reset == "none" and not potential  # leaky integrators, and a threshold behind them
    gain, synapse = np.ones(value.shape), None
    if module.synapse is not None:
        feedback, feedforward = filters.arrays(module.synapse.coefficients)
        order = len(feedback), len(feedforward)
        if order == (0, 1):
            gain = draft.spread(feedforward[0], value)
        elif order == (1, 1) and not integral and not spikes_alone and ((feedback >= 0) & (feedback < 1)).all():
            synapse = Filter(draft.spread(feedback[0], value), draft.spread(feedforward[0], value))
        else:
            value = _filter(draft, f"{name}_synapse", module.synapse, value)
    membrane = Filter(decay, gain)
    if potential:
        return _potential(draft, name, membrane, synapse, draft.spread(_number(v_leak), value), value)
    if spikes_alone:
        if decay.any() or (gain != 1).any():
            value = _potential(draft, f"{name}_membrane", membrane, None, np.zeros(value.shape), value)
        node = nir().Threshold(threshold, metadata=_beyond(draft, name, module))
    else:
        fires = {
            "v_threshold": threshold,
            "v_reset": draft.spread(_number(module.reset_potential), value),
            "metadata": _beyond(draft, name, module),
        }
        node = _neuron(("IF", "LIF", "CubaLIF"), membrane, synapse, np.zeros(value.shape), draft.time, fires)
    value = draft.add(name, node, value)
    return value if module.axon is None else _filter(draft, f"{name}_axon", module.axon, value)


def _neuron(
    names: tuple[str, str, str], membrane: Filter, synapse: Filter | None, v_leak: Values, time: Time, more: Any
) -> Any:
    """Return a node of the three classes ``names``: without a leak, with one, and with one and a synapse."""
    integrates, leaks, filtered = (getattr(nir(), name) for name in names)
    if equations.is_integral(membrane):
        return integrates(r=equations.to_integral(membrane, time), **more)
    tau, r = equations.to_leak(membrane, time)
    if synapse is None:
        return leaks(tau=tau, r=r, v_leak=v_leak, **more)
    tau_syn, w_in = equations.to_leak(synapse, time)
    return filtered(tau_syn=tau_syn, tau_mem=tau, r=r, w_in=w_in, v_leak=v_leak, **more)


def _potential(
    draft: Draft, name: str, membrane: Filter, synapse: Filter | None, v_leak: Values, value: Value
) -> Value:
    if equations.is_integral(membrane) and v_leak.any():
        raise ValueError("v_leak must be 0 for an integrator: NIR has none at rest elsewhere")
    return draft.add(name, _neuron(("I", "LI", "CubaLI"), membrane, synapse, v_leak, draft.time, {}), value)


def _beyond(draft: Draft, name: str, module: LIF) -> dict[str, Any]:
    """Return the metadata of a neuron: what the standard has no words for."""
    ours: dict[str, Any] = {}
    if module.tie_fires:
        ours["tie_fires"] = True
    if module.reset in ("subtract", "filter"):
        if draft.strict:
            raise ValueError(f"reset must be 'zero' or 'none' with strict=True: NIR has no other; got {module.reset!r}")
        draft.said.append(f"{name!r} has reset={module.reset!r}")
        ours["reset"] = module.reset
    if module.reset == "filter":
        # The package writes no array without axes into a file.
        ours |= {"reset_decay": np.atleast_1d(_number(module.reset_decay)), "dt": draft.time.dt}
    return {OURS: ours} if ours else {}


def _filter(draft: Draft, name: str, module: IIR, value: Value, v_leak: Any = 0.0) -> Value:
    """Write a filter: its poles in a row, and behind them what is delayed (:mod:`hnn_kernels.nir.filters`)."""
    _train(value)
    feedback, feedforward = filters.arrays(module.coefficients)
    poles, now = filters.poles(feedback), len(feedforward) == 1
    rest = draft.spread(_number(v_leak), value)
    if rest.any() and not (now and len(poles)):
        raise ValueError("v_leak must be 0 for a filter with delayed inputs")
    for number, pole in enumerate(poles):
        last = number == len(poles) - 1
        step = Filter(draft.spread(pole, value), draft.spread(feedforward[0] if now and last else 1.0, value))
        part = name if now and last else f"{name}_pole{number}"
        value = _potential(draft, part, step, None, rest if last else np.zeros(value.shape), value)
    if now:
        return value if len(poles) else draft.scale(name, feedforward[0], value)
    terms, taps = [], [(delay, factor) for delay, factor in enumerate(feedforward) if np.any(factor)]
    for delay, factor in taps:
        part = name if len(taps) == 1 else f"{name}_{delay}"
        term = value
        if delay:
            times = np.full(value.shape, delay * draft.time.dt)
            term = draft.add(f"{part}_delay" if np.any(factor != 1) else part, nir().Delay(times), term)
        terms.append(draft.scale(part, factor, term) if np.any(factor != 1) or not delay else term)
    if not terms:
        raise ValueError("a filter must have a feedforward coefficient that is not 0")
    return draft.sum(terms)


def _rest(draft: Draft, name: str, module: Rest, value: Value) -> Value:
    if isinstance(module.neurons, LIF):
        return _lif(draft, name, module.neurons, value, module.v_leak)
    return _filter(draft, name, module.neurons, value, module.v_leak)


def _scale(draft: Draft, name: str, module: Scale, value: Value) -> Value:
    return draft.scale(name, _number(module.scale), value)


# -- weights, windows and shapes -------------------------------------------------------------------------------------


def _linear(draft: Draft, name: str, module: nn.Linear, value: Value) -> Value:
    if value.shape != (module.in_features,):
        raise ValueError(f"the features must be ({module.in_features},), one axis, as in NIR; got {value.shape}")
    weight = _array(module.weight)
    node = nir().Linear(weight) if module.bias is None else nir().Affine(weight, _array(module.bias))
    return draft.add(name, node, value, (module.out_features,))


def _conv(draft: Draft, name: str, module: nn.Conv1d | nn.Conv2d, value: Value) -> Value:
    if module.padding_mode != "zeros":
        raise ValueError(f"padding_mode must be 'zeros'; got {module.padding_mode!r}")
    after = _through(module, value)
    weight = _array(module.weight)
    bias = np.zeros(len(weight), weight.dtype) if module.bias is None else _array(module.bias)
    numbers: dict[str, Any] = {"stride": module.stride, "padding": module.padding, "dilation": module.dilation}
    size: Any = value.shape[1:]
    if isinstance(module, nn.Conv1d):
        size = size[0]
        numbers = {key: number if isinstance(number, str) else number[0] for key, number in numbers.items()}
    conv = nir().Conv1d if isinstance(module, nn.Conv1d) else nir().Conv2d
    node = conv(input_shape=size, weight=weight, bias=bias, groups=module.groups, **numbers)
    return draft.add(name, node, value, after)


def _pool(draft: Draft, name: str, module: nn.AvgPool2d, value: Value) -> Value:
    if module.ceil_mode or module.divisor_override not in (None, 1):
        raise ValueError("ceil_mode must be False, and divisor_override None or 1")
    window = {name: np.array(_pair(getattr(module, name))) for name in ("kernel_size", "stride", "padding")}
    if not module.count_include_pad and window["padding"].any() and module.divisor_override is None:
        raise ValueError("count_include_pad must be True: other libraries count the padding in a node's mean")
    pool = nir().AvgPool2d if module.divisor_override is None else nir().SumPool2d
    return draft.add(name, pool(**window), value, _through(module, value))


def _flatten(draft: Draft, name: str, module: nn.Flatten, value: Value) -> Value:
    return flatten(draft, name, module.start_dim, module.end_dim, value)


def flatten(draft: Draft, name: str, start: int, end: int, value: Value) -> Value:
    """Flatten the axes ``start`` to ``end`` of a tensor that has ``value.lead`` axes in front of the features.

    Raises:
        ValueError: they are not axes of the features.
    """
    rank = value.lead + len(value.shape)
    first, last = (axis + rank if axis < 0 else axis for axis in (start, end))
    if not value.lead <= first <= last < rank:
        raise ValueError(
            f"it must flatten axes of the features, which are {value.lead} to {rank - 1} of a tensor "
            f"with {rank} axes; got {start} to {end}"
        )
    first, last = first - value.lead, last - value.lead
    after = (*value.shape[:first], int(np.prod(value.shape[first : last + 1])), *value.shape[last + 1 :])
    node = nir().Flatten({"input": np.array(value.shape)}, start_dim=first, end_dim=last)
    return draft.add(name, node, value, after)


def _nothing(draft: Draft, name: str, module: nn.Module, value: Value) -> Value:
    return value


def _dropout(draft: Draft, name: str, module: nn.Module, value: Value) -> Value:
    if module.training:
        raise ValueError("the model must be in evaluation mode: call eval(), with which this layer does nothing")
    return value


def _chain(draft: Draft, name: str, module: nn.Sequential, value: Value) -> Value:
    for key, child in module.named_children():
        value = write(draft, f"{name}.{key}", child, value)
    return value


def _each_step(draft: Draft, name: str, module: EachStep, value: Value) -> Value:
    _train(value)
    return _chain(draft, name, module, value._replace(lead=1))._replace(lead=2)


# Subclasses may compute anything, so a class is looked up as it is.
WRITERS: dict[type, Writer] = {
    LIF: _lif,
    IIR: _filter,
    Rest: _rest,
    Scale: _scale,
    nn.Linear: _linear,
    SpikeLinear: _linear,
    nn.Conv1d: _conv,
    nn.Conv2d: _conv,
    SpikeConv2d: _conv,
    nn.AvgPool2d: _pool,
    SumPool2d: _pool,
    nn.Flatten: _flatten,
    nn.Identity: _nothing,
    nn.Dropout: _dropout,
    nn.Sequential: _chain,
    EachStep: _each_step,
}


def _train(value: Value) -> None:
    if value.lead != 2:
        raise ValueError("neurons and filters must see the time: their input is [T, B, *features], not [T * B, ...]")


def _through(module: nn.Module, value: Value) -> tuple[int, ...]:
    """Return the shape of the features behind a module that takes ``[B, *features]``."""
    if value.lead != 1:
        raise ValueError("it takes each step by itself: put it into an hnn_kernels.nn.EachStep")
    return shape_behind(module, value.shape)


def _number(value: Any) -> Any:
    return value.detach().double().cpu().numpy() if isinstance(value, Tensor) else value


def _array(value: Tensor) -> np.ndarray:
    value = value.detach().cpu()
    return (value.float() if value.dtype in (torch.bfloat16, torch.float16) else value).numpy().copy()


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)
