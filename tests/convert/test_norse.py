"""Norse's modules and lifted cells beside their converted twins, and Norse's own tests with converted modules."""

import functools
import importlib
import inspect

import pytest
import torch

import hnn_kernels
from support.converted import by_the_loop, same

pytest.importorskip("norse", reason="converting Norse's modules needs the extra 'peers'")
import norse.torch as nt
from norse.torch.functional.izhikevich import tonic_spiking
from norse.torch.functional.reset import reset_subtract

DTYPES = (torch.float32, torch.float64)
# The library computes some constants, such as pi, in float32 whatever the input is: 8e-10 in these cases.
TOLERANCE = {torch.float32: 2e-6, torch.float64: 1e-8}
BIOLOGICAL = {"v_leak": -65.0, "v_reset": -62.0, "v_th": -50.0}


def inputs(dtype=torch.float32, shape=(14, 3, 40), scale=5.0):
    torch.manual_seed(3)
    return (torch.randn(shape) * scale).to(dtype)


def flat(state):
    return [value for part in state for value in (flat(part) if isinstance(part, tuple) else [part])]


def run(module, x):
    """Two calls over parts of the time, the second one with the state of the first."""
    if getattr(module, "record_states", False):
        out, states = module(x)
        return [out, *flat(states)]
    lifted = isinstance(module, nt.Lift)
    first, state = module(x[:6])
    second, state = module((x[6:], state)) if lifted else module(x[6:], state)
    return [torch.cat([first, second]), *flat(state)]


def parameters(kind, **given):
    """Parameters as the library wants them, so that some of them learn."""
    tensors = {name: torch.tensor(value) if isinstance(value, float) else value for name, value in given.items()}
    return kind(**tensors)


def recorded(name):
    module = getattr(nt, name)()
    module.record_states = True  # not all constructors take it
    return module


LIF = functools.partial(parameters, nt.LIFParameters)
MAKE = {
    "LIF": nt.LIF,
    "LIF recorded": lambda: nt.LIF(record_states=True),
    "LIF heavi_erfc": lambda: nt.LIF(LIF(method="heavi_erfc", alpha=2.0)),
    "LIF tanh": lambda: nt.LIF(LIF(method="tanh", alpha=3.0, v_reset=-0.3, v_leak=0.1)),
    "LIF triangle": lambda: nt.LIF(LIF(method="triangle", alpha=0.3, tau_mem_inv=torch.linspace(50.0, 200.0, 40))),
    "LIF heaviside": lambda: nt.LIF(LIF(method="heaviside"), dt=0.002),
    "IAF": nt.IAF,
    "LI": nt.LI,
    "LIFEx": nt.LIFEx,
    "LIFAdEx": nt.LIFAdEx,
    "LSNN": nt.LSNN,
    **{f"{name} recorded": functools.partial(recorded, name) for name in ("IAF", "LI", "LIFEx", "LIFAdEx", "LSNN")},
    **{f"lifted {name}": functools.partial(lambda name: nt.Lift(getattr(nt, name)()), name) for name in (
        "LIFCell", "LIFBoxCell", "IAFCell", "LICell", "LIBoxCell", "LIFRefracCell", "LIFExCell", "LIFAdExCell",
        "LSNNCell",
    )},
    "lifted box subtract": lambda: nt.Lift(nt.LIFBoxCell(nt.LIFBoxParameters(reset_method=reset_subtract))),
}  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", MAKE)
def test_modules_and_lifted_cells(name, dtype, monkeypatch):
    by_the_loop(monkeypatch)
    same(MAKE[name], run, inputs(dtype), TOLERANCE[dtype])


def test_potentials_of_a_real_neuron(monkeypatch):
    """In millivolts, with a reset apart from the rest."""
    by_the_loop(monkeypatch)
    given = LIF(tau_syn_inv=2.0, tau_mem_inv=50.0, **BIOLOGICAL)
    same(lambda: nt.LIF(given), run, inputs(scale=150.0), 2e-6)


@pytest.mark.parametrize(
    "make", [lambda: nt.Izhikevich(tonic_spiking), lambda: nt.Lift(nt.IzhikevichCell(tonic_spiking))]
)
def test_izhikevich(make, monkeypatch):
    by_the_loop(monkeypatch)
    same(make, run, inputs(scale=30.0) + 60, TOLERANCE[torch.float32])


def test_a_compiled_module():
    same(nt.LIF, run, inputs(), TOLERANCE[torch.float32])


def test_an_exact_tie_does_not_fire(monkeypatch):
    by_the_loop(monkeypatch)
    grid = torch.randint(-2, 3, (20, 3, 50)) / 2
    same(nt.IAF, run, grid, 1e-6)


