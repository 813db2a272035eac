"""The neurons of snnTorch 1.x as calls of :func:`hnn_kernels.lif`, and of neurons by definition where lif has no such.

Its neurons fire above the threshold, and by default a spike resets the potential at the next step and gives the reset
no gradient: V[t] = beta V[t-1] + x[t] - threshold O[t-1]. What they keep from one step to the next is V *before* that
reset. This file reads their options when a call runs, so a change of an option takes effect at the next call.
"""

import functools
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..filters import IIR
from ..functional import iir, lif
from ..state import LIFState, state_dtype
from . import snntorch_neurons as neurons
from .rules import unfit_coefficients, without_compiler
from .snntorch_surrogates import SURROGATES, shape_of
from .steps import Defined, Shape, defined, without_time
from .steps import run as run_defined
from .swap import of_library

# By class: the names of the states, as a call takes and returns them.
STATES = {
    "Leaky": ("mem",), "Lapicque": ("mem",), "Synaptic": ("syn", "mem"), "Alpha": ("syn_exc", "syn_inh", "mem"),
    "RLeaky": ("spk", "mem"), "RSynaptic": ("spk", "syn", "mem"),
}  # fmt: skip
_DEFINED = {
    "Leaky": neurons.leaky, "Lapicque": neurons.lapicque, "Synaptic": neurons.synaptic, "Alpha": neurons.alpha,
    "RLeaky": neurons.recurrent_leaky, "RSynaptic": neurons.recurrent_synaptic,
}  # fmt: skip
_BY_LIF = ("Leaky", "Lapicque", "Synaptic")
_WITH_DELAY = ("Leaky", "Synaptic", "RLeaky", "RSynaptic")  # those that have an option reset_delay
# By state, the decay of a filtered current.
_SYNAPSES = {
    "Synaptic": {"syn": "alpha"}, "RSynaptic": {"syn": "alpha"}, "Alpha": {"syn_exc": "alpha", "syn_inh": "beta"},
}  # fmt: skip
_WEIGHTED = ("RLeaky", "RSynaptic")  # those whose spikes come back to them
# By the name of the function that updates a potential.
_RESETS = {"_base_sub": "subtract", "_base_zero": "zero", "_base_int": "none"}
# Tensors that take part in the arithmetic of each class.
_TENSORS = {
    "Leaky": ("beta", "threshold"), "Lapicque": ("R", "C", "time_step", "threshold"),
    "Synaptic": ("alpha", "beta", "threshold"), "Alpha": ("alpha", "beta", "threshold"),
    "RLeaky": ("beta", "threshold"), "RSynaptic": ("alpha", "beta", "threshold"),
}  # fmt: skip
# Those that unroll leaves, with the reason.
_OTHERS = {
    "SLSTM": "its steps have products of their own", "SConv2dLSTM": "its steps have convolutions of their own",
    "DeltaLeaky": "it resets nothing, so its steps over time are sums that torch has",
    "LeakyParallel": "it gets all steps in one call", "StateLeaky": "it gets all steps in one call",
    "LinearLeaky": "it gets all steps in one call", "AssociativeLeaky": "it gets all steps in one call",
}  # fmt: skip


def known(module: nn.Module) -> str | None:
    """Return the name of the module's class if snnTorch has it among its neurons, else None."""
    package = sys.modules.get("snntorch")
    kind = of_library(type(module))
    name = kind.__name__
    if package is None or getattr(package, name, None) is not kind:
        return None
    return name if name in STATES or name in _OTHERS else None


def arguments_of(module: nn.Module, record: bool = False) -> dict[str, Any] | Defined | str:
    """Return what computes the steps of a neuron of snnTorch, or why nothing here does.

    Those are arguments of :func:`hnn_kernels.lif`, which give the spikes and the potentials before a reset (and
    :func:`lif_state` makes the state), or a neuron by definition, which also has the states of all steps with
    ``record``.
    """
    name = known(module)
    if name not in STATES:
        return _OTHERS.get(name or "", f"{type(module).__name__} is no neuron of snnTorch")
    version = str(getattr(sys.modules["snntorch"], "__version__", "0"))
    if version.split(".")[0] != "1":
        return f"snnTorch {version} is not known; 1.x is"
    m: Any = module
    if name in _WEIGHTED and m.all_to_all:
        return "its spikes come back to it through the weights of recurrent"
    options = _options(m, name, record)
    if isinstance(options, str):
        return options
    reset, immediate, shape, _ = options
    by_lif = immediate if reset == "zero" and name != "Leaky" else reset != "subtract" or not immediate
    if name in _BY_LIF and by_lif and shape[0] not in neurons.SLOPES:
        return _lif_arguments(m, name, shape, immediate)
    weight = m.recurrent.V if name in _WEIGHTED else 1.0
    return without_compiler() or _definition(m, name, options, weight)


