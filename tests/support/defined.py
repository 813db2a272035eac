"""Neurons by definition, inputs for them, and their results and gradients by name."""

import torch
from torch import Tensor

import hnn_kernels
from hnn_kernels import fire, neuron, neurons
from hnn_kernels._define.layer import Neuron
from hnn_kernels.state import state_dtype
from support.comparisons import as_good_as_the_loop, close, same_numbers
from support.targets import Target


def lif(reset: str, surrogate: str = "gaussian", sigma: float = 0.4) -> Neuron:
    """The built-in layer with a reset, by its definition."""

    @neuron(states=("v", "r"))
    def by_filter(x, v, r, *, decay, reset_decay, threshold=1.0):
        v = decay * v + x - threshold * r
        spike = fire(v - threshold, surrogate, sigma)
        return spike, (v, reset_decay * r + spike)

    @neuron(states=("v",))
    def by_threshold(x, v, *, decay, threshold=1.0):
        v = decay * v + x
        spike = fire(v - threshold, surrogate, sigma)
        return spike, v - threshold * spike

    @neuron(states=("v",))
    def to_zero(x, v, *, decay, threshold=1.0):
        v = decay * v + x
        spike = fire(v - threshold, surrogate, sigma)
        return spike, v * (1 - spike)

    @neuron(states=("v",))
    def never(x, v, *, decay, threshold=1.0):
        v = decay * v + x
        return fire(v - threshold, surrogate, sigma), v

    return {"filter": by_filter, "subtract": by_threshold, "zero": to_zero, "none": never}[reset]


@neuron(states=("v", "a"))
def adaptive(x, v, a, *, decay, beta, rho):
    """Two states, and two outputs: the spike and the potential before its reset."""
    v = decay * v + x
    spike = fire(v - (1 + beta * a), "arctan", 0.3)
    return (spike, v), (v - spike, rho * a + spike)


@neuron(states=("v", "w", "age"))
def strange(x, v, w, age, *, gain, tau=4.0, rest=-0.2):
    """Most of the operations that a step may have."""
    drive = torch.where((x > 0.5) & ~(age < 1), gain * x, x.clamp(-1, 2))
    v = v + (torch.tanh(drive) + torch.exp(-(v**2)) - (v - rest)) / tau
    spike = fire(v - torch.maximum(w, 0.3 * torch.ones_like(w)).detach(), "triangle", 0.8)
    w = torch.sigmoid(w) * 0.5 + spike * abs(v) - 0.1 / (2 + w * w)
    kept = torch.minimum(v, torch.sqrt(1 + w * w))
    return (spike - 0.25 * (v >= 0.2), w), (kept * (1 - spike), w, age + 1 - spike * age)


@neuron(states=("last",))
def delay(x, last):
    """No coefficient, and a state that is the input."""
    return last, x


# By name: a neuron, and the coefficients that a test gives it.
NEURONS: dict[str, tuple[Neuron, dict[str, tuple[float, float]]]] = {
    "lif": (lif("filter"), {"decay": (0.5, 0.9), "reset_decay": (0.3, 0.8), "threshold": (0.7, 1.2)}),
    "adaptive": (adaptive, {"decay": (0.5, 0.9), "beta": (0.1, 0.4), "rho": (0.5, 0.9)}),
    "strange": (strange, {"gain": (0.7, 1.3), "rest": (-0.4, 0.4)}),
    "delay": (delay, {}),
}
# Neurons whose spikes depend on functions that no two libraries round alike.
ROUNDED = ("strange",)


