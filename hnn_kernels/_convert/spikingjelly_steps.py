"""The steps of SpikingJelly's neurons that are no leaky integrators, in the order of its operations."""

from typing import Any

import torch

from .._define.fire import fire
from .._define.layer import Neuron, neuron
from .steps import Shape


def _spike(v: Any, threshold: Any, shape: Shape) -> Any:
    name, width, scale = shape
    return fire(v - threshold, name, width, scale=scale)


def _after(v: Any, spike: Any, threshold: Any, reset: Any, hard: bool, detach: bool) -> Any:
    """Return V behind its reset."""
    spike = spike.detach() if detach else spike
    return spike * reset + (1.0 - spike) * v if hard else v - spike * threshold


def klif(shape: Shape, hard: bool, detach: bool, record: bool, decay_input: bool, scale_reset: bool) -> Neuron:
    """Return KLIFNode's neuron."""

    @neuron(states=("v",))
    def klif_node(x, v, *, k, tau, threshold, reset):
        v = v + (x - (v - reset)) / tau if decay_input else v - (v - reset) / tau + x
        v = torch.relu(k * v)
        spike = _spike(v, threshold, shape)
        if scale_reset:
            v = _after(v / k, spike, threshold / k, reset, hard, detach)
        else:
            v = _after(v, spike, threshold, reset, hard, detach)
        return (spike, v) if record else spike, v

    return klif_node


def parametric(shape: Shape, hard: bool, detach: bool, record: bool, decay_input: bool) -> Neuron:
    """Return ParametricLIFNode's neuron; ``rate`` is 1 / tau."""

    @neuron(states=("v",))
    def plif_node(x, v, *, rate, threshold, reset):
        v = v + (x - (v - reset)) * rate if decay_input else v - (v - reset) * rate + x
        spike = _spike(v, threshold, shape)
        v = _after(v, spike, threshold, reset, hard, detach)
        return (spike, v) if record else spike, v

    return plif_node


def quadratic(shape: Shape, hard: bool, detach: bool, record: bool) -> Neuron:
    """Return QIFNode's neuron."""

    @neuron(states=("v",))
    def qif_node(x, v, *, tau, v_rest, v_c, a0, threshold, reset):
        v = v + (x + a0 * (v - v_rest) * (v - v_c)) / tau
        spike = _spike(v, threshold, shape)
        v = _after(v, spike, threshold, reset, hard, detach)
        return (spike, v) if record else spike, v

    return qif_node


def exponential(shape: Shape, hard: bool, detach: bool, record: bool) -> Neuron:
    """Return EIFNode's neuron."""

    @neuron(states=("v",))
    def eif_node(x, v, *, tau, v_rest, theta_rh, steepness, threshold, reset):
        v = v + (x + v_rest - v + steepness * torch.exp((v - theta_rh) / steepness)) / tau
        spike = _spike(v, threshold, shape)
        v = _after(v, spike, threshold, reset, hard, detach)
        return (spike, v) if record else spike, v

    return eif_node


def izhikevich(shape: Shape, hard: bool, detach: bool, record: bool) -> Neuron:
    """Return IzhikevichNode's neuron."""

    @neuron(states=("v", "w"))
    def izhikevich_node(x, v, w, *, tau, v_rest, v_c, a0, a, b, tau_w, threshold, reset):
        v = v + (x + a0 * (v - v_rest) * (v - v_c) - w) / tau
        spike = _spike(v, threshold, shape)
        w = w + (a * (v - v_rest) - w) / tau_w + b * spike
        v = _after(v, spike, threshold, reset, hard, detach)
        return (spike, v) if record else spike, (v, w)

    return izhikevich_node


def complementary(shape: Shape, learns: bool, record: bool) -> Neuron:
    """Return ComplementaryLIFNode's neuron, whose spikes have a gradient only where it ``learns``."""

    @neuron(states=("v", "m"))
    def clif_node(x, v, m, *, tau, threshold):
        v = v - (v - 0.0) / tau + x
        decayed = m * torch.sigmoid(v / tau)
        spike = _spike(v, threshold, shape)
        spike = spike if learns else spike.detach()
        m = decayed + spike
        v = v - spike * (threshold + torch.sigmoid(m))
        return (spike, v, m) if record else spike, (v, m)

    return clif_node