def definition_of(name: str, module: nn.Module) -> Defined | str:
    """Return the neuron by definition that computes one step of a module in the order of its library, or why none does.

    What comes back to a recurrent neuron is the state ``spk``, which its module ``recurrent`` has weighted already.
    """
    options = _options(module, name, False)
    return options if isinstance(options, str) else _definition(module, name, options, weight=1.0)


def _options(m: Any, name: str, record: bool) -> neurons.Options | str:
    """Return the options of a module's steps, or why nothing here computes them."""
    if m.inhibition:
        return "inhibition=True lets one neuron of a layer fire"
    if m.state_quant:
        return "state_quant rounds the potential"
    shape = shape_of(m.spike_grad)
    if shape is None:
        return "spike_grad is not one of " + ", ".join(f"surrogate.{made}()" for made in SURROGATES)
    reset = m._reset_mechanism
    if _RESETS.get(m.state_function.__name__) != reset:
        return "reset_mechanism was changed after the neuron was made, which snnTorch follows in part"
    immediate = name in _WITH_DELAY and not m.reset_delay
    if immediate and name == "RSynaptic":
        return "reset_delay=False of RSynaptic is an error in snnTorch, or has no effect"
    return neurons.Options(reset, immediate, shape, record)


def _lif_arguments(m: Any, name: str, shape: Shape, immediate: bool) -> dict[str, Any]:
    decay, synapse = _decay(m, name), None
    if name == "Synaptic":
        synapse = IIR((_clamped(m.alpha),), (1.0,))
    elif name == "Lapicque":
        synapse = IIR((), (_scalar(m.R * (1 / (m.R * m.C)) * m.time_step),))
    reset = m.reset_mechanism
    filtered = reset == "subtract"
    return {
        "decay": decay,
        "reset_decay": 0.0 if filtered else None,
        "threshold": _scalar(m.threshold),
        "synapse": synapse,
        "reset": "filter" if filtered else reset,
        "reset_grad": "full" if immediate or reset == "none" else "detach",
        "surrogate": shape[0],
        "sigma": shape[1],
        "surrogate_scale": shape[2],
        "tie_fires": False,
    }


def _definition(m: Any, name: str, options: neurons.Options, weight: float | Tensor) -> Defined:
    threshold, graded = _tensor(m, "threshold"), _tensor(m, "graded_spikes_factor")
    coefficients = {"threshold": _scalar(threshold), "graded": _scalar(graded)}
    if name == "Lapicque":
        rate = 1 / (m.R * m.C)
        coefficients |= {"resistance": _scalar(m.R), "rate": _scalar(rate), "time_step": _scalar(m.time_step)}
        coefficients["decay"] = _decay(m, name)
    else:
        coefficients["beta"] = _clamped(_tensor(m, "beta"))
    if "alpha" in _TENSORS[name]:
        coefficients["alpha"] = _clamped(_tensor(m, "alpha"))
    if name == "Alpha":
        alpha, beta = torch.log(m.alpha.clamp(0, 1)), torch.log(m.beta.clamp(0, 1))
        coefficients["tau"] = _scalar(alpha / (beta - alpha) + 1)
    if name in _WEIGHTED:
        coefficients["weight"] = _scalar(weight)
    return Defined(defined(_DEFINED[name], options), coefficients)


def lif_state(module: nn.Module, arguments: dict[str, Any], states: Sequence[Tensor]) -> LIFState:
    """Return the state of :func:`hnn_kernels.lif` that continues from the states of the module, in :data:`STATES`."""
    *synapse, potential = states
    dtype = state_dtype(potential.dtype)
    v = potential.to(dtype).contiguous()
    fired = (potential > arguments["threshold"]).detach()
    r = torch.zeros_like(v)
    if arguments["reset"] == "filter":
        r = fired.to(dtype)
    elif arguments["reset"] == "zero":
        v = torch.where(fired, r, v)
    history = None
    if arguments["synapse"] is not None:
        history = torch.stack([s.to(dtype) for s in synapse]) if synapse else v.new_empty((0, *v.shape))
    return LIFState(v, r, history)


