"""The codings' gradients, and the codings with the rest of PyTorch: operators, compiler, transforms, memory."""

import functools
import subprocess
import sys

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from hnn_kernels import _noise as noise
from hnn_kernels import encode_gaussian, encode_poisson
from hnn_kernels._ops.coding import coding_ops
from support.codings import values
from support.comparisons import as_good_as_the_loop, close, equal_bits
from support.guarded_memory import Allocations, call_below
from support.targets import dtype_id

FIRST = {"seed": 9, "first_step": 3, "first_element": 5}


def formula(mean, log_std, steps):
    """The definition, on the same noise."""
    eps = noise.normal(torch.tensor(9, device=mean.device), mean.numel(), steps, first_step=3, first_element=5)
    return mean + log_std.exp() * eps.reshape(steps, *mean.shape).to(mean)


def gradients(encode, mean, log_std, incoming):
    leaves = [mean.detach().requires_grad_(), log_std.detach().requires_grad_()]
    found = torch.autograd.grad(encode(*leaves, incoming.shape[0]), leaves, incoming)
    return dict(zip(("mean", "log_std"), found, strict=True))


def incoming_of(shape, steps, like):
    return torch.randn((steps, *shape), generator=torch.Generator().manual_seed(1)).to(like)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=dtype_id)
@pytest.mark.parametrize(("shape", "steps"), [((3, 5, 7), 25), ((2, 64), 70), ((4,), 1), ((3, 5), 0), ((2, 0), 3)])
def test_gradients_are_those_of_the_formula(any_target, dtype, shape, steps):
    mean, log_std, _ = values(shape, dtype, any_target.device)
    incoming = incoming_of(shape, steps, mean)
    got = gradients(functools.partial(encode_gaussian, **FIRST, backend=any_target.backend), mean, log_std, incoming)
    loop = gradients(formula, mean, log_std, incoming)
    truth = gradients(formula, mean.double(), log_std.double(), incoming.double())
    as_good_as_the_loop(got, loop, truth)


def test_every_kernel_adds_up_in_the_order_of_time(target):
    """The gradients of all backends are equal bit for bit, as their trains are."""
    mean, log_std, _ = values((3, 50), device=target.device)
    incoming = incoming_of((3, 50), 37, mean)
    got = gradients(functools.partial(encode_gaussian, **FIRST, backend=target.backend), mean, log_std, incoming)
    eps = noise.normal(torch.tensor(9, device=target.device), 150, 37, first_step=3, first_element=5).view(37, 3, 50)
    total, weighted = torch.zeros_like(mean), torch.zeros_like(mean)
    for g, e in zip(incoming, eps, strict=True):
        total = total + g
        weighted = weighted + g * e
    equal_bits(got["mean"], total, "mean")
    equal_bits(got["log_std"], noise.exp(log_std) * weighted, "log_std")


@pytest.mark.parametrize("wanted", ["mean", "log_std"])
def test_one_gradient_alone(any_target, wanted):
    mean, log_std, _ = values((3, 7), device=any_target.device)
    incoming = incoming_of((3, 7), 9, mean)
    encode = functools.partial(encode_gaussian, **FIRST, backend=any_target.backend)
    both = gradients(encode, mean, log_std, incoming)
    leaf = {"mean": mean, "log_std": log_std}[wanted].requires_grad_()
    (alone,) = torch.autograd.grad(encode(mean, log_std, 9), leaf, incoming)
    equal_bits(alone, both[wanted], wanted)


def test_gradcheck(any_target):
    mean, log_std, _ = values((1, 2), torch.float64, any_target.device)

    def encode(mean, log_std):
        return encode_gaussian(mean, log_std, 3, **FIRST, backend=any_target.backend)

    assert torch.autograd.gradcheck(encode, (mean.requires_grad_(), log_std.requires_grad_()))


def test_gradients_of_the_halves_of_an_output(target):
    """The inputs are strided views, and the incoming gradient is expanded."""
    both = torch.randn(3, 10, 4, device=target.device)

    def loss(both, **options):
        return encode_gaussian(*both.tensor_split(2, 1), 6, seed=1, **options).sum()

    found = []
    for backend in (target.backend, "reference"):
        leaf = both.detach().requires_grad_()
        found += torch.autograd.grad(loss(leaf, backend=backend), leaf)
    close(*found, "halves")


def test_two_equal_calls_give_equal_bits(target):
    mean, log_std, _ = values((64, 130), device=target.device)
    if target.interpreted:
        mean, log_std = mean[:2], log_std[:2]
    incoming = incoming_of(mean.shape, 9, mean)
    encode = functools.partial(encode_gaussian, **FIRST, backend=target.backend)
    first, second = (gradients(encode, mean, log_std, incoming) for _ in range(2))
    for name in first:
        equal_bits(first[name], second[name], name)


