"""Inputs of a layer, and calls with them: results and gradients by name."""

import itertools

import torch
from torch import Tensor

import hnn_kernels
from hnn_kernels import IIR, LIFState
from hnn_kernels._layer import COEFFICIENTS, FILTER_COEFFICIENTS, RESET_GRADS, RESETS, TENSORS
from hnn_kernels.state import state_dtype

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
LOW = (torch.bfloat16, torch.float16)
FILTERS = ("synapse", "axon")
RESULTS = ("out", "potential", "v", "r", "synapse_state", "axon_state")
WIDTHS = (0.05, 0.4, 3.0)  # of surrogates
RESETS_AND_GRADS = [(r, g) for r in RESETS for g in RESET_GRADS if r == "filter" or g != "one_step"]
RESET_OF = {"reset_decay": "filter", "reset_potential": "zero"}  # coefficients that one reset alone has
PARAMETERS = (*COEFFICIENTS, *FILTER_COEFFICIENTS)
KINDS = ("float", "scalar", "channel", "neuron", "mixed")
THROUGH = [s for n in (1, 2, 3) for s in itertools.combinations(("out", "v", "r"), n)]


def reset_of(name: str) -> str:
    """The reset of a layer that has the tensor ``name``."""
    return RESET_OF.get(name, "filter")


def representable(value: float) -> float:
    """``value`` rounded to float32, so that a float64 run can be given the very number a float32 run computes with."""
    return torch.tensor(value, dtype=torch.float32).item()


def _coefficients(bounds, form: str, features, generator, dtype, device) -> Tensor | list[float]:
    """One random number between each pair of ``bounds``, or one per channel, neuron or element of the last axis."""
    per_channel = (*features[:1], *(1,) * (len(features) - 1))
    size = {"channel": per_channel, "neuron": features, "row": features[-1:]}.get(form, ())
    low, high = torch.tensor(bounds, dtype=torch.float64).reshape(len(bounds), 2, *(1,) * len(size)).unbind(1)
    values = low + (high - low) * torch.rand((len(bounds), *size), generator=generator, dtype=torch.float64)
    return [representable(x.item()) for x in values] if form == "float" else values.to(device, torch.float32).to(dtype)


def inputs(
    shape=(6, 2, 3, 5), *, dtype=torch.float32, device="cpu", kind="float", state=False, steps=None, seed=0,
    reset="filter", synapse=None, axon=None, membrane=True,
) -> dict:  # fmt: skip
    """Arguments of ``lif`` whose spikes come about three times in ten: ``[T, B, C, H]``, or ``[B, C, H]`` with steps.

    ``kind`` is the form of the coefficients; "mixed" has floats, some per channel and some per neuron, and "row" is a
    value per element of the last axis, of fewer axes than the features. ``synapse`` and ``axon`` are the orders (P, Q)
    of a filter. Without a ``membrane`` they are the arguments of ``iir``, in the form in which :func:`run` takes them.
    """
    generator = torch.Generator().manual_seed(seed)
    wide = state_dtype(dtype)
    features = shape[1:] if steps is not None else shape[2:]
    current = 0.6 * torch.randn(shape, generator=generator, dtype=torch.float64) + 0.4
    current = current.to(wide).to(device, dtype)  # in one step, kinds of processors round to float16 differently
    arguments = {"current": current, "steps": steps}
    if membrane:
        forms = ("float", "channel", "neuron") if kind == "mixed" else (kind,) * 3
        ranges = ((0.5, 0.9), (0.3, 0.8), (0.7, 1.2))
        for name, bounds, form in zip(COEFFICIENTS, ranges, forms, strict=False):
            (arguments[name],) = _coefficients([bounds], form, features, generator, wide, device)
        arguments["reset"] = reset
        if reset != "filter":
            arguments["reset_decay"] = None
        if reset == "zero":
            form = "channel" if kind == "mixed" else kind
            (arguments["reset_potential"],) = _coefficients(
                [(-0.4, 0.4)], form, features, torch.Generator().manual_seed(seed), wide, device
            )
    batch = shape if steps is not None else shape[1:]
    v = r = None
    if state and membrane:
        v, r = (torch.randn(batch, generator=generator).to(device, wide) * scale for scale in (0.5, 0.3))
    histories = []
    forms = iter(("float", "channel", "neuron", "float") if kind == "mixed" else (kind,) * 4)
    for name, orders in (("synapse", synapse), ("axon", axon)):
        p, q = orders or (0, 0)
        # The sum of the feedback's sizes is below 1, so that the filter is stable.
        feedback = [(0.3, 0.5), *[(-0.2, 0.2)] * (p - 1)][:p]
        feedforward = [(0.5, 0.8) if p else (0.9, 1.2), *[(-0.3, 0.3)] * q]
        parts = [_coefficients(b, next(forms), features, generator, wide, device) for b in (feedback, feedforward)]
        history = 0.3 * torch.randn((p + q, *batch), generator=generator).to(device, wide)
        histories.append(history if orders and state else None)
        if orders:
            arguments[name] = IIR(*parts)
    if state:
        arguments["state"] = LIFState(v, r, *histories)
    return arguments