def run(
    module: nn.Module,
    current: Tensor,
    steps: int | None,
    states: Sequence[Tensor] | None,
    train: Sequence[bool],
) -> list[Tensor] | str:
    """Run a module over a train, or over ``steps`` steps of a constant current.

    ``states`` are those before the first step, in :data:`STATES`; None for zeros.

    Returns:
        The spikes, then the states: over all steps where ``train`` says so, else after the last step. Or the reason why
        only the module's own steps are exact.
    """
    arguments = arguments_of(module, any(train[1:]))
    if isinstance(arguments, str):
        return arguments
    if isinstance(arguments, Defined):
        return _run_defined(module, arguments, current, steps, states, train)
    if not _fits(arguments, current, steps):
        return "a coefficient has more axes than the features have"
    m: Any = module
    threshold = arguments["threshold"]
    if states is None and (isinstance(threshold, Tensor) or threshold < 0):
        # Zeros are above a threshold below zero, which lif's own zero state is not taken to be.
        zeros = torch.zeros_like(current if steps is not None else current[0])
        states = [zeros] * len(STATES[known(module) or ""])
    immediate = arguments["reset"] == "zero" and arguments["reset_grad"] == "full"
    if immediate and states is not None and bool((states[-1] > threshold).any()):
        return "a state is above the threshold, where reset_delay=False has left none"
    spike_dtype, *kept = dtypes(module, known(module) or "", current, states)
    dtype = _widest(kept)
    arguments = {name: _cast(value, dtype) for name, value in arguments.items()}
    current = current.to(dtype)
    state = None if states is None else lif_state(module, arguments, [s.to(dtype) for s in states])
    *_, whole = train
    # What snnTorch keeps after a delayed reset to zero is the potential before it, which is no part of lif's state.
    read = whole or (arguments["reset"] == "zero" and not immediate)
    out, after = lif(
        current, steps=steps, state=state, potential="train" if read else "none", return_state=True, **arguments
    )
    assert after is not None
    spikes, potential = out if read else (out, None)
    if immediate and whole:
        potential = potential - spikes * potential
    last: Any = potential
    if not whole:
        # A tensor of its own, since snnTorch detaches what it keeps in place.
        last = after.v.to(dtype) if potential is None or immediate else potential[-1].clone()
    found: list[Any] = [_graded(m, spikes.to(torch.float32), spike_dtype), last.to(kept[-1])]
    if after.synapse is not None and after.synapse.shape[0]:
        if train[1]:
            filtered = current if steps is None else current.expand(steps, *current.shape)
            history = None if state is None else state.synapse
            synapse = iir(filtered, *arguments["synapse"], state=history, return_state=False)[0]
        else:
            synapse = after.synapse[0]
        found.insert(1, synapse.to(kept[0]))
    return found


def _run_defined(
    module: nn.Module,
    given: Defined,
    current: Tensor,
    steps: int | None,
    states: Sequence[Tensor] | None,
    train: Sequence[bool],
) -> list[Tensor] | str:
    name = known(module) or ""
    kept = dtypes(module, name, current, states)
    dtype = _widest(kept[1:])
    whole = current if steps is None else current[None]
    why = unfit_coefficients(whole, given.coefficients)
    if why:
        return why
    names = STATES[name]
    before = [torch.zeros_like(whole[0], dtype=dtype)] * len(names) if states is None else states
    (spikes, *recorded), after = run_defined(given, current.to(dtype), before, steps)
    found = [spikes, *(recorded[i] if train[i + 1] else after[i] for i in range(len(names)))]
    return [value.to(to) for value, to in zip(found, kept, strict=True)]


def keep(module: nn.Module, names: Sequence[str], x: Tensor, given: Mapping[str, Any]) -> None:
    """Keep the states that a call is given, and zeros in the place of those of another shape, as the library does.

    Raises:
        TypeError: states are given to a module that has its own.
    """
    m: Any = module
    kept = m._buffers
    for name, value in given.items():
        if value is not None:
            if m.init_hidden:
                raise TypeError(f"`{name}` should not be passed as an argument while `init_hidden=True`")
            kept[name] = value
    for name in names:
        if kept[name].shape != x.shape:
            kept[name] = torch.zeros_like(x, device=kept[name].device)


def one_step(module: nn.Module, name: str, given: Defined, x: Tensor) -> list[Tensor]:
    """Compute the step of a module with what it keeps; return the spikes and the states, which it keeps then.

    It also writes the attribute ``reset``, where the library leaves which potentials were above the threshold before.
    """
    m: Any = module
    names = STATES[name]
    before = [m._buffers[one] for one in names]
    above = torch.empty(x.shape, dtype=torch.float32, device=before[-1].device)
    # Written to floats the comparison takes a ninth of the time, since bools have no fast path.
    m.reset = torch.gt(before[-1].detach(), _tensor(m, "threshold").detach(), out=above)
    if name in _WEIGHTED:
        before[0] = m.recurrent(before[0])
    kept = dtypes(module, name, x, before)
    widest = _widest(kept[1:])
    (spikes,), after = run_defined(given, x if x.dtype is widest else x.to(widest), before, 1)
    found = [without_time(spikes), *after]
    found = [one if one.dtype is dtype else one.to(dtype) for one, dtype in zip(found, kept, strict=True)]
    m._buffers.update(zip(names, found[1:], strict=True))
    return found