def inputs(name: str, shape=(6, 2, 3, 5), *, dtype=torch.float32, kind="float", state=False, steps=None, seed=0):
    """The arguments of a neuron: ``[T, B, C, H]``, or ``[B, C, H]`` with steps. ``kind`` is that of coefficients."""
    generator = torch.Generator().manual_seed(seed)
    layer, bounds = NEURONS[name]
    features = shape[1:] if steps is not None else shape[2:]
    wide = state_dtype(dtype)
    x = (0.6 * torch.randn(shape, generator=generator, dtype=torch.float64) + 0.4).to(dtype)
    arguments: dict = {"x": x, "steps": steps}
    per_channel = (*features[:1], *(1,) * (len(features) - 1))
    size = {"float": (), "layer": (), "channel": per_channel, "neuron": features}[kind]
    for coefficient, (low, high) in bounds.items():
        values = low + (high - low) * torch.rand(size, generator=generator, dtype=torch.float64)
        values = values.float().to(wide)
        arguments[coefficient] = values.item() if kind == "float" else values
    if state:
        batch = shape if steps is not None else shape[1:]
        arguments["state"] = tuple(
            (0.5 * torch.randn(batch, generator=generator, dtype=torch.float64)).to(wide) for _ in layer.states
        )
    return arguments


def _called(layer: Neuron, arguments: dict, backend: str, **options) -> dict[str, Tensor]:
    out, state = layer(**arguments, backend=backend, **options)
    outputs = out if isinstance(out, tuple) else (out,)
    found = {f"output {i}": value for i, value in enumerate(outputs)}
    return found | dict(zip(layer.states, state or (), strict=False))


def results(layer: Neuron, arguments: dict, target: Target | str, **options) -> dict[str, Tensor]:
    """The results of a call by name, on the CPU. A backend alone computes there."""
    backend, device = target if isinstance(target, Target) else (target, "cpu")
    found = _called(layer, on(device, arguments), backend, **options)
    return {name: value.cpu() for name, value in found.items()}


def leaves(layer: Neuron, arguments: dict) -> dict[str, Tensor]:
    """The tensors that a call is differentiated by, by name."""
    found = {name: value for name, value in arguments.items() if isinstance(value, Tensor)}
    return found | {f"state {n}": v for n, v in zip(layer.states, arguments.get("state") or (), strict=False)}


def replaced(layer: Neuron, arguments: dict, new: dict[str, Tensor]) -> dict:
    """The arguments with other tensors in the places of :func:`leaves`."""
    found = {name: new.get(name, value) for name, value in arguments.items()}
    if arguments.get("state"):
        found["state"] = tuple(new[f"state {name}"] for name in layer.states)
    return found


def gradients(layer: Neuron, arguments: dict, target: Target | str, *, through=None, **options) -> dict[str, Tensor]:
    """The gradients of every tensor, for a random cotangent of each result (or of those in ``through``)."""
    backend, device = target if isinstance(target, Target) else (target, "cpu")
    arguments = on(device, arguments)
    new = {name: value.detach().requires_grad_() for name, value in leaves(layer, arguments).items()}
    returned = _called(layer, replaced(layer, arguments, new), backend, **options)
    generator = torch.Generator().manual_seed(1)
    incoming = {
        name: torch.randn(value.shape, generator=generator, dtype=torch.float64).to(value)
        for name, value in returned.items()
    }
    live = [name for name in returned if returned[name].requires_grad and (through is None or name in through)]
    found = torch.autograd.grad(
        [returned[name] for name in live], list(new.values()), [incoming[name] for name in live], allow_unused=True
    )
    return {
        name: (torch.zeros_like(leaf) if g is None else g).cpu()
        for (name, leaf), g in zip(new.items(), found, strict=True)
    }


def on(device: str, arguments: dict) -> dict:
    """The same arguments on a device, each tensor with its strides."""

    def moved(value):
        if isinstance(value, tuple):
            return tuple(map(moved, value))
        if not isinstance(value, Tensor) or value.device.type == device:
            return value
        if value.is_contiguous():
            return value.to(device)
        extent = 1 + sum((n - 1) * s for n, s in zip(value.shape, value.stride(), strict=True)) if value.numel() else 0
        return value.as_strided((extent,), (1,)).to(device).as_strided(value.shape, value.stride())

    return {name: moved(value) for name, value in arguments.items()}


def in_double(arguments: dict) -> dict:
    """The same numbers in float64."""

    def widen(value):
        if isinstance(value, tuple):
            return tuple(map(widen, value))
        return value.detach().double() if isinstance(value, Tensor) else value

    return {name: widen(value) for name, value in arguments.items()}


