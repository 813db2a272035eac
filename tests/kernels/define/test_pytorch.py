"""Defined neurons in torch's own machinery: compilers, transforms, tracers."""

import pytest
import torch

from hnn_kernels._define.call import Call
from hnn_kernels._define.operator import forward_ops
from support.comparisons import close, equal_bits
from support.defined import adaptive, gradients, inputs
from support.targets import NEEDS_CPU

pytestmark = NEEDS_CPU


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_compiles_to_a_full_graph(backend):
    arguments = inputs("adaptive", (5, 2, 3, 4), kind="neuron", state=True)

    def loss(x, decay):
        (spikes, v), state = adaptive(**{**arguments, "x": x, "decay": decay}, backend=backend)
        return (spikes * v).sum() + state[1].sum()

    leaves = [arguments["x"].requires_grad_(), arguments["decay"].requires_grad_()]
    expected = torch.autograd.grad(loss(*leaves), leaves)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    for got, want in zip(torch.autograd.grad(compiled(*leaves), leaves), expected, strict=True):
        close(got, want, backend)


def test_the_operators_are_sound():
    arguments = inputs("adaptive", (5, 2, 3, 4), kind="neuron", state=True)
    tensors = [arguments[name].requires_grad_() for name in ("decay", "beta", "rho")]
    call = Call(
        arguments["x"].requires_grad_(),
        tensors,
        [0.0] * 3,
        list(arguments["state"]),
        None,
        adaptive.key,
        False,
        True,
        2,
    )
    torch.library.opcheck(forward_ops["cpu"], tuple(call))
    call = Call(arguments["x"][0], [None] * 3, [0.9, 0.2, 0.8], [None] * 2, 6, adaptive.key, False, False, 0)
    torch.library.opcheck(forward_ops["cpu"], tuple(call))


@pytest.mark.parametrize(
    "mapped", [("x",), ("decay",), ("x", "beta"), ("state",), ("x", "decay", "beta", "rho", "state")]
)
def test_vmap_is_a_loop(mapped):
    calls = [inputs("adaptive", (4, 2, 3, 5), kind="channel", state=True, seed=seed) for seed in range(3)]
    fixed = {name: value for name, value in calls[0].items() if name not in mapped}

    def run(given):
        (spikes, v), state = adaptive(**{**fixed, **given})
        return spikes, v, *state

    def pick(name):
        if name == "state":
            return tuple(torch.stack(states) for states in zip(*(call["state"] for call in calls), strict=True))
        return torch.stack([call[name] for call in calls])

    together = torch.vmap(run)({name: pick(name) for name in mapped})
    alone = [run({name: call[name] for name in mapped}) for call in calls]
    for got, parts in zip(together, zip(*alone, strict=True), strict=True):
        equal_bits(got, torch.stack(parts), "vmap")


def test_per_sample_gradients():
    arguments = inputs("adaptive", (4, 2, 3, 5), kind="channel")
    xs = torch.stack([inputs("adaptive", (4, 2, 3, 5), seed=seed)["x"] for seed in range(3)])

    def loss(decay, beta, x):
        (spikes, v), state = adaptive(**{**arguments, "x": x, "decay": decay, "beta": beta})
        return (spikes * v).sum() + state[0].sum()

    per_sample = torch.func.vmap(torch.func.grad(loss, argnums=(0, 1, 2)), in_dims=(None, None, 0))
    got = per_sample(arguments["decay"], arguments["beta"], xs)
    alone = [torch.func.grad(loss, argnums=(0, 1, 2))(arguments["decay"], arguments["beta"], x) for x in xs]
    for together, parts in zip(got, zip(*alone, strict=True), strict=True):
        close(together, torch.stack(parts), "vmap of grad")


@pytest.mark.parametrize("every", [None, 2])
def test_batched_gradients(every):
    arguments = inputs("adaptive", (5, 2, 3, 4), kind="channel", state=True)
    leaves = [arguments["x"].requires_grad_(), arguments["decay"].requires_grad_()]
    leaves.append(arguments["state"][1].requires_grad_())
    (_, potential), _ = adaptive(**arguments, checkpoint_every=every)
    rows = torch.randn(2, 3, *potential.shape, generator=torch.Generator().manual_seed(1))

    def of(incoming, **options):
        return torch.autograd.grad(potential, leaves, incoming, retain_graph=True, **options)

    alone = [[of(row) for row in several] for several in rows]
    for i, got in enumerate(of(rows[0], is_grads_batched=True)):
        close(got, torch.stack([each[i] for each in alone[0]]), "is_grads_batched")
    for i, got in enumerate(torch.vmap(torch.vmap(of))(rows)):
        close(got, torch.stack([torch.stack([each[i] for each in several]) for several in alone]), "vmap over backward")


def test_a_second_derivative_is_refused():
    x = inputs("adaptive")["x"].requires_grad_()
    out, _ = adaptive(**{**inputs("adaptive"), "x": x})
    (grad,) = torch.autograd.grad(out[1].sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match=r"hnn_kernels.neuron cannot be differentiated twice"):
        grad.sum().backward()


def test_forward_mode_is_refused():
    arguments = inputs("adaptive")
    x = arguments["x"]
    with pytest.raises(RuntimeError, match="no derivative in forward mode"):
        torch.func.jvp(lambda x: adaptive(**{**arguments, "x": x})[0][1], (x,), (torch.ones_like(x),))


def test_the_operator_and_the_plain_call_agree():
    arguments = inputs("adaptive", kind="neuron", state=True)
    plain = gradients(adaptive, arguments, "cpu")
    leaves = {name: arguments[name] for name in ("x", "decay", "beta", "rho")}

    def loss(leaves):
        (spikes, v), state = adaptive(**{**arguments, **leaves})
        generator = torch.Generator().manual_seed(1)
        parts = (spikes, v, *state)
        return sum(
            (part * torch.randn(part.shape, generator=generator, dtype=torch.float64).to(part)).sum() for part in parts
        )

    for name, got in torch.func.grad(loss)(leaves).items():
        equal_bits(got, plain[name], name)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_tensors_without_numbers_have_shapes(backend):
    arguments = inputs("adaptive", (4, 2, 3, 5))
    (spikes, v), state = adaptive(**{**arguments, "x": arguments["x"].to("meta")}, backend=backend)
    assert spikes.shape == v.shape == (4, 2, 3, 5)
    assert [s.shape for s in state] == [(2, 3, 5)] * 2
    assert spikes.device.type == "meta"
