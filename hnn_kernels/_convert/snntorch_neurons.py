"""Neurons of snnTorch 1.x by definition, in the order of its operations: those whose resets or surrogates lif has not.

At each step snnTorch first resets by the spike of the potential that it has kept, without a gradient of that spike.
With ``reset_delay=False`` it then resets by the change of the spike, which has one.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from .._define.fire import fire
from .._define.layer import Neuron, neuron
from ..surrogates import SURROGATES
from .steps import Shape


class Options(NamedTuple):
    """The options of a step.

    Attributes:
        reset: ``"subtract"``, ``"zero"`` or ``"none"``.
        immediate: True if the reset does not wait for the next step.
        shape: the surrogate: a name, width and scale of :data:`hnn_kernels.SURROGATES`, or one of ``SLOPES``.
        record: True to return the states of each step behind the spikes.
    """

    reset: str
    immediate: bool
    shape: Shape
    record: bool


# Derivatives of a spike by the distance to the threshold that are no built-in surrogates.
SLOPES: dict[str, Callable[..., Any]] = {
    "none": lambda d: 0.0,
    "straight": lambda d: 1.0,
    "fired": lambda d: torch.where(d > 0, 1.0, 0.0),
    "two levels": lambda d, level: torch.where(d >= 0, -level, level),
    "escape": lambda d, rate, scale: scale * torch.exp(-rate * torch.abs(d - 1)),
    "sparse": lambda d, slope, least: torch.where(d > least, 1 / ((slope * torch.abs(d) + 1) ** 2), 0.0),
}


def _spike(d: Any, shape: Shape) -> Any:
    name, *numbers = shape
    if name in SURROGATES:
        return fire(d, name, numbers[0], scale=numbers[1], tie_fires=False)
    constant = d.detach()
    return torch.where(constant > 0, 1.0, 0.0) + SLOPES[name](constant, *numbers) * (d - constant)


def _fired(mem: Any, threshold: Any) -> Any:
    return torch.where(mem.detach() - threshold.detach() > 0, 1.0, 0.0)


def _fire(mem: Any, fired: Any, threshold: Any, graded: Any, o: Options) -> tuple[Any, Any]:
    """Return the spikes of a step, and V behind its reset."""
    spike = _spike(mem - threshold, o.shape)
    if o.immediate and o.reset != "none":
        change = spike - fired
        mem = mem - change * (threshold if o.reset == "subtract" else mem)
    return spike * graded, mem


def _results(spike: Any, states: Sequence[Any], o: Options) -> tuple:
    return (spike, *states) if o.record else spike, tuple(states) if len(states) > 1 else states[0]


def leaky(o: Options) -> Neuron:
    """Return the neuron of Leaky."""

    @neuron(states=("mem",))
    def snntorch_leaky(x, mem, *, beta, threshold, graded):
        fired = _fired(mem, threshold)
        mem = (1 - fired) * mem if o.reset == "zero" else mem
        mem = beta * mem + x
        mem = mem - fired * threshold if o.reset == "subtract" else mem
        spike, mem = _fire(mem, fired, threshold, graded, o)
        return _results(spike, (mem,), o)

    return snntorch_leaky


def lapicque(o: Options) -> Neuron:
    """Return the neuron of Lapicque."""

    @neuron(states=("mem",))
    def snntorch_lapicque(x, mem, *, resistance, rate, time_step, decay, threshold, graded):
        fired = _fired(mem, threshold)
        mem = x * resistance * rate * time_step + decay * mem
        mem = _reset(mem, fired, threshold, o)
        spike, mem = _fire(mem, fired, threshold, graded, o)
        return _results(spike, (mem,), o)

    return snntorch_lapicque


def _reset(mem: Any, fired: Any, threshold: Any, o: Options) -> Any:
    """Return V behind the reset of the step before; one to zero drops the input of this step too."""
    if o.reset == "none":
        return mem
    return mem - fired * (threshold if o.reset == "subtract" else mem)


def synaptic(o: Options) -> Neuron:
    """Return the neuron of Synaptic."""

    @neuron(states=("syn", "mem"))
    def snntorch_synaptic(x, syn, mem, *, alpha, beta, threshold, graded):
        fired = _fired(mem, threshold)
        syn = alpha * syn + x
        mem = _reset(beta * mem + syn, fired, threshold, o)
        spike, mem = _fire(mem, fired, threshold, graded, o)
        return _results(spike, (syn, mem), o)

    return snntorch_synaptic


def alpha(o: Options) -> Neuron:
    """Return the neuron of Alpha."""

    @neuron(states=("syn_exc", "syn_inh", "mem"))
    def snntorch_alpha(x, syn_exc, syn_inh, mem, *, alpha, beta, tau, threshold, graded):
        fired = _fired(mem, threshold)
        before = syn_inh
        syn_exc, syn_inh = alpha * syn_exc + x, beta * syn_inh - x
        mem = tau * (syn_exc + syn_inh)
        if o.reset == "zero":
            syn_exc, syn_inh, mem = syn_exc - syn_exc * fired, syn_inh - syn_inh * fired, mem - mem * fired
        elif o.reset == "subtract":
            syn_exc, syn_inh, mem = syn_exc - threshold * fired, syn_inh - syn_inh * fired, mem + before * fired
        spike, mem = _fire(mem, fired, threshold, graded, o)
        return _results(spike, (syn_exc, syn_inh, mem), o)

    return snntorch_alpha


def recurrent_leaky(o: Options) -> Neuron:
    """Return the neuron of RLeaky whose spikes come back to the neurons themselves."""

    @neuron(states=("spk", "mem"))
    def snntorch_rleaky(x, spk, mem, *, beta, weight, threshold, graded):
        fired = _fired(mem, threshold)
        mem = _reset(beta * mem + x + weight * spk, fired, threshold, o)
        spike, mem = _fire(mem, fired, threshold, graded, o)
        return _results(spike, (spike, mem), o)

    return snntorch_rleaky


def recurrent_synaptic(o: Options) -> Neuron:
    """Return the neuron of RSynaptic whose spikes come back to the neurons themselves."""

    @neuron(states=("spk", "syn", "mem"))
    def snntorch_rsynaptic(x, spk, syn, mem, *, alpha, beta, weight, threshold, graded):
        fired = _fired(mem, threshold)
        syn = alpha * syn + x + weight * spk
        mem = _reset(beta * mem + syn, fired, threshold, o)
        spike, mem = _fire(mem, fired, threshold, graded, o)
        return _results(spike, (spike, syn, mem), o)

    return snntorch_rsynaptic