def same(target: Target, name: str, got: dict, expected: dict) -> None:
    """Check the results of a neuron."""
    assert got.keys() == expected.keys()
    for what, value in got.items():
        if name in ROUNDED:
            close(value, expected[what], f"{name}: {what}")
        else:
            same_numbers(target, value, expected[what], f"{name}: {what}")


def hold(target: Target, name: str, arguments: dict, **options) -> None:
    """Check results and gradients of the kernel against the reference."""
    layer, _ = NEURONS[name]
    same(target, name, results(layer, arguments, target, **options), results(layer, arguments, "reference", **options))
    got, loop = (gradients(layer, arguments, backend, **options) for backend in (target, "reference"))
    if name in ROUNDED:
        # A step there may fall on the other side in float64, so the loop is the truth.
        for what, value in got.items():
            torch.testing.assert_close(value, loop[what], rtol=2e-2, atol=2e-2 if value.dtype.itemsize == 2 else 1e-4)
    else:
        as_good_as_the_loop(got, loop, gradients(layer, in_double(arguments), "reference", **options))


def built_in(arguments: dict, reset: str, **options):
    """The built-in layer of the same arguments."""
    given = {name: value for name, value in arguments.items() if name not in ("x", "state")}
    state = arguments.get("state")
    if state is not None:
        zero = torch.zeros_like(state[0])
        given["state"] = hnn_kernels.LIFState(state[0], state[1] if reset == "filter" else zero)
    return hnn_kernels.lif(arguments["x"], **given, reset=reset, **options)


# -- the field's neurons -----------------------------------------------------------------------------------------------

# Those whose spikes depend on functions that two libraries may round apart.
FIELD_ROUNDED = ("plif", "clif", "eif", "adex", "resonate_and_fire")
# What makes each neuron fire often: the scale and the mean of its input.
DRIVE = {
    "izhikevich": (15.0, 10.0), "lsnn": (1.0, 1.5), "multi_spike": (1.0, 1.0), "adex": (1.0, 1.2), "qif": (0.8, 0.8),
}  # fmt: skip


def driven(name: str, shape=(40, 3, 50), dtype=torch.float32, coefficients=False) -> dict:
    """An input that makes a neuron of ``hnn_kernels.neurons`` fire often, and a tensor for each of its coefficients."""
    scale, mean = DRIVE.get(name, (0.6, 0.4))
    generator = torch.Generator().manual_seed(3)
    x = (scale * torch.randn(shape, generator=generator, dtype=torch.float64) + mean).to(dtype)
    defaults = getattr(neurons, name).coefficients if coefficients else {}
    # Tensors, so that all of the adjoint is there.
    return {"x": x, "steps": None} | {c: torch.full(shape[-1:], value, dtype=dtype) for c, value in defaults.items()}


def hold_results_of_the_field(target: Target, name: str, shape=(40, 3, 50)) -> None:
    """Check spikes and states of a neuron of ``hnn_kernels.neurons`` against the reference."""
    layer, arguments = getattr(neurons, name), driven(name, shape, coefficients=True)
    expected = results(layer, arguments, "reference")
    for what, value in results(layer, arguments, target).items():
        if name in FIELD_ROUNDED:
            different = (value - expected[what]).abs() > 1e-4 * (1 + expected[what].abs())
            assert different.float().mean() < 1e-3, what
        else:
            assert torch.equal(value, expected[what]), what


def hold_gradients_of_the_field(target: Target, name: str) -> None:
    """Check the gradients of a neuron of ``hnn_kernels.neurons`` against the loop's, in float64."""
    layer, arguments = getattr(neurons, name), driven(name, (12, 2, 9), torch.float64, coefficients=True)
    loop = gradients(layer, arguments, "reference")
    for what, value in gradients(layer, arguments, target).items():
        scale = loop[what].abs().max().item()
        torch.testing.assert_close(value, loop[what], rtol=1e-9, atol=1e-12 * max(scale, 1), msg=what)
