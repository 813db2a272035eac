"""sinabs 3: layers that get ``[B, T, *features]`` in one call, as neurons by definition."""

import math
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._define.layer import Neuron, neuron
from .rules import Library, Rule, constant_in_graphs, full_name
from .steps import Defined, Shape, defined, run, with_slope
from .swap import arguments

# -- steps, in the order of the library's operations -------------------------------------------------------------------


class Firing(NamedTuple):
    """The way in which a layer fires.

    Attributes:
        most: the largest number of spikes in a step, one for each whole threshold; 0 for one spike where V - threshold
            is at least 0.
        shape: the surrogate.
        reset: what V is set to behind a spike; None to subtract.
        subtract: what a spike subtracts; None for the threshold.
    """

    most: float
    shape: Shape
    reset: float | None
    subtract: float | None


def _fire(v: Any, threshold: Any, firing: Firing) -> tuple[Any, Any]:
    """Return the spikes of a step, and V behind its reset."""
    if firing.most:
        count = torch.where(v > 0, torch.floor(v / threshold.detach()), 0.0)
        count = count if firing.most == math.inf else torch.where(count > firing.most, firing.most, count)
    else:
        count = torch.where(v - threshold.detach() >= 0, 1.0, 0.0)
    spikes = with_slope(count, v, threshold, firing.shape)
    if firing.reset is not None:
        return spikes, v * torch.where(spikes == 0, 1.0, 0.0) + firing.reset
    return spikes, v - spikes * (threshold if firing.subtract is None else firing.subtract)


def _current(x: Any, i: Any, alpha: Any, synapse: bool) -> Any:
    return alpha * (i + x) if synapse else x


def _floored(v: Any, least: Any, floor: bool) -> Any:
    return torch.relu(v - least) + least if floor else v


def _leaky(synapse: bool, normal: bool, firing: Firing | None, floor: bool, record: bool) -> Neuron:
    @neuron(states=("v", "i"))
    def sinabs_lif(x, v, i, *, alpha_mem, alpha_syn=0.0, threshold=1.0, least=0.0):
        i = _current(x, i, alpha_syn, synapse)
        v = alpha_mem * v + ((1 - alpha_mem) * i if normal else i)
        spikes, v = (v, v) if firing is None else _fire(v, threshold, firing)
        v = _floored(v, least, floor)
        after = (v, i if synapse else torch.zeros_like(v))
        return (spikes, v, i) if record else spikes, after

    return sinabs_lif


def _adaptive(synapse: bool, normal: bool, firing: Firing, floor: bool) -> Neuron:
    @neuron(states=("v", "i", "b"))
    def sinabs_alif(x, v, i, b, *, alpha_mem, alpha_adapt, scale, rest, alpha_syn=0.0, least=0.0):
        i = _current(x, i, alpha_syn, synapse)
        i = (1 - alpha_mem) * i if normal else i
        v = alpha_mem * v + i
        threshold = rest + scale * b
        spikes, v = _fire(v, threshold, firing)
        b = alpha_adapt * b + (1 - alpha_adapt) * spikes
        after = (_floored(v, least, floor), i if synapse else torch.zeros_like(v), b)
        return spikes, after

    return sinabs_alif


# -- what a module becomes ---------------------------------------------------------------------------------------------


def _shape(surrogate: Any) -> Shape | str:
    """Return the shape of a surrogate, or why it has none here."""
    known, s = sys.modules["sinabs.activation"], surrogate
    kind = type(surrogate)
    if kind is known.SingleExponential:
        if s.grad_width > 0 and s.grad_scale > 0:
            return ("relative", s.grad_width, 2 * s.grad_scale)
        return f"its surrogate has the width {s.grad_width} and the scale {s.grad_scale}, which must be above 0"
    if kind is known.Gaussian:
        if s.mu == 0 and s.sigma > 0 and s.grad_scale > 0:
            return ("gaussian", s.sigma, s.grad_scale)
        return ("shifted gaussian", s.mu, s.sigma, s.grad_scale)
    if kind is known.Heaviside:
        return ("window", s.window)
    if kind is known.MultiGaussian:
        return ("multi gaussian", s.mu, s.sigma, s.h, s.s, s.grad_scale)
    if kind is known.PeriodicExponential:
        return ("periodic", s.grad_width, s.grad_scale)
    return f"hnn_kernels has no surrogate like {full_name(kind)}"


