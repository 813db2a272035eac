"""The neurons of snnTorch 1.x as calls of :func:`hnn_kernels.lif`.

Its neurons fire above the threshold, and by default a spike resets the potential at the next step and gives the reset
no gradient: V[t] = beta V[t-1] + x[t] - threshold O[t-1]. What they keep from one step to the next is V *before* that
reset. This file reads their options when a call runs, so a change of an option takes effect at the next call.
"""

import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..filters import IIR
from ..functional import iir, lif
from ..state import LIFState, state_dtype

# By class: the names of the states, as a call takes and returns them.
STATES = {"Leaky": ("mem",), "Lapicque": ("mem",), "Synaptic": ("syn", "mem"), "Alpha": ("syn_exc", "syn_inh", "mem")}
_EXPRESSED = ("Leaky", "Lapicque", "Synaptic")
_OTHERS = ("RLeaky", "RSynaptic", "SLSTM", "SConv2dLSTM", "LeakyParallel", "StateLeaky", "LinearLeaky")

# By the function that makes it, from its argument: a surrogate's name, width and scale.
_SURROGATES: dict[str, Callable[..., tuple[str, float, float]]] = {
    "atan": lambda alpha: ("arctan", 2 / (math.pi * alpha), 1.0),
    "fast_sigmoid": lambda slope: ("fast_sigmoid", 1 / slope, 2 / slope),  # its peak is 1, whatever the slope
    "sigmoid": lambda slope: ("sigmoid", 1 / slope, 1.0),
}


def known(module: nn.Module) -> str | None:
    """Return the name of the module's class if snnTorch has it among its neurons, else None."""
    package = sys.modules.get("snntorch")
    kind = getattr(type(module), "_hnn_original", type(module))  # the class that another one has taken the place of
    name = kind.__name__
    if package is None or getattr(package, name, None) is not kind:
        return None
    return name if name in STATES or name in _OTHERS else None


def lif_arguments(module: nn.Module) -> dict[str, Any] | str:
    """Return the arguments of :func:`hnn_kernels.lif` that a neuron of snnTorch has, or why there are none.

    They give the spikes, and the potentials before a reset. :func:`lif_state` makes the state.
    """
    name = known(module)
    if name not in _EXPRESSED:
        return f"{name or type(module).__name__} of snnTorch is no neuron that lif can express"
    version = str(getattr(sys.modules["snntorch"], "__version__", "0"))
    if version.split(".")[0] != "1":
        return f"snnTorch {version} is not known; 1.x is"
    m: Any = module
    if m.inhibition:
        return "inhibition=True lets one neuron of a layer fire"
    if m.state_quant:
        return "state_quant rounds the potential"
    surrogate = _surrogate(m.spike_grad)
    if surrogate is None:
        return "spike_grad is not one of " + ", ".join(f"surrogate.{made}()" for made in _SURROGATES)
    reset = m.reset_mechanism
    immediate = not getattr(m, "reset_delay", True)
    if _handlers(m) != reset:
        return "reset_mechanism was changed after the neuron was made, which snnTorch follows in part"
    if reset == "zero" and name != "Leaky" and not immediate:
        return f"reset_mechanism='zero' of {name} drops the input of the step after a spike"
    if reset == "subtract" and immediate:
        return "reset_delay=False with reset_mechanism='subtract' resets by the spike's change"
    decay, synapse = _decay(m, name), None
    if name == "Synaptic":
        synapse = IIR((_scalar(m.alpha.clamp(0, 1)),), (1.0,))
    elif name == "Lapicque":
        synapse = IIR((), (_scalar(m.R * (1 / (m.R * m.C)) * m.time_step),))
    filtered = reset == "subtract"
    return {
        "decay": decay,
        "reset_decay": 0.0 if filtered else None,
        "threshold": _scalar(m.threshold),
        "synapse": synapse,
        "reset": "filter" if filtered else reset,
        "reset_grad": "full" if immediate or reset == "none" else "detach",
        "surrogate": surrogate[0],
        "sigma": surrogate[1],
        "surrogate_scale": surrogate[2],
        "tie_fires": False,
    }


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
    arguments = lif_arguments(module)
    if isinstance(arguments, str):
        return arguments
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
    dtype, spike_dtype = dtypes(module, current, states)
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
    last = potential
    if not whole:
        # A tensor of its own, since snnTorch detaches what it keeps in place.
        last = after.v.to(dtype) if potential is None or immediate else potential[-1].clone()
    found: list[Any] = [_graded(m, spikes.to(torch.float32), spike_dtype), last]
    if after.synapse is not None and after.synapse.shape[0]:
        if train[1]:
            filtered = current if steps is None else current.expand(steps, *current.shape)
            history = None if state is None else state.synapse
            synapse = iir(filtered, *arguments["synapse"], state=history, return_state=False)[0]
        else:
            synapse = after.synapse[0].to(dtype)
        found.insert(1, synapse)
    return found


def dtypes(module: nn.Module, current: Tensor, states: Sequence[Tensor] | None) -> tuple[torch.dtype, torch.dtype]:
    """Return the dtype of the states, and of the spikes: those that snnTorch's arithmetic comes to."""
    m: Any = module
    # A spike is float32 whatever the potential is, and the reset that it makes has all axes.
    kept = current.dtype if m.reset_mechanism == "none" else torch.promote_types(current.dtype, torch.float32)
    names = ("beta", "threshold", "alpha", "R", "C", "time_step")
    tensors = [*(getattr(m, name, None) for name in names), *(states or ())]
    for tensor in tensors:
        if isinstance(tensor, Tensor) and tensor.dim():
            kept = torch.promote_types(kept, tensor.dtype)
    factor = m.graded_spikes_factor
    return kept, torch.promote_types(torch.float32, factor.dtype) if factor.dim() else torch.float32


def _graded(m: Any, spikes: Tensor, dtype: torch.dtype) -> Tensor:
    factor = m.graded_spikes_factor
    if not factor.requires_grad and not factor.dim() and factor.device.type == "cpu" and float(factor) == 1:
        return spikes
    return (spikes * factor).to(dtype)


def _decay(m: Any, name: str) -> float | Tensor:
    if name == "Lapicque":
        return _scalar(1 - m.time_step / (m.R * m.C))
    return _scalar(m.beta.clamp(0, 1))


def _scalar(value: Tensor) -> float | Tensor:
    """Return a coefficient: a float where that costs no wait for a device and drops no gradient."""
    if value.numel() == 1 and not value.requires_grad and value.device.type == "cpu":
        return float(value)
    return value.reshape(()) if value.numel() == 1 else value


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


def _handlers(m: Any) -> str | None:
    """Return the reset of the function that the module updates its potential with."""
    names = {"_base_sub": "subtract", "_base_zero": "zero", "_base_int": "none"}
    return names.get(getattr(m.state_function, "__name__", ""))


def _surrogate(function: Any) -> tuple[str, float, float] | None:
    """Return the surrogate that a function of snnTorch's stands for: its name, its width and its scale."""
    made = getattr(function, "__qualname__", "").removesuffix(".<locals>.inner")
    if getattr(function, "__module__", "") != "snntorch.surrogate" or made not in _SURROGATES:
        return None
    (argument,) = (cell.cell_contents for cell in function.__closure__)
    if isinstance(argument, Tensor) or not argument > 0:
        return None
    return _SURROGATES[made](float(argument))
