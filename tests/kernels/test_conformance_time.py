"""Equal bits when time is cut in pieces, a call is repeated, or the number of threads changes."""

import subprocess
import sys

import pytest
import torch

import hnn_kernels
from hnn_kernels import _extensions
from support.comparisons import equal_bits
from support.digests import LAYERS
from support.layers import DTYPES, KINDS, PARAMETERS, everything, gradients, in_pieces, inputs, replace, run, tensors
from support.paths import environment
from support.targets import dtype_id

CUTS = [(4,), (1,), (8,), (0,), (9,), (2, 3, 3, 7)]


@pytest.mark.parametrize("cuts", CUTS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_id)
@pytest.mark.parametrize("steps", [None, 9], ids=["train", "constant"])
@pytest.mark.parametrize("smooth", [False, True], ids=["hard", "smooth"])
def test_forward_in_pieces(any_target, cuts, dtype, steps, smooth):
    shape = (2, 3, 5) if steps else (9, 2, 3, 5)
    arguments = inputs(shape, dtype=dtype, device=any_target.device, kind="mixed", state=True, steps=steps)
    expected, expected_state = run(arguments, any_target.backend, smooth=smooth)
    trains, state = in_pieces(arguments, any_target.backend, cuts, smooth=smooth)
    equal_bits(torch.cat(trains), expected, "spikes")
    equal_bits(state.v, expected_state.v, "state.v")
    equal_bits(state.r, expected_state.r, "state.r")


@pytest.mark.parametrize("cuts", [(4,), (2, 3, 3, 7)], ids=str)
@pytest.mark.parametrize("reset_grad", ["full", "one_step", "detach"])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_in_pieces(any_target, cuts, reset_grad, kind):
    """The gradient that flows between the pieces is that of the state: of v, and of r after the last step's spike."""
    arguments = inputs((9, 2, 3, 5), device=any_target.device, kind=kind, state=True)
    leaves = {name: value.requires_grad_() for name, value in tensors(arguments).items()}
    arguments = replace(arguments, **leaves)
    incoming = torch.randn(9, 2, 3, 5, device=any_target.device)

    out, _ = run(arguments, any_target.backend, reset_grad=reset_grad)
    expected = torch.autograd.grad(out, list(leaves.values()), incoming)
    trains, _ = in_pieces(arguments, any_target.backend, cuts, reset_grad=reset_grad)
    got = torch.autograd.grad(torch.cat(trains), list(leaves.values()), incoming)

    for name, found, wanted in zip(leaves, got, expected, strict=True):
        if name in PARAMETERS:
            # Sums over time are added up piece by piece, and may cancel. Measured: 9.3 eps of the largest.
            tolerance = 32 * torch.finfo(found.dtype).eps * wanted.abs().max().item()
            torch.testing.assert_close(found, wanted, rtol=0, atol=tolerance, msg=name)
        else:
            equal_bits(found, wanted, f"gradient of {name}")


def test_counts_add_up_over_pieces(any_target):
    arguments = inputs((9, 2, 3, 5), device=any_target.device)
    counts, _ = in_pieces(arguments, any_target.backend, (3, 4), readout="count")
    equal_bits(sum(counts), run(arguments, any_target.backend, readout="count")[0], "count")


def test_a_constant_current_is_the_repeated_one(target):
    arguments = inputs((2, 3, 5), device=target.device, kind="mixed", state=True, steps=9)
    repeated = {**arguments, "current": arguments["current"].expand(9, 2, 3, 5), "steps": None}
    equal_bits(run(arguments, target.backend)[0], run(repeated, target.backend)[0], "spikes")
    got, expected = gradients(arguments, target.backend), gradients(repeated, target.backend)
    expected["current"] = expected["current"].sum(0)
    for name in got:
        # A sum of nine terms in another order. Measured: 1 eps of the largest.
        tolerance = 16 * torch.finfo(got[name].dtype).eps * expected[name].abs().max().item()
        torch.testing.assert_close(got[name], expected[name], rtol=0, atol=tolerance, msg=name)


FORMS = {"train": {}, "constant": {"steps": 6}, "count": {"readout": "count"}, "checkpoints": {"checkpoint_every": 2}}
STATELESS = [(layer, "train") for layer in LAYERS] + [("plain", form) for form in FORMS if form != "train"]
STATELESS += [("filters", "constant"), ("filters", "checkpoints"), ("general filters", "checkpoints")]


@pytest.mark.parametrize(("layer", "form"), STATELESS)
def test_a_state_that_is_not_returned_changes_no_bit(any_target, layer, form):
    options = dict(FORMS[form])
    steps = options.pop("steps", None)
    shape = (3, 50) if steps else (6, 3, 50)
    arguments = inputs(shape, device=any_target.device, kind="neuron", state=True, steps=steps, **LAYERS[layer])
    expected, _ = run(arguments, any_target.backend, **options)
    out, state = run(arguments, any_target.backend, return_state=False, **options)
    assert state is None
    equal_bits(out, expected, "out")
    wanted = gradients(arguments, any_target.backend, through=["out"], **options)
    for name, got in gradients(arguments, any_target.backend, return_state=False, **options).items():
        equal_bits(got, wanted[name], f"gradient of {name}")