# torch.compile cannot look into autograd's functions. Its graph is made anew if spike_fn is another one: _lif reads it.
@constant_in_graphs
def _most_spikes(module: Any) -> float | None:
    """Return the largest number of spikes of a module in a step, or None where its function is not known."""
    known, spike = sys.modules["sinabs.activation"], module.spike_fn
    if spike is known.SingleSpike:
        return 0.0
    if spike is known.MultiSpike:
        return math.inf
    if type(spike) is not known.MaxSpike:
        return None
    most = spike.max_num_spikes_per_bin
    return math.inf if most is None else float(most) if most >= 1 else None


def _firing(module: Any) -> Firing | str:
    """Return how a module fires, or why no kernel can."""
    most = _most_spikes(module)
    if most is None:
        return "hnn_kernels does not know its spike_fn"
    known, reset = sys.modules["sinabs.activation"], module.reset_fn
    value = subtract = None
    if type(reset) is known.MembraneReset:
        value = reset.reset_value
    elif type(reset) is known.MembraneSubtract:
        subtract = reset.subtract_value
    else:
        return f"hnn_kernels does not know {full_name(type(reset))}"
    shape = _shape(module.surrogate_grad_fn)
    if isinstance(shape, str):
        return shape
    if not all(number is None or isinstance(number, int | float) for number in (value, subtract, *shape[1:])):
        return "a number of its reset or its surrogate is a tensor"
    return Firing(most, shape, value, subtract)


def _lif(module: Any) -> Defined | str:
    firing = None if module.spike_fn is None else _firing(module)
    if isinstance(firing, str):
        return firing
    alpha_syn, least, threshold = module.alpha_syn_calculated, module.min_v_mem, module.spike_threshold
    coefficients = {"alpha_mem": module.alpha_mem_calculated}
    coefficients |= {} if alpha_syn is None else {"alpha_syn": alpha_syn}
    coefficients |= {} if firing is None else {"threshold": threshold}
    coefficients |= {} if least is None else {"least": least}
    options = (alpha_syn is not None, module.norm_input, firing, least is not None, module.record_states)
    return Defined(defined(_leaky, *options), coefficients)


def _alif(module: Any) -> Defined | str:
    firing = _firing(module)
    if isinstance(firing, str) or module.record_states:
        return firing if isinstance(firing, str) else "it records its states"
    alpha_syn, least = module.alpha_syn_calculated, module.min_v_mem
    coefficients = {
        "alpha_mem": module.alpha_mem_calculated, "alpha_adapt": module.alpha_adapt_calculated,
        "scale": module.adapt_scale, "rest": module.b0,
    }  # fmt: skip
    coefficients |= {} if alpha_syn is None else {"alpha_syn": alpha_syn}
    coefficients |= {} if least is None else {"least": least}
    return Defined(
        defined(_adaptive, alpha_syn is not None, module.norm_input, firing, least is not None), coefficients
    )


def _values(module: Any) -> str:
    """Return why the thresholds of a module fit no kernel: spikes of one below 0 would be rounded another way."""
    adaptive = hasattr(module, "b0")
    if not adaptive and module.spike_fn is None:
        return ""
    threshold, scale = (module.b0, module.adapt_scale) if adaptive else (module.spike_threshold, 0.0)
    if torch.as_tensor(threshold).is_meta:
        return ""
    fits = bool((torch.as_tensor(threshold) > 0).all() and (torch.as_tensor(scale) >= 0).all())
    return "" if fits else "its threshold is not above 0, or would not stay so"