def in_double(arguments: dict) -> dict:
    """The same numbers in float64."""

    def widen(value):
        if isinstance(value, LIFState | IIR):
            return type(value)(*map(widen, value))
        return value.detach().double() if isinstance(value, Tensor) else value

    return {name: widen(value) for name, value in arguments.items()}


def _named(arguments: dict) -> dict:
    """Everything that has a name in :data:`hnn_kernels._layer.TENSORS`, be it a tensor or not."""
    state = arguments.get("state") or LIFState(None, None)
    named = {"current": arguments["current"], "v": state.v, "r": state.r}
    named |= {name: arguments.get(name) for name in COEFFICIENTS}
    for name in FILTERS:
        feedback, feedforward = arguments.get(name) or (None, None)
        named |= {f"{name}_feedback": feedback, f"{name}_feedforward": feedforward}
        named[f"{name}_state"] = getattr(state, name)
    return named


def tensors(arguments: dict) -> dict[str, Tensor]:
    """The tensors among the arguments, by the names that gradients have."""
    named = _named(arguments)
    return {name: named[name] for name in TENSORS if isinstance(named[name], Tensor)}


def replace(arguments: dict, **new: Tensor) -> dict:
    """The arguments with the tensors of these gradient names put in."""
    assert new.keys() <= set(TENSORS)
    named = _named(arguments) | new
    result = {name: named.get(name, value) for name, value in arguments.items()}
    for name in FILTERS:
        if result.get(name):
            result[name] = IIR(named[f"{name}_feedback"], named[f"{name}_feedforward"])
    if result.get("state"):
        result["state"] = LIFState(named["v"], named["r"], named["synapse_state"], named["axon_state"])
    return result


def without_axon(arguments: dict) -> dict:
    """The same layer without its axon, whose output is its spikes."""
    state = arguments.get("state")
    return {**arguments, "axon": None, "state": state and state._replace(axon=None)}


def run(arguments: dict, backend: str, **options) -> tuple[Tensor, LIFState | None]:
    """Call ``lif``; or ``iir``, if the arguments are nothing but a synapse."""
    if "decay" in arguments:
        return hnn_kernels.lif(**arguments, **options, backend=backend)
    state = arguments.get("state")
    out, after = hnn_kernels.iir(
        arguments["current"], *arguments["synapse"], state=state and state.synapse, backend=backend, **options
    )
    return out, None if after is None else LIFState(None, None, after)


def results(out: Tensor | tuple[Tensor, Tensor], state: LIFState | None) -> dict[str, Tensor]:
    """The results of a call, by the operators' names. A potential that is alone has the name of the spikes."""
    everything = (*(out if isinstance(out, tuple) else (out, None)), *(state or [None] * 4))
    return {name: value for name, value in zip(RESULTS, everything, strict=True) if value is not None}


def cotangents(returned: dict[str, Tensor], seed: int = 1) -> dict[str, Tensor]:
    """Random gradients of the results, the same for every backend."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(result.shape, generator=generator, dtype=torch.float64).to(result.device, result.dtype)
        for name, result in returned.items()
    }


def gradients(arguments: dict, backend: str, *, through=RESULTS, wanted=None, seed=1, **options) -> dict:
    """The gradients of ``wanted`` (default: of every tensor) for a random cotangent of each result in ``through``."""
    names = list(tensors(arguments)) if wanted is None else list(wanted)
    leaves = {name: tensors(arguments)[name].detach().requires_grad_() for name in names}
    returned = results(*run(replace(arguments, **leaves), backend, **options))
    incoming = cotangents(returned, seed)
    # With no step, or with nothing that connects them, a result may depend on no leaf.
    live = [name for name in through if name in returned and returned[name].requires_grad]
    found = torch.autograd.grad(
        [returned[name] for name in live], list(leaves.values()), [incoming[name] for name in live], allow_unused=True
    )
    return {
        name: torch.zeros_like(leaf) if g is None else g for (name, leaf), g in zip(leaves.items(), found, strict=True)
    }


def in_pieces(arguments, backend, cuts, **options):
    """Run one call after another, each from the state of the last. Return all trains, and the last state."""
    state, trains = arguments.get("state"), []
    current, steps = arguments["current"], arguments["steps"]
    length = current.shape[0] if steps is None else steps
    for start, end in zip((0, *cuts), (*cuts, length), strict=True):
        piece = {"current": current[start:end]} if steps is None else {"steps": end - start}
        out, state = run({**arguments, **piece, "state": state}, backend, **options)
        trains.append(out)
    return trains, state


def everything(arguments, backend):
    return {
        **{f"result {name}": value for name, value in results(*run(arguments, backend)).items()},
        **gradients(arguments, backend),
    }