def result(module: nn.Module, names: Sequence[str], found: Sequence[Tensor]) -> Any:
    """Return what a call of a module returns, of the spikes and the states of its step."""
    m: Any = module
    found = found[1:] if names[0] == "spk" else found  # the spikes are a state then
    return found[0] if m.init_hidden and not m.output else tuple(found)


def dtypes(module: nn.Module, name: str, x: Tensor, states: Sequence[Tensor] | None) -> list[torch.dtype]:
    """Return the dtypes of the spikes and of each state behind a step: those that snnTorch's arithmetic comes to."""
    m: Any = module
    single, names = torch.float32, STATES[name]  # a spike is float32, whatever the potential is
    spikes = _promoted(single, _tensor(m, "graded_spikes_factor"))
    own = [_tensor(m, one) for one in _TENSORS[name]]
    kept_before = [x] * len(names) if states is None else states
    if x.dtype is single and _promoted(single, *own, *kept_before) is single:
        return [spikes, *([single] * len(names))]
    tensors = dict(zip((*_TENSORS[name], *names), (*own, *kept_before), strict=True))
    threshold = tensors.pop("threshold")
    back = []
    if name in _WEIGHTED:
        back = [tensors.pop("spk"), *([] if m.all_to_all else [m.V])]
    kept = {"spk": spikes, "mem": _promoted(x.dtype, *tensors.values(), *back)}
    for one, decay in _SYNAPSES.get(name, {}).items():
        kept[one] = _promoted(x.dtype, tensors[decay], tensors[one], *back)
    # What is taken off in place changes no dtype. Otherwise a spike does, which has all axes.
    in_place = name in ("Alpha", "RSynaptic") or (name == "Synaptic" and m._reset_mechanism == "zero" and m.reset_delay)
    if m._reset_mechanism != "none" and not in_place:
        kept["mem"] = _promoted(torch.promote_types(kept["mem"], single), threshold)
    return [spikes, *(kept[one] for one in names)]


def _tensor(m: Any, name: str) -> Tensor:
    """Return a parameter or a buffer; the look-up of a module takes longer."""
    found = m._buffers.get(name)
    return getattr(m, name) if found is None else found


def _promoted(dtype: torch.dtype, *tensors: Tensor) -> torch.dtype:
    """Return the dtype of a sum; a tensor without axes is a number, which changes none."""
    for tensor in tensors:
        if tensor.dtype is not dtype and tensor.dim():
            dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype


def _widest(dtypes: Sequence[torch.dtype]) -> torch.dtype:
    return functools.reduce(torch.promote_types, dtypes)


def _graded(m: Any, spikes: Tensor, dtype: torch.dtype) -> Tensor:
    factor = m.graded_spikes_factor
    if not factor.requires_grad and not factor.dim() and factor.device.type == "cpu" and float(factor) == 1:
        return spikes
    return (spikes * factor).to(dtype)


def _decay(m: Any, name: str) -> float | Tensor:
    if name == "Lapicque":
        return _scalar(1 - m.time_step / (m.R * m.C))
    return _clamped(m.beta)


def _clamped(decay: Tensor) -> float | Tensor:
    value = _scalar(decay)
    return value.clamp(0, 1) if isinstance(value, Tensor) else min(max(value, 0.0), 1.0)


def _scalar(value: float | Tensor) -> float | Tensor:
    """Return a coefficient: a float where that costs no wait for a device and drops no gradient."""
    if not isinstance(value, Tensor) or value.numel() != 1:
        return value
    # A graph has no floats of a tensor.
    if value.requires_grad or not value.is_cpu or torch.compiler.is_compiling():
        return value.reshape(()) if value.dim() else value
    return float(value)


def _cast(value: Any, dtype: torch.dtype) -> Any:
    if isinstance(value, IIR):
        return IIR(*([_cast(v, dtype) for v in side] for side in value))
    return value.to(state_dtype(dtype)) if isinstance(value, Tensor) else value


def _fits(arguments: dict[str, Any], current: Tensor, steps: int | None) -> bool:
    """Tell if the current has a batch, so that its features are those of the coefficients."""
    features = current.dim() - (2 if steps is None else 1)
    values = [arguments["decay"], arguments["threshold"]]
    if arguments["synapse"] is not None:
        values += [value for side in arguments["synapse"] for value in side]
    return features >= 0 and all(v.dim() <= features for v in values if isinstance(v, Tensor))