# -- calls -------------------------------------------------------------------------------------------------------------


def _initialise(module: Any, shape: tuple[int, ...], resample: bool) -> None:
    """Give the states the shape of a step, as the library does."""
    if not module.is_state_initialised():
        module.init_state_with_shape(shape)
    if not module.state_has_shape(shape):
        if resample and module.has_trailing_dimension(shape[1:]):
            module.handle_state_batch_size_mismatch(shape[0])
        else:
            module.init_state_with_shape(shape)


def _call(given: Defined, x: Tensor, states: list[Tensor]) -> tuple[list[Tensor], tuple[Tensor, ...]]:
    trains, after = run(given, x.transpose(0, 1), states)
    return [train.transpose(0, 1) for train in trains], after


def _run_lif(self: Any, given: Defined, x: Tensor) -> Tensor:
    _initialise(self, (x.shape[0], *x.shape[2:]), resample=True)
    names = ("v_mem", "i_syn") if "alpha_syn" in given.coefficients else ("v_mem",)
    i = self.i_syn if len(names) == 2 else torch.zeros_like(self.v_mem)
    (out, *recorded), (self.v_mem, i) = _call(given, x, [self.v_mem, i])
    self.i_syn = i if len(names) == 2 else None
    self.recordings = dict(zip(names, recorded, strict=False))
    # The library's spikes are float32 whatever the input is.
    out = out if self.spike_fn is None else out.float()
    self.firing_rate = out.mean()
    return out


def _run_alif(self: Any, given: Defined, x: Tensor) -> Tensor:
    _initialise(self, (x.shape[0], *x.shape[2:]), resample=False)
    i = self.i_syn if "alpha_syn" in given.coefficients else torch.zeros_like(self.v_mem)
    # The library keeps no current from one call to the next.
    (out,), (self.v_mem, _, self.b) = _call(given, x, [self.v_mem, i, self.b])
    self.spike_threshold = self.b0 + self.adapt_scale * self.b
    self.recordings = {}
    out = out.float()
    self.firing_rate = out.sum() / out.numel()
    return out


def _forward(call: Callable, squeeze: bool) -> Callable:
    """Return the forward of a class; with ``squeeze``, of one whose batch and time are one axis."""

    def forward(self, x: Any) -> Any:
        given = None
        if isinstance(x, Tensor) and x.dim() > 1 - squeeze:
            whole = x.reshape(self.batch_size, self.num_timesteps, *x.shape[1:]) if squeeze else x
            given = arguments(self, whole.transpose(0, 1))
        if given is None:
            return self._hnn_original.forward(self, x)
        out = call(self, given, whole)
        return out.flatten(0, 1) if squeeze else out

    return forward


# -- the table ---------------------------------------------------------------------------------------------------------


def _rules() -> dict[str, Rule]:
    rules = {}
    for name, file in (("LIF", "lif"), ("IAF", "iaf"), ("ExpLeak", "exp_leak"), ("ALIF", "alif")):
        given, call = (_alif, _run_alif) if name == "ALIF" else (_lif, _run_lif)
        for squeeze in ("", "Squeeze"):
            methods = {"forward": _forward(call, bool(squeeze))}
            rule = Rule("a neuron by definition", given, methods, True, values=_values)
            rules[f"sinabs.layers.{file}.{name}{squeeze}"] = rule
    return rules


_RECURRENT = "its spikes come back through rec_connect at the next step"

LIBRARY = Library(
    "sinabs",
    ("3.",),
    _rules(),
    {
        "sinabs.layers.lif.LIFRecurrent": _RECURRENT, "sinabs.layers.iaf.IAFRecurrent": _RECURRENT,
        "sinabs.layers.alif.ALIFRecurrent": _RECURRENT,
    },
    ("sinabs.layers.stateful_layer.StatefulLayer",),
)  # fmt: skip