def multi_level(most: float, low: float, high: float, detach: bool, record: bool) -> Neuron:
    """Return ILIFNode's neuron: up to ``most`` spikes, with the gradient 1 / threshold from ``low`` to ``high``."""

    @neuron(states=("v",))
    def ilif_node(x, v, *, decay, threshold):
        v = decay * v + x
        scaled = v / threshold
        inside = torch.where((scaled >= low) & (scaled <= high), 1.0, 0.0)
        spikes = torch.round(torch.clamp(scaled, 0.0, most)) + inside * (scaled - scaled.detach())
        v = v - (spikes.detach() if detach else spikes) * threshold
        return (spikes, v) if record else spikes, v

    return ilif_node


def gated(shape: Shape) -> Neuron:
    """Return GatedLIFNode's neuron, whose input has passed its conductance."""

    @neuron(states=("v", "spike"))
    def glif_node(x, v, spike, *, alpha, gamma, tau, v_threshold, linear_decay, v_subreset):
        kept = (1 - alpha * (1 - tau)) * v
        v = (kept - (1 - alpha) * linear_decay) + x
        v = v - kept * gamma * spike - (1 - gamma) * v_subreset * spike
        spike = _spike(v, v_threshold, shape)
        return spike, (v, spike)

    return glif_node


def ternary(shape: Shape, hard: bool, detach: bool, record: bool) -> Neuron:
    """Return TernaryIFNode's neuron, which spikes with a sign."""

    @neuron(states=("v",))
    def ternary_if_node(x, v, *, threshold, reset):
        return _ternary(v + x, threshold, reset, shape, hard, detach, record)

    return ternary_if_node


def ternary_leaky(shape: Shape, hard: bool, detach: bool, record: bool, decay_input: bool) -> Neuron:
    """Return TernaryLIFNode's neuron, which spikes with a sign."""

    @neuron(states=("v",))
    def ternary_lif_node(x, v, *, tau, threshold, reset):
        v = v + (x - (v - reset)) / tau if decay_input else v - (v - reset) / tau + x
        return _ternary(v, threshold, reset, shape, hard, detach, record)

    return ternary_lif_node


def _ternary(v: Any, threshold: Any, reset: Any, shape: Shape, hard: bool, detach: bool, record: bool) -> tuple:
    up, down = _spike(v, threshold, shape), _spike(-v, threshold, shape)
    spike = up - down
    v = _after(v, up + down if hard else spike, threshold, reset, hard, detach)
    return (spike, v) if record else spike, v


def activation_aware(shape: Shape, hard: bool, detach: bool, record: bool) -> Neuron:
    """Return ActivationAwareIFNode's neuron."""

    @neuron(states=("v",))
    def activation_aware_if_node(x, v, *, offset, threshold, reset):
        v = v + x
        spike = _spike(v + offset, threshold, shape)
        v = _after(v, spike, threshold, reset, hard, detach)
        return (spike, v) if record else spike, v

    return activation_aware_if_node


def resonate(shape: Shape, hard: bool, detach: bool, record: bool) -> Neuron:
    """Return RAFNode's neuron."""

    @neuron(states=("v", "u"))
    def raf_node(x, v, u, *, alpha, cosine, sine, threshold, reset):
        v, u = alpha * (u * sine + v * cosine), alpha * (u * cosine - v * sine) + x
        spike = _spike(v, threshold, shape)
        v = _after(v, spike, threshold, reset, hard, detach)
        return (spike, v) if record else spike, (v, u)

    return raf_node


# The attributes of a module that are options of its neuron.
FLAGS = {klif: ("decay_input", "scale_reset"), parametric: ("decay_input",), ternary_leaky: ("decay_input",)}