# -- what is not to be had ---------------------------------------------------------------------------------------------


def test_a_gradient_of_the_gradient_is_an_error(target):
    leaves = [x.requires_grad_() for x in values((3, 7), device=target.device)[:2]]
    train = encode_gaussian(*leaves, 4, backend=target.backend)
    grads = torch.autograd.grad(train.square().sum(), leaves, create_graph=True)
    with pytest.raises(RuntimeError, match="cannot be differentiated twice"):
        sum(g.sum() for g in grads).backward()


def test_the_reference_can_be_differentiated_twice():
    mean, log_std, _ = (x.requires_grad_() for x in values((2, 3), torch.float64))
    assert torch.autograd.gradgradcheck(
        lambda m, s: encode_gaussian(m, s, 3, seed=2, backend="reference"), (mean, log_std)
    )


def test_a_gradient_through_poisson_coding_is_an_error(any_target):
    p = values((3, 7), device=any_target.device)[2].requires_grad_()
    with pytest.raises(RuntimeError, match=r"probability .*not differentiable: detach\(\)"):
        encode_poisson(p, 4, backend=any_target.backend)
    with torch.no_grad():
        assert not encode_poisson(p, 4, backend=any_target.backend).requires_grad
    assert not encode_poisson(p.detach(), 4, backend=any_target.backend).requires_grad


def test_vmap_is_a_loop(target):
    """Each call has the noise of its own seed: no element's number depends on the mapped axis."""
    mean, log_std, p = values((3, 2, 7), device=target.device)
    encode = functools.partial(encode_gaussian, steps=4, seed=1, backend=target.backend)
    spikes = functools.partial(encode_poisson, steps=4, seed=1, backend=target.backend)
    equal_bits(torch.vmap(encode)(mean, log_std), torch.stack(list(map(encode, mean, log_std))), "gaussian")
    equal_bits(torch.vmap(spikes)(p), torch.stack(list(map(spikes, p))), "poisson")
    with pytest.raises(RuntimeError, match="randomness"):
        torch.vmap(functools.partial(encode, seed=None))(mean, log_std)
    drawn = torch.vmap(functools.partial(encode, seed=None), randomness="different")(
        mean[:1].repeat(2, 1, 1), log_std[:2]
    )
    assert not torch.equal(drawn[0], drawn[1])


def test_func_grad(target):
    mean, log_std, _ = values((3, 7), device=target.device)
    incoming = incoming_of((3, 7), 4, mean)
    encode = functools.partial(encode_gaussian, **FIRST, backend=target.backend)
    found = torch.func.grad(lambda m, s: (encode(m, s, 4) * incoming).sum(), argnums=(0, 1))(mean, log_std)
    for got, expected in zip(found, gradients(encode, mean, log_std, incoming).values(), strict=True):
        equal_bits(got, expected, "grad")


# -- operators and the compiler ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3, 7), (2, 3, 1, 5), (0, 4), ()], ids=str)
@pytest.mark.parametrize("steps", [5, 0])
def test_opcheck(target, shape, steps):
    mean, log_std, p = values(shape, device=target.device)
    if mean.dim() == 4:
        mean = mean.permute(0, 2, 3, 1)
        log_std = log_std.permute(0, 2, 3, 1)
    seed = torch.tensor(4, device=target.device)
    train = incoming_of(mean.shape, steps, mean)
    torch.library.opcheck(coding_ops["gaussian_forward", target.backend], (mean, log_std, seed, steps, 1, 2))
    torch.library.opcheck(coding_ops["poisson_forward", target.backend], (p, seed, steps, 1, 2))
    for needs in (0, 1, 2, 3):
        torch.library.opcheck(coding_ops["gaussian_backward", target.backend], (train, log_std, seed, 1, 2, needs))


@pytest.fixture
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.usefixtures("fresh_compiler")
def test_compile_with_a_dynamic_batch(any_target):
    def eager(both, p, seed):
        options = {"seed": seed, "backend": any_target.backend}
        return encode_gaussian(*both.tensor_split(2, 1), 6, **options) * 2 + encode_poisson(p, 6, **options)

    compiled = torch.compile(eager, fullgraph=True, dynamic=True, backend="aot_eager")

    def hold(batch, seed):
        mean, log_std, p = values((batch, 7), device=any_target.device)
        found = []
        for function in (compiled, eager):
            torch.manual_seed(3)
            both = torch.cat([mean, log_std], 1).requires_grad_()
            train = function(both, p, seed and torch.tensor(batch, device=any_target.device))
            found.append((train, *torch.autograd.grad(train.square().sum(), both)))
        for got, expected in zip(*found, strict=True):
            equal_bits(got, expected, "compiled")

    # None, for torch's generator, compiles anew; the reference's many operations take seconds.
    for seed in (True,) if any_target.backend == "reference" else (True, None):
        hold(4, seed)
        with torch._dynamo.config.patch(error_on_recompile=True):
            hold(5, seed)
            hold(3, seed)


