"""The field's neurons, each by its definition (:func:`hnn_kernels.neuron`) and with its source.

A layer is called as ``plif(x, w=0.0)``. Time constants are in steps. All states start from zero, so a neuron whose rest
is elsewhere carries the distance from it. To change a neuron, copy its definition.
"""

import torch

from ._define.fire import fire
from ._define.layer import neuron

__all__ = [
    "adaptive_lif", "adex", "clif", "eif", "glif", "izhikevich", "klif", "lsnn", "multi_spike", "plif", "qif",
    "refractory_lif", "resonate_and_fire",
]  # fmt: skip


@neuron(states=("v", "w"))
def adaptive_lif(x, v, w, *, decay=0.9, rho=0.97, jump=0.1, threshold=1.0):
    """Leaky integrate-and-fire with an adaptation current, to which each spike adds.

    Gerstner, Kistler, Naud & Paninski 2014, Neuronal Dynamics, eq. 6.1 and 6.2 with a = 0. The threshold is subtracted.
    """
    v = decay * v + x - w
    spike = fire(v - threshold)
    return spike, (v - threshold * spike, rho * w + jump * spike)


@neuron(states=("v", "b", "spike"))
def lsnn(x, v, b, spike, *, decay=0.95, rho=0.995, beta=1.8, threshold=1.0):
    """Leaky integrate-and-fire with a threshold that each spike raises, of the recurrent LSNN.

    Bellec, Salaj, Subramoney, Legenstein & Maass 2018, NeurIPS, eq. 1 and 2 (arXiv:1803.09574). The surrogate is theirs
    with an area of 1, and without their factor 0.3.
    """
    v = decay * v + (1 - decay) * x - (threshold + beta * b) * spike
    b = rho * b + (1 - rho) * spike
    height = threshold + beta * b
    spike = fire((v - height) / height, "triangle", 1.0)
    return spike, (v, b, spike)


@neuron(states=("v",))
def plif(x, v, *, w=0.0, threshold=1.0):
    """Leaky integrate-and-fire whose time constant is learnt: 1 / tau = sigmoid(w).

    Fang, Yu, Chen, Masquelier, Huang & Tian 2021, ICCV, eq. 8 (arXiv:2007.05785). The potential is reset to zero.
    """
    v = v + torch.sigmoid(w) * (x - v)
    spike = fire(v - threshold, "arctan", 0.6)
    return spike, v * (1 - spike)


@neuron(states=("v",))
def klif(x, v, *, k=1.0, tau=2.0, threshold=1.0):
    """Leaky integrate-and-fire with a learnt slope k in front of a ReLU.

    Jiang & Zhang 2023 (arXiv:2302.09238). The potential is reset to zero.
    """
    v = torch.relu(k * (v + (x - v) / tau))
    spike = fire(v - threshold, "sigmoid", 0.25)
    return spike, v * (1 - spike)


@neuron(states=("v", "m"))
def clif(x, v, m, *, tau=2.0, threshold=1.0):
    """Leaky integrate-and-fire with a complementary potential m, which remembers spikes and deepens the reset.

    Huang, Lin, Ren, Fu, Zhou, Liu, Pan & Cheng 2024, ICML (arXiv:2402.04663).
    """
    v = (1 - 1 / tau) * v + x
    spike = fire(v - threshold, "rectangle", 0.5)
    m = m * torch.sigmoid(v / tau) + spike
    return spike, (v - spike * (threshold + torch.sigmoid(m)), m)


@neuron(states=("v", "spike"))
def glif(x, v, spike, *, alpha=0.6, beta=0.8, gamma=0.6, tau=0.25, leak=0.0, reset=0.5, conduct=0.9, threshold=0.5):
    """Leaky integrate-and-fire with gates between two ways of each part: decay or leak, input, and reset.

    Yao, Li, Mo & Cheng 2022, NeurIPS (arXiv:2210.13768). The coefficients are what their sigmoids return, in (0, 1),
    and the conductance is one for all steps.
    """
    kept = (1 - alpha * (1 - tau)) * v
    v = kept - (1 - alpha) * leak + x * (1 - beta * (1 - conduct))
    v = v - gamma * kept * spike - (1 - gamma) * reset * spike
    spike = fire(v - threshold, "triangle", 1.0)
    return spike, (v, spike)


@neuron(states=("v",))
def qif(x, v, *, tau=2.0, gain=1.0, rest=0.0, critical=0.8, threshold=1.0, reset=0.0):
    """Quadratic integrate-and-fire.

    Latham, Richmond, Nelson & Nirenberg 2000, Journal of Neurophysiology 83; Gerstner et al. 2014, Neuronal Dynamics,
    eq. 5.16. Euler's method with a step of 1.
    """
    v = v + (x + gain * (v - rest) * (v - critical)) / tau
    spike = fire(v - threshold)
    return spike, v * (1 - spike) + reset * spike