def test_parameters_that_learn(monkeypatch):
    by_the_loop(monkeypatch)
    gradients = []
    for converted in (False, True):
        learnt = [torch.tensor(value, requires_grad=True) for value in (200.0, 100.0, 0.0, 1.0, -0.1)]
        module = nt.LIF(nt.LIFParameters(*learnt))
        if converted:
            assert hnn_kernels.convert(module).replaced
        out, _ = module(inputs())
        (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
        gradients.append([value.grad for value in learnt])
    for expected, got in zip(*gradients, strict=True):
        torch.testing.assert_close(got, expected, rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (nt.LICell, "a few sums that torch has"),
        (nt.LIBoxCell, "a few sums that torch has"),
        (lambda: nt.LILinearCell(3, 4), "a product and a few sums that torch has"),
        (lambda: nt.LIFRecurrent(4, 4), "no kernel computes its step"),
        (lambda: nt.LIF(LIF(method="circ")), "no surrogate like the method 'circ'"),
        (lambda: nt.LIF(LIF(method="adjoint")), "adjoint"),
    ],
)
def test_what_stays_is_said(make, why):
    (entry,) = hnn_kernels.convert(make())
    assert not entry.replaced
    assert why in entry.why


def test_a_lifted_layer_without_neurons_is_no_news():
    assert not hnn_kernels.convert(torch.nn.Sequential(nt.Lift(torch.nn.Linear(3, 3))))


def test_hooks_of_a_lifted_cell_are_reached(monkeypatch):
    by_the_loop(monkeypatch)
    module = nt.Lift(nt.LIFCell())
    seen = []
    module.lifted_module.register_forward_hook(lambda *args: seen.append(args))
    (left, entry) = hnn_kernels.convert(module)
    assert "hooks" in left.why
    assert entry.name == "lifted_module"
    assert entry.replaced
    module(inputs())
    assert len(seen) == 14


def by_steps(module, x):
    state, out = None, []
    for now in x:
        spikes, state = module(now, state)
        out.append(spikes)
    return [torch.stack(out), *flat(state)]


CELLS = {name.removesuffix("Cell"): getattr(nt, name) for name in (
    "LIFCell", "LIFBoxCell", "IAFCell", "LIFExCell", "LIFAdExCell", "LSNNCell", "LIFRefracCell",
)} | {"Izhikevich": lambda: nt.IzhikevichCell(tonic_spiking)}  # fmt: skip


@pytest.mark.parametrize("name", CELLS)
def test_cells_in_a_loop(name, monkeypatch):
    by_the_loop(monkeypatch)
    x = inputs(scale=30.0) + 60 if name == "Izhikevich" else inputs()
    same(CELLS[name], by_steps, x, TOLERANCE[torch.float32])


def test_a_cell_with_a_state_in_two_parts_in_a_graph(monkeypatch):
    by_the_loop(monkeypatch)
    cell, x = nt.LIFRefracCell(), inputs()[:3]
    expected = by_steps(cell, x)
    assert hnn_kernels.convert(cell).replaced
    found = by_steps(torch.compile(cell, backend="eager", fullgraph=True), x)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert expected[0].any()


def test_a_converted_cell_may_be_lifted_and_unrolled(monkeypatch):
    by_the_loop(monkeypatch)
    cell, x = nt.LIFCell(), inputs()
    expected = by_steps(cell, x)[0]
    assert hnn_kernels.convert(cell).replaced
    lifted = nt.Lift(cell)
    assert [entry.name for entry in hnn_kernels.convert(lifted)] == [""]
    assert torch.equal(lifted(x)[0], expected)


OWN = [
    (file, name)
    for file in ("lif", "iaf", "leaky_integrator", "lif_ex", "lif_adex", "lsnn", "lift", "sequential", "snn")
    for name, function in vars(importlib.import_module(f"norse.torch.module.test.test_{file}")).items()
    if name.startswith("test_") and "compile" not in name and not inspect.signature(function).parameters
]


@pytest.mark.parametrize(("file", "name"), OWN)
def test_its_own_tests_pass_with_converted_modules(file, name, monkeypatch):
    by_the_loop(monkeypatch)
    swapped = []

    def converting(kind):
        made = kind.__init__

        def init(self, *args, **kwargs):
            made(self, *args, **kwargs)
            swapped.extend(hnn_kernels.convert(self).replaced)

        return init

    for kind in (nt.LIF, nt.IAF, nt.LI, nt.LIFEx, nt.LIFAdEx, nt.LSNN, nt.Lift):
        monkeypatch.setattr(kind, "__init__", converting(kind))
    getattr(importlib.import_module(f"norse.torch.module.test.test_{file}"), name)()