@pytest.mark.usefixtures("fresh_compiler")
def test_compile_with_other_numbers(target):
    """Another seed, number of steps, first step or first element needs no new compilation."""

    def eager(mean, steps, seed, first):
        return encode_gaussian(
            mean, mean, steps, seed=seed, first_step=first, first_element=2 * first, backend=target.backend
        )

    compiled = torch.compile(eager, fullgraph=True, dynamic=True, backend="aot_eager")
    mean, *_ = values((3, 7), device=target.device)
    equal_bits(compiled(mean, 5, 7, 2), eager(mean, 5, 7, 2), "compiled")
    with torch._dynamo.config.patch(error_on_recompile=True):
        for numbers in ((4, -(2**40), 3), (6, 9, 2**40)):
            equal_bits(compiled(mean, *numbers), eager(mean, *numbers), "compiled")


@pytest.mark.usefixtures("fresh_compiler")
def test_a_probability_outside_is_found_in_a_compiled_graph(any_target):
    if any_target.device != "cpu":
        pytest.skip("there it is asserted on the device")
    compiled = torch.compile(
        lambda p: encode_poisson(p, 3, seed=1, backend=any_target.backend), fullgraph=True, backend="aot_eager"
    )
    compiled(torch.tensor([0.5]))
    with pytest.raises((RuntimeError, ValueError), match=r"probability must lie in \[0, 1\]"):
        compiled(torch.tensor([1.5]))


# -- memory, and waiting -----------------------------------------------------------------------------------------------


def test_no_noise_is_kept(target):
    """Backward keeps log_std and the seed, for any number of steps."""
    mean, log_std, _ = (x.requires_grad_() for x in values((3, 7), device=target.device))
    for steps in (4, 100):
        kept = []
        with saved_tensors_hooks(lambda t, to=kept: to.append(t) or t, lambda t: t):
            encode_gaussian(mean, log_std, steps, backend=target.backend)
        assert sorted(t.numel() for t in kept) == [1, 21]


def test_nothing_but_the_results_is_allocated(target):
    mean, log_std, p = values((3, 5, 7), device=target.device)
    halves = torch.cat([mean, log_std], 1).tensor_split(2, 1)
    seed = torch.tensor(4, device=target.device)
    train = incoming_of(mean.shape, 50, mean)
    for name, arguments, expected in (
        ("gaussian_forward", (*halves, seed, 50, 0, 0), [50 * 105]),
        ("gaussian_backward", (train.transpose(2, 3), halves[1].transpose(1, 2), seed, 0, 0, 3), [105, 105]),
        ("poisson_forward", (p, seed, 50, 0, 0), [50 * 105]),
    ):
        allocations = Allocations()
        call_below(coding_ops[name, target.backend], allocations, target.device, arguments)
        # The layout of a step is had from an empty one; the values of a probability are looked at in few more.
        assert sorted(allocations.elements)[-len(expected) :] == expected
        assert sum(allocations.elements) <= sum(expected) + 6 * 105


needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@needs_cuda
def test_no_host_sync_and_a_graph_that_draws_anew(target):
    if target.device != "cuda":
        pytest.skip("only CUDA kernels can be captured")
    mean, log_std, p = values((3, 7), device="cuda")
    mean.requires_grad_()

    def step():
        train = encode_gaussian(mean, log_std, 6, backend=target.backend)
        return train, encode_poisson(p, 6, backend=target.backend), *torch.autograd.grad(train.square().sum(), mean)

    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        step()  # compiles
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = step()
    found = []
    for _ in range(2):
        graph.replay()
        found.append([result.clone() for result in results])
    for first, second in zip(*found, strict=True):
        assert not torch.equal(first, second)


@needs_cuda
def test_a_probability_outside_is_asserted_on_the_device(target):
    """It runs in a process of its own, because an assertion on the device ends the use of that device."""
    if target.device != "cuda":
        pytest.skip("elsewhere it is a ValueError")
    code = f"""
import torch, hnn_kernels
hnn_kernels.encode_poisson(torch.tensor([0.5, 1.5], device="cuda"), 4, backend={target.backend!r})
torch.cuda.synchronize()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    assert "assert" in done.stderr
