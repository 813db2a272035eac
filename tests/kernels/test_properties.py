"""Properties that every layer has, checked on randomly drawn layers."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import hnn_kernels
from hnn_kernels import IIR, SURROGATES, LIFState
from hnn_kernels._layer import FILTER_COEFFICIENTS, RESETS
from support.comparisons import equal_bits
from support.layers import inputs, replace, results, run, tensors

BACKEND = hnn_kernels.explain("cpu").chosen
few = settings(max_examples=20, deadline=None, derandomize=True)
ORDERS = st.none() | st.tuples(st.integers(0, 3), st.integers(0, 3))


@st.composite
def layers(draw, **fixed):
    """Arguments as ``inputs`` makes them, over every reset, filters of any order, and coefficients of any form."""
    options = {
        "kind": st.sampled_from(["float", "scalar", "channel", "neuron", "mixed"]),
        "state": st.booleans(),
        "reset": st.sampled_from(sorted(RESETS)),
        "synapse": ORDERS,
        "axon": ORDERS,
        "seed": st.integers(0, 10**6),
    }
    drawn = {name: fixed[name] if name in fixed else draw(strategy) for name, strategy in options.items()}
    shape = (draw(st.integers(1, 8)), draw(st.integers(1, 4)), draw(st.integers(1, 4)), draw(st.integers(1, 5)))
    return inputs(shape, dtype=fixed.get("dtype", torch.float32), **drawn)


@few
@given(layers(axon=None))
def test_spikes_are_zeros_and_ones(arguments):
    out, _ = run(arguments, BACKEND)
    assert ((out == 0) | (out == 1)).all()
    count, _ = run(arguments, BACKEND, readout="count")
    equal_bits(count, out.sum(0), "count")


@few
@given(layers(dtype=torch.float64))
def test_without_a_threshold_to_reach_the_membrane_is_a_linear_filter(arguments):
    """V is then the leaky sum of the filtered current, which two calls of iir give as well."""
    arguments = {**arguments, "threshold": 1e300, "axon": None}
    if arguments.get("state"):
        arguments["state"] = arguments["state"]._replace(r=torch.zeros_like(arguments["state"].r), axon=None)
    out, state = run(arguments, BACKEND)
    assert not out.any()
    before = arguments.get("state") or LIFState(None, None)
    current = arguments["current"]
    if arguments.get("synapse"):
        current, after = hnn_kernels.iir(current, *arguments["synapse"], state=before.synapse, backend=BACKEND)
        equal_bits(state.synapse, after, "state.synapse")
    v, _ = hnn_kernels.iir(
        current, [arguments["decay"]], [1.0], state=None if before.v is None else before.v[None], backend=BACKEND
    )
    torch.testing.assert_close(state.v, v[-1], rtol=1e-13, atol=1e-13)


@few
@given(layers(), st.randoms(use_true_random=False))
def test_permuting_the_batch_permutes_the_result(arguments, random):
    order = list(range(arguments["current"].shape[1]))
    random.shuffle(order)
    moved = {name: value[..., order, :, :] for name, value in tensors(arguments).items() if name in BATCHED}
    got, expected = (results(*run(a, BACKEND)) for a in (replace(arguments, **moved), arguments))
    for name in got:
        equal_bits(got[name], expected[name][..., order, :, :], name)


BATCHED = ("current", "v", "r", "synapse_state", "axon_state")


@few
@given(layers(), st.randoms(use_true_random=False))
def test_permuting_the_neurons_permutes_the_result(arguments, random):
    """The last axis is permuted, also in every coefficient that has it."""
    size = arguments["current"].shape[-1]
    order = list(range(size))
    random.shuffle(order)

    def along(name, value):
        axes = value.dim() - (name in FILTER_COEFFICIENTS)
        return value[..., order] if axes and value.shape[-1] == size > 1 else value

    moved = {name: along(name, value) for name, value in tensors(arguments).items()}
    got, expected = (results(*run(a, BACKEND)) for a in (replace(arguments, **moved), arguments))
    for name in got:
        equal_bits(got[name], expected[name][..., order], name)


@few
@given(layers(state=False), st.integers(1, 5))
def test_silence_before_the_input_shifts_the_result(arguments, pause):
    current = arguments["current"]
    late = torch.cat([torch.zeros(pause, *current.shape[1:]), current])
    got, expected = (run({**arguments, "current": x}, BACKEND) for x in (late, current))
    assert not got[0][:pause].any()
    equal_bits(got[0][pause:], expected[0], "out")
    equal_bits(got[1].v, expected[1].v, "state.v")


@few
@given(layers(), st.integers(0, 8))
def test_the_future_does_not_change_the_past(arguments, t):
    current = arguments["current"].clone()
    current[t:] += 1
    got, expected = (run(a, BACKEND)[0] for a in ({**arguments, "current": current}, arguments))
    equal_bits(got[:t], expected[:t], "out before the change")


@few
@given(layers(), st.integers(0, 8))
def test_time_can_be_cut_anywhere(arguments, t):
    whole = results(*run(arguments, BACKEND))
    first, state = run({**arguments, "current": arguments["current"][:t]}, BACKEND)
    second, state = run({**arguments, "current": arguments["current"][t:], "state": state}, BACKEND)
    for name, value in results(torch.cat([first, second]), state).items():
        equal_bits(value, whole[name], name)


@few
@given(layers(dtype=torch.float64), st.sampled_from([n for n in SURROGATES if n != "rectangle"]))  # whose P' jumps
def test_backward_is_the_adjoint_of_the_derivative(arguments, surrogate):
    """<J u, w> = <u, J^T w> in smooth mode: J u by a central difference, J^T w by backward, over all inputs at once."""
    generator = torch.Generator().manual_seed(0)

    def random_like(values):
        return {n: torch.randn(t.shape, generator=generator, dtype=t.dtype) for n, t in values.items()}

    def layer(given):
        return results(*run(replace(arguments, **given), BACKEND, smooth=True, surrogate=surrogate))

    leaves = {name: value.detach().requires_grad_() for name, value in tensors(arguments).items()}
    out = layer(leaves)
    u, w = random_like(leaves), random_like(out)
    live = [name for name in out if out[name].requires_grad]
    adjoint = torch.autograd.grad(
        [out[n] for n in live], list(leaves.values()), [w[n] for n in live], allow_unused=True
    )
    by_adjoint = sum((u[n] * g).sum() for n, g in zip(leaves, adjoint, strict=True) if g is not None)
    h = 1e-5
    ahead, behind = (layer({n: t.detach() + s * u[n] for n, t in leaves.items()}) for s in (h, -h))
    by_derivative = sum((w[n] * (ahead[n] - behind[n])).sum() for n in out) / (2 * h)
    scale = sum((w[n] * out[n]).abs().sum() for n in out).detach()
    torch.testing.assert_close(by_adjoint, by_derivative.detach(), rtol=1e-6, atol=1e-6 * scale.item())


@few
@given(st.integers(0, 6), st.integers(0, 5), st.integers(0, 10**6))
def test_filters_in_series_commute(p, q, seed):
    """Two linear filters give the same in either order."""
    both = inputs((9, 1, 3), dtype=torch.float64, synapse=(p, q), axon=(2, 1), seed=seed)
    x, first, second = both["current"], both["synapse"], both["axon"]
    ab, ba = (
        hnn_kernels.iir(hnn_kernels.iir(x, *f, backend=BACKEND)[0], *g, backend=BACKEND)[0]
        for f, g in ((first, second), (second, first))
    )
    torch.testing.assert_close(ab, ba, rtol=1e-10, atol=1e-11)


@few
@given(layers(axon=None), st.sampled_from(sorted(SURROGATES)))
def test_a_filter_that_passes_everything_changes_nothing(arguments, surrogate):
    identity = IIR((), (1.0,))
    state = arguments.get("state")
    plain = {**arguments, "synapse": None, "state": state and state._replace(synapse=None)}
    nothing = torch.zeros(0, *arguments["current"].shape[1:])
    wrapped = {**plain, "synapse": identity, "axon": identity}
    if state:
        wrapped["state"] = plain["state"]._replace(synapse=nothing, axon=nothing)
    found = []
    for given_ in (plain, wrapped):
        current = given_["current"].detach().requires_grad_()
        out, after = run({**given_, "current": current}, BACKEND, surrogate=surrogate)
        found.append((out.detach(), after.v.detach(), torch.autograd.grad(out.sum(), current)[0]))
    for got, expected in zip(*found, strict=True):
        equal_bits(got, expected, "result")