@neuron(states=("v",))
def eif(x, v, *, tau=2.0, sharpness=1.0, rheobase=0.8, rest=0.0, threshold=1.0, reset=0.0):
    """Exponential integrate-and-fire.

    Fourcaud-Trocme, Hansel, van Vreeswijk & Brunel 2003, Journal of Neuroscience 23; Gerstner et al. 2014, Neuronal
    Dynamics, eq. 5.6. Euler's method with a step of 1.
    """
    v = v + (x - (v - rest) + sharpness * torch.exp((v - rheobase) / sharpness)) / tau
    spike = fire(v - threshold)
    return spike, v * (1 - spike) + reset * spike


@neuron(states=("v", "u"))
def izhikevich(x, v, u, *, a=0.02, b=0.2, c=-65.0, d=8.0, dt=0.5, peak=30.0):
    """Izhikevich's simple model, in millivolts and milliseconds; the defaults are his regular spiking neuron.

    Izhikevich 2003, IEEE Transactions on Neural Networks 14(6), eq. 1 to 3. Euler's method with a step of ``dt``. The
    states are the distances of his v from c, and of his u from b * c.
    """
    potential = v + c
    recovery = u + b * c
    potential, recovery = (
        potential + dt * (0.04 * potential * potential + 5 * potential + 140 - recovery + x),
        recovery + dt * a * (b * potential - recovery),
    )
    spike = fire(potential - peak, "arctan", 10.0)
    return spike, ((potential - c) * (1 - spike), recovery - b * c + d * spike)


@neuron(states=("v", "w"))
def adex(
    x, v, w, *, tau=5.0, tau_w=50.0, a=0.1, b=0.1, sharpness=0.1, rheobase=0.8, rest=0.0, threshold=1.0, reset=0.0
):
    """Adaptive exponential integrate-and-fire, in units of the threshold.

    Brette & Gerstner 2005, Journal of Neurophysiology 94, eq. 1 to 3. Euler's method with a step of 1.
    """
    drive = x - w - (v - rest) + sharpness * torch.exp((v - rheobase) / sharpness)
    w = w + (a * (v - rest) - w) / tau_w
    v = v + drive / tau
    spike = fire(v - threshold)
    return spike, (v * (1 - spike) + reset * spike, w + b * spike)


@neuron(states=("v", "wait"))
def refractory_lif(x, v, wait, *, decay=0.9, period=2.0, threshold=1.0):
    """Leaky integrate-and-fire that rests for ``period`` steps after a spike: it neither integrates nor fires.

    Gerstner, Kistler, Naud & Paninski 2014, Neuronal Dynamics, section 1.3.1. The potential is reset to zero.
    """
    rests = wait > 0
    v = torch.where(rests, v, decay * v + x)
    spike = torch.where(rests, 0, fire(v - threshold))
    return spike, (v * (1 - spike), torch.where(spike > 0, period, torch.relu(wait - 1)))


@neuron(states=("v",))
def multi_spike(x, v, *, decay=0.9, first=1.0, threshold=1.0):
    """Leaky integrate-and-fire with up to four spikes a step, each of which subtracts the threshold.

    The spike k = 1, 2, 3, 4 comes where the potential reaches ``first + k - 1`` thresholds. With ``first=0.5`` it is
    the I-LIF of Luo, Yao, Chou, Xu & Li 2024, ECCV (arXiv:2407.20708), with D = 4, which rounds. By default there is a
    spike for each whole threshold, as in sinabs.
    """
    v = decay * v + x
    spikes = sum(fire(v / threshold - first - k, "rectangle", 0.5) for k in range(4))
    return spikes, v - threshold * spikes


@neuron(states=("u", "v"))
def resonate_and_fire(x, u, v, *, damping=-0.1, omega=0.6, dt=1.0, threshold=1.0):
    """A damped oscillator u + iv that the input pushes along u, and that fires where v reaches the threshold.

    Izhikevich 2001, Neural Networks 14, eq. 3. The oscillation is exact between inputs. A spike resets it to zero, in
    the place of his i.
    """
    size = torch.exp(damping * dt)
    along, across = size * torch.cos(omega * dt), size * torch.sin(omega * dt)
    u, v = along * u - across * v + x, across * u + along * v
    spike = fire(v - threshold)
    return spike, (u * (1 - spike), v * (1 - spike))