BITS = [(layer, kind) for layer in ("plain", "filters", "no membrane") for kind in ("scalar", "channel", "neuron")]


@pytest.mark.parametrize(("layer", "kind"), BITS)
def test_two_equal_calls_give_equal_bits(target, layer, kind):
    # Enough neurons for several tiles, and several threads, without keeping an interpreter busy.
    shape = (6, 3, 170) if target.interpreted else (6, 40, 1700)
    arguments = inputs(shape, device=target.device, kind=kind, state=True, **LAYERS[layer])
    first = everything(arguments, target.backend)
    for _ in range(3):
        for name, again in everything(arguments, target.backend).items():
            equal_bits(again, first[name], name)


@pytest.mark.parametrize(("layer", "kind"), BITS)
def test_threads_change_no_bit(layer, kind):
    """The CPU kernels' own sums; the others leave theirs to torch.sum, whose order on a CPU follows the threads."""
    if "cpu" not in hnn_kernels.backends()["cpu"].devices:
        pytest.skip(hnn_kernels.backends()["cpu"].reason)
    arguments = inputs((6, 40, 1700), kind=kind, state=True, **LAYERS[layer])
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(everything(arguments, "cpu"))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        for name, value in found[0].items():
            equal_bits(other[name], value, name)


def test_a_neuron_does_not_see_its_neighbours(target):
    """Permuting the batch permutes the results, whatever tile or lane a neuron falls in."""
    arguments = inputs((6, 70, 3), device=target.device, kind="neuron", state=True)
    order = torch.randperm(70, generator=torch.Generator().manual_seed(0)).to(target.device)
    moved = replace(
        arguments, current=arguments["current"][:, order], v=arguments["state"].v[order], r=arguments["state"].r[order]
    )
    out, state = run(arguments, target.backend)
    out_moved, state_moved = run(moved, target.backend)
    equal_bits(out_moved, out[:, order], "spikes")
    equal_bits(state_moved.v, state.v[order], "state.v")


def test_silence_before_the_input_changes_nothing(target):
    """From rest, steps of zero current leave the layer at rest."""
    arguments = inputs((6, 2, 9), device=target.device, kind="neuron")
    late = torch.cat([torch.zeros(3, 2, 9, device=target.device), arguments["current"]])
    out, _ = run({**arguments, "current": late}, target.backend)
    assert not out[:3].any()
    equal_bits(out[3:], run(arguments, target.backend)[0], "spikes")


def test_instruction_sets_change_no_spike():
    """The C++ kernels are compiled once per instruction set. All sets give the same spikes.

    AVX2 and AVX-512, which have FMA, also give the same gradients. A process chooses its set once, at its first call of
    a kernel.
    """
    if "cpu" not in hnn_kernels.backends()["cpu"].devices:
        pytest.skip(hnn_kernels.backends()["cpu"].reason)
    found = {}
    for isa in ("default", "avx2", "avx512"):
        variables = environment(HNN_CPU_ISA=isa)
        run = [sys.executable, "-m", "support.digests"]
        done = subprocess.run(run, env=variables, capture_output=True, text=True, timeout=120)
        if isa != "default" and "must be one of what this processor runs" in done.stderr:
            continue
        assert done.returncode == 0, done.stderr
        found[isa] = done.stdout.split()
    assert len({forward for forward, _ in found.values()}) == 1
    assert len({both for isa, (_, both) in found.items() if isa != "default"}) <= 1


@pytest.mark.parametrize("axon", [None, (2, 0)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_large_results_are_written_past_the_cache(dtype, axon):
    """From 8 MiB on at the latest, the CPU kernels store past the cache. 250 columns leave tiles that are not full.

    Those of AVX2 do so when a block has ended; 40 steps are two blocks.
    """
    if "cpu" not in hnn_kernels.backends()["cpu"].devices:
        pytest.skip(hnn_kernels.backends()["cpu"].reason)
    module = _extensions.cpu
    before = module.build_info()["instruction_set"]
    rows = 4000 // dtype.itemsize
    for shape in ((9, rows, 256), (9, rows, 250), (40, 9 * rows // 20, 256)):
        arguments = inputs(shape, dtype=dtype, axon=axon)
        expected, _ = run(arguments, "reference")
        wanted = gradients(arguments, "reference", through=("out",))["current"].double()
        try:
            for name in module.instruction_sets():
                module.use_instruction_set(name)
                equal_bits(run(arguments, "cpu")[0], expected, f"out with {name}")
                got = gradients(arguments, "cpu", through=("out",))["current"].double()
                assert (got - wanted).abs().max() <= 32 * torch.finfo(dtype).eps * wanted.abs().max(), name
        finally:
            module.use_instruction_set(before)


@pytest.mark.skipif(_extensions.cpu is None, reason=f"the C++ kernels are not there: {_extensions.cpu_error}")
def test_an_unknown_instruction_set_is_refused_and_changes_nothing():
    before = _extensions.cpu.build_info()["instruction_set"]
    with pytest.raises(RuntimeError, match=r"must be one of what this processor runs .* got 'avx3'"):
        _extensions.cpu.use_instruction_set("avx3")
    assert _extensions.cpu.build_info()["instruction_set"] == before
