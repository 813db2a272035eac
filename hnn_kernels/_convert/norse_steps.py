"""The steps of Norse's neurons, in the order of its operations.

``rate`` is dt / tau of the membrane, ``drop`` the negative dt / tau of the synapse. A spike is above the threshold, not
on it.
"""

from typing import Any

import torch

from .._define.fire import fire
from .._define.layer import Neuron, neuron
from .steps import Shape


def _above(distance: Any, shape: Shape) -> Any:
    if not shape:
        return torch.where(distance > 0, 1.0, 0.0)
    name, width, scale = shape
    return fire(distance, name, width, scale=scale, tie_fires=False)


def _set(v: Any, spike: Any, to: Any) -> Any:
    return (1 - spike) * v + spike * to


def lif(shape: Shape, record: bool) -> Neuron:
    """Return the neuron of LIF and LIFCell."""

    @neuron(states=("v", "i"))
    def norse_lif(x, v, i, *, rate, drop, v_leak, v_th, v_reset):
        i = i + x
        v = v + rate * ((v_leak - v) + i)
        i = i + drop * i
        spike = _above(v - v_th, shape)
        v = _set(v, spike, v_reset)
        return (spike, v, i) if record else spike, (v, i)

    return norse_lif


def box(shape: Shape, record: bool, subtract: bool) -> Neuron:
    """Return the neuron of LIFBoxCell."""

    @neuron(states=("v",))
    def norse_lif_box(x, v, *, rate, v_leak, v_th, v_reset):
        v = v + rate * (x + v_leak - v)
        spike = _above(v - v_th, shape)
        v = _set(v, spike, v - v_th if subtract else v_reset)
        return (spike, v) if record else spike, v

    return norse_lif_box


def integrate(shape: Shape, record: bool) -> Neuron:
    """Return the neuron of IAF and IAFCell."""

    @neuron(states=("v",))
    def norse_iaf(x, v, *, v_th, v_reset):
        v = v + x
        spike = _above(v - v_th, shape)
        v = _set(v, spike, v_reset)
        return (spike, v) if record else spike, v

    return norse_iaf


def leak(record: bool) -> Neuron:
    """Return the neuron of LI and LICell."""

    @neuron(states=("v", "i"))
    def norse_li(x, v, i, *, rate, drop, v_leak):
        i = i + x
        v = v + rate * ((v_leak - v) + i)
        i = i + drop * i
        return (v, v, i) if record else v, (v, i)

    return norse_li


def leak_box(record: bool) -> Neuron:
    """Return the neuron of LIBoxCell."""

    @neuron(states=("v",))
    def norse_li_box(x, v, *, rate, v_leak):
        v = v + rate * ((v_leak - v) + x)
        return (v, v) if record else v, v

    return norse_li_box


def exponential(shape: Shape, record: bool) -> Neuron:
    """Return the neuron of LIFEx and LIFExCell."""

    @neuron(states=("v", "i"))
    def norse_lif_ex(x, v, i, *, rate, drop, steepness, v_leak, v_th, v_reset):
        i = i + x
        steep = steepness * torch.exp((v - v_th) / steepness)
        v = v + rate * (v_leak - v + steep + i)
        i = i + drop * i
        spike = _above(v - v_th, shape)
        v = _set(v, spike, v_reset)
        return (spike, v, i) if record else spike, (v, i)

    return norse_lif_ex


def adaptive_exponential(shape: Shape, record: bool) -> Neuron:
    """Return the neuron of LIFAdEx and LIFAdExCell."""

    @neuron(states=("v", "i", "a"))
    def norse_lif_adex(
        x, v, i, a, *, rate, drop, slow, steepness, adaptation_current, adaptation_spike, v_leak, v_th, v_reset
    ):
        i = i + x
        steep = steepness * torch.exp((v - v_th) / steepness)
        after = v + rate * (v_leak - v + steep + i - a)
        i = i + drop * i
        a = a + slow * (adaptation_current * (v - v_leak) - a)
        spike = _above(after - v_th, shape)
        v = _set(after, spike, v_reset)
        a = a + spike * adaptation_spike
        return (spike, v, i, a) if record else spike, (v, i, a)

    return norse_lif_adex


def adaptive(shape: Shape, record: bool) -> Neuron:
    """Return the neuron of LSNN and LSNNCell."""

    @neuron(states=("v", "i", "b"))
    def norse_lsnn(x, v, i, b, *, rate, drop, slow, v_leak, v_th, v_reset, beta):
        v = v + rate * ((v_leak - v) + i)
        i = i + drop * i
        b = b + slow * (v_th - b)
        spike = _above(v - b, shape)
        v = _set(v, spike, v_reset)
        b = b + spike * beta
        i = i + x
        return (spike, v, i, b) if record else spike, (v, i, b)

    return norse_lsnn


def refractory(shape: Shape, record: bool) -> Neuron:
    """Return the neuron of LIFRefracCell."""

    @neuron(states=("v", "i", "rho"))
    def norse_lif_refrac(x, v, i, rho, *, rate, drop, v_leak, v_th, v_reset, rho_reset):
        i = i + x
        after = v + rate * ((v_leak - v) + i)
        i = i + drop * i
        spike = _above(after - v_th, shape)
        after = _set(after, spike, v_reset)
        rests = _above(rho, shape)
        v = (1 - rests) * after + rests * v
        spike = (1 - rests) * spike
        rho = (1 - spike) * torch.relu(rho - rests) + spike * rho_reset
        return (spike, v, i, rho) if record else spike, (v, i, rho)

    return norse_lif_refrac


def izhikevich(shape: Shape, record: bool) -> Neuron:
    """Return the neuron of Izhikevich and IzhikevichCell."""

    @neuron(states=("v", "u"))
    def norse_izhikevich(x, v, u, *, rate, sq, mn, bias, a, b, c, d, v_th):
        after = v + rate * (sq * v**2 + mn * v + bias - u + x)
        u = u + rate * a * (b * v - u)
        spike = _above(after - v_th, shape)
        v = _set(after, spike, c)
        u = (1 - spike) * u + spike * (u + d)
        return (spike, v, u) if record else spike, (v, u)

    return norse_izhikevich
