"""The choice of a backend, and the reasons against the others."""

import os
import subprocess
import sys

import pytest
import torch

import hnn_kernels
from hnn_kernels import Backend, _extensions, functional
from hnn_kernels import _dispatch as dispatch
from hnn_kernels._dispatch import KERNEL_BACKENDS
from hnn_kernels._ops.layer import backward_ops, forward_ops
from support.forms import FORMS
from support.gpus import pretend
from support.layers import DTYPES

REFERENCE = Backend("reference", ("any",), "", automatic=("any",))
CPU = Backend("cpu", ("cpu", "meta"), "", automatic=("cpu", "meta"))
NO_CPU = Backend("cpu", (), "the C++ kernels are not there")
TRITON = Backend("triton", ("cuda", "meta"), "", automatic=("cuda", "meta"))
INTERPRETED = Backend("triton", ("cpu", "cuda"), "")
NO_TRITON = Backend("triton", (), "triton cannot be imported")
CUDA = Backend("cuda", ("cuda", "meta"), "", automatic=("cuda", "meta"))
SHIM = Backend("cuda", ("cpu",), "")
NO_CUDA = Backend("cuda", (), "the CUDA kernels are not there")


@pytest.mark.parametrize("name", KERNEL_BACKENDS)
def test_backend_can_be_proved_here(name):
    """The one skipped test that names a backend which cannot run here, and the reason."""
    backend = hnn_kernels.backends()[name]
    usable = {"cpu"} | ({"cuda"} if torch.cuda.is_available() else set())
    if not usable & set(backend.devices):
        pytest.skip(f"backend {name!r} is not proved in this run: {backend.reason}")


@pytest.fixture
def installed(monkeypatch):
    """Pretend that the probes found these backends, and two GPUs that they all take."""
    pretend(monkeypatch, (9, 0), (9, 0))
    monkeypatch.setattr(dispatch, "_REFUSES", {name: lambda capability: "" for name in ("cuda", "triton")})

    def install(*backends):
        found = {b.name: b for b in (*backends, REFERENCE)}
        ranked = {entry.name: found[entry.name] for entry in dispatch.REGISTRY}
        monkeypatch.setattr(dispatch, "_BACKENDS", ranked)

    return install


@pytest.mark.parametrize(
    ("backends", "device", "chosen"),
    [
        ((CPU, TRITON, CUDA), "cpu", "cpu"),
        ((CPU, TRITON, CUDA), "cuda", "cuda"),
        ((CPU, TRITON, NO_CUDA), "cuda", "triton"),
        ((CPU, NO_TRITON, NO_CUDA), "cuda", "reference"),
        ((NO_CPU, NO_TRITON, NO_CUDA), "cpu", "reference"),
        ((NO_CPU, INTERPRETED, SHIM), "cpu", "reference"),
        ((CPU, INTERPRETED, SHIM), "cpu", "cpu"),
        ((CPU, TRITON, CUDA), "meta", "cpu"),
        ((NO_CPU, TRITON, CUDA), "meta", "cuda"),
        ((CPU, NO_TRITON, NO_CUDA), "meta", "cpu"),
        ((NO_CPU, INTERPRETED, SHIM), "meta", "reference"),
        ((CPU, TRITON, CUDA), "xpu", "reference"),
    ],
)
def test_choice(installed, backends, device, chosen):
    """The best backend is chosen; an interpreter or a host shim only on request."""
    installed(*backends)
    assert dispatch.choose(torch.device(device), None) == chosen


def test_a_request_is_granted_or_an_error(installed):
    installed(CPU, INTERPRETED, SHIM)
    for name in ("cpu", "triton", "cuda", "reference"):
        assert dispatch.choose(torch.device("cpu"), name) == name
    with pytest.raises(
        ValueError, match="backend='cpu' cannot take this call: it takes cpu and meta tensors, not cuda"
    ):
        dispatch.choose(torch.device("cuda"), "cpu")
    with pytest.raises(ValueError, match="usable for cuda tensors: 'triton', 'reference'"):
        dispatch.choose(torch.device("cuda"), "cpu")


def test_an_absent_backend_says_why_and_what_there_is(installed):
    installed(CPU, NO_TRITON, NO_CUDA)
    with pytest.raises(RuntimeError) as error:
        hnn_kernels.lif(torch.zeros(2, 1, 3), 0.9, 0.5, backend="triton")
    assert "backend='triton'" in str(error.value)
    assert "triton cannot be imported" in str(error.value)
    assert "usable for cpu tensors: 'cpu', 'reference'" in str(error.value)


def test_nothing_is_taken_in_silence(installed):
    """Without kernels a call still works, on the reference; asking for a kernel does not."""
    installed(NO_CPU, NO_TRITON, NO_CUDA)
    out, _ = hnn_kernels.lif(torch.full((2, 1, 3), 2.0), 0.9, 0.5)
    assert out.sum() == 6
    for name in KERNEL_BACKENDS:
        with pytest.raises(RuntimeError, match=f"backend='{name}'"):
            hnn_kernels.lif(torch.zeros(2, 1, 3), 0.9, 0.5, backend=name)


def test_explain_names_every_other_backend(installed):
    installed(CPU, INTERPRETED, NO_CUDA)
    explanation = hnn_kernels.explain(torch.zeros(2, 1))
    assert explanation.chosen == "cpu"
    assert set(explanation.others) == {"triton", "cuda", "reference"}
    assert explanation.others["cuda"] == "the CUDA kernels are not there"
    assert "only taken when asked for by name" in explanation.others["triton"]
    assert explanation.others["reference"] == "usable, but cpu is faster"
    assert str(explanation).splitlines()[0] == "cpu: chosen"
    assert len(str(explanation).splitlines()) == 4


def test_explain_of_a_request(installed):
    installed(CPU, INTERPRETED, SHIM)
    explanation = hnn_kernels.explain("cpu", backend="reference")
    assert explanation.chosen == "reference"
    assert all("backend='reference' was asked for" in reason for reason in explanation.others.values())
    with pytest.raises(ValueError, match="backend='cuda'"):
        hnn_kernels.explain("meta", backend="cuda")


def test_explain_takes_a_tensor_or_a_device(installed):
    installed(CPU, TRITON, CUDA)
    assert hnn_kernels.explain("cuda").chosen == "cuda"
    assert hnn_kernels.explain(torch.device("cuda", 1)).chosen == "cuda"
    assert "it takes cpu and meta tensors, not cuda" in hnn_kernels.explain("cuda").others["cpu"]
    assert hnn_kernels.explain(torch.zeros(1, device="meta")).chosen == "cpu"


def test_the_call_takes_what_explain_says(any_target, monkeypatch):
    """explain() and the call agree, because both ask the same function."""
    current = torch.zeros(2, 1, 3, device=any_target.device)
    asked = []
    choose = dispatch.choose
    monkeypatch.setattr(dispatch, "choose", lambda *a: asked.append(choose(*a)) or asked[-1])
    hnn_kernels.lif(current, 0.9, 0.5, backend=any_target.backend)
    assert hnn_kernels.explain(current, backend=any_target.backend).chosen == any_target.backend
    assert asked == [any_target.backend] * 2


def test_the_kernel_that_is_chosen_runs(target, monkeypatch):
    """The request goes to that backend's operators and to no other's."""
    from hnn_kernels._ops import autograd

    called = []
    for table in (autograd.forward_ops, autograd.backward_ops):
        for name, op in table.items():
            monkeypatch.setitem(table, name, lambda *a, op=op, name=name: called.append(name) or op(*a))
    current = torch.ones(2, 1, 3, device=target.device, requires_grad=True)
    hnn_kernels.lif(current, 0.9, 0.5, backend=target.backend)[0].sum().backward()
    assert called == [target.backend] * 2


def test_backends_is_a_copy():
    hnn_kernels.backends().clear()
    assert set(hnn_kernels.backends()) == {*KERNEL_BACKENDS, "reference"}


def test_every_backend_has_devices_or_a_reason():
    for name, backend in hnn_kernels.backends().items():
        assert backend.name == name
        assert bool(backend.devices) != bool(backend.reason), backend
    assert hnn_kernels.backends()["reference"].devices == ("any",)


def test_an_empty_variable_is_an_unset_one():
    """And what Triton takes for its interpreter is what is reported."""
    code = "import hnn_kernels; print(hnn_kernels.explain('cpu'), hnn_kernels.backends()['triton'].devices)"
    told = []
    for variables in ({}, {"HNN_CPU_ISA": "", "TRITON_INTERPRET": ""}, {"TRITON_INTERPRET": "0"}):
        plain = {name: value for name, value in os.environ.items() if name not in ("HNN_CPU_ISA", "TRITON_INTERPRET")}
        done = subprocess.run([sys.executable, "-c", code], env=plain | variables, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        told.append(done.stdout)
    assert told[0] == told[1] == told[2]


@pytest.mark.parametrize(("value", "interpreted"), [("true", True), ("on", True), ("2", None), ("interpret", None)])
def test_the_interpreter_is_on_where_triton_says_so(value, interpreted):
    pytest.importorskip("triton")
    code = "import hnn_kernels; b = hnn_kernels.backends()['triton']; print('cpu' in b.devices, b.reason)"
    environment = os.environ | {"TRITON_INTERPRET": value}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    expected = "True " if interpreted else f"False TRITON_INTERPRET must be 0 or 1; got '{value}'"
    assert done.stdout.strip("\n") == expected, done.stderr


def test_an_instruction_set_that_is_not_there_is_an_error():
    if hnn_kernels.backends()["cpu"].reason:
        pytest.skip(hnn_kernels.backends()["cpu"].reason)
    code = "import torch, hnn_kernels; hnn_kernels.lif(torch.zeros(2, 1, 3), 0.5, 0.5, backend='cpu')"
    environment = os.environ | {"HNN_CPU_ISA": "avx3"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "HNN_CPU_ISA must be one of" in done.stderr
    assert "got 'avx3'" in done.stderr


def test_a_backend_is_not_chosen_by_its_name(installed):
    """Only its probe says for which devices it may be chosen."""
    installed(Backend("cpu", ("cpu",), ""), TRITON, Backend("cuda", ("cuda",), ""))
    assert dispatch.choose(torch.device("cpu"), None) == "reference"
    assert dispatch.choose(torch.device("cuda"), None) == "triton"


def test_the_registry_stands_for_what_is_there():
    """Its order is the preference, and every entry with kernels has the operators."""
    names = [entry.name for entry in dispatch.REGISTRY]
    assert list(hnn_kernels.backends()) == names
    assert names[-1] == "reference"
    assert set(forward_ops) == set(backward_ops) == set(KERNEL_BACKENDS) == {*names} - {"reference"}
    for backend in hnn_kernels.backends().values():
        assert set(backend.automatic) <= set(backend.devices)


def layer_of(dtype=torch.float32, **options):
    """The layer of a call with these options of :func:`hnn_kernels.lif`."""
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            functional._dispatch, "choose", lambda device, requested, layer: found.append(layer) or "reference"
        )
        lif_of(torch.zeros(2, 1, 3, dtype=dtype), **options)
    return found[0]


def lif_of(current, **options):
    """A call with these options."""
    reset_decay = 0.5 if options.get("reset", "filter") == "filter" else None
    return hnn_kernels.lif(current, 0.9, reset_decay, **options)


def fir(*taps):
    """A filter with no feedback."""
    return hnn_kernels.IIR([], list(taps))


DUAL = hnn_kernels.IIR([0.9, -0.2], [0.3])
LONGER = hnn_kernels.IIR([0.9, -0.2, 0.1], [0.3])
# Options of a layer, and if the CUDA kernels have a form of their own for it.
LAYERS = {
    "plain": ({}, True),
    "plain, float64": ({"dtype": torch.float64}, False),
    "plain, bfloat16": ({"dtype": torch.bfloat16}, True),
    "another reset and surrogate": ({"reset": "zero", "surrogate": "arctan"}, True),
    "a synapse": ({"synapse": DUAL}, True),
    "an axon": ({"axon": DUAL}, True),
    "read-out": ({"potential": "max"}, True),
    "smooth": ({"smooth": True}, False),
    "a synapse and an axon": ({"synapse": DUAL, "axon": DUAL}, False),
    "another order": ({"axon": LONGER}, False),
    "no feedback": ({"synapse": fir(0.5, 0.2)}, False),
    "read-out behind a synapse": ({"synapse": DUAL, "potential": "max"}, False),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_without_a_cuda_kernel_of_its_own_is_left_to_triton(installed, monkeypatch, name):
    """A call without a backend takes Triton for such a layer if it can; a backend that was asked for stays."""
    if _extensions.cuda is None:
        pytest.skip(f"no CUDA kernels, which tell their forms: {_extensions.cuda_error}")
    options, own = LAYERS[name]
    layer, gpu = layer_of(**options), torch.device("cuda")
    installed(CPU, TRITON, CUDA)
    assert dispatch.choose(gpu, None, layer) == ("cuda" if own else "triton")
    assert dispatch.choose(gpu, "cuda", layer) == "cuda"
    assert dispatch.choose(torch.device("cpu"), None, layer) == "cpu"
    installed(CPU, NO_TRITON, CUDA)
    assert dispatch.choose(gpu, None, layer) == "cuda"
    installed(CPU, TRITON, CUDA)
    monkeypatch.setitem(dispatch._REFUSES, "triton", lambda capability: "it needs another GPU")
    monkeypatch.setattr(dispatch, "_GPUS", {})
    assert dispatch.choose(gpu, None, layer) == "cuda"
    installed(CPU, TRITON, NO_CUDA)
    monkeypatch.setitem(dispatch._REFUSES, "triton", lambda capability: "")
    monkeypatch.setattr(dispatch, "_GPUS", {})
    assert dispatch.choose(gpu, None, layer) == "triton"


@pytest.mark.parametrize("name", LAYERS)
def test_a_compiled_call_takes_the_same_backend(monkeypatch, name):
    """The choice is traced into one graph. A tensor on "meta" stands for one on any GPU."""
    if _extensions.cuda is None:
        pytest.skip(f"no CUDA kernels, which tell their forms: {_extensions.cuda_error}")
    options, own = LAYERS[name]
    dtype = options.get("dtype", torch.float32)
    options = {key: value for key, value in options.items() if key != "dtype"}
    graphs = []

    def keep(graph, inputs):
        graphs.append(graph)
        return graph.forward

    @torch.compile(fullgraph=True, backend=keep)
    def call(current):
        return lif_of(current, **options)

    monkeypatch.setattr(dispatch, "_BACKENDS", {b.name: b for b in (NO_CPU, CUDA, TRITON, REFERENCE)})
    monkeypatch.setattr(dispatch, "_REFUSES", {})
    torch.compiler.reset()  # the code of `call` is that of every name
    call(torch.zeros(2, 1, 3, dtype=dtype, device="meta"))
    (graph,) = graphs
    taken = [name for name in KERNEL_BACKENDS if f"lif_forward_{name}" in graph.code]
    assert taken == ["cuda" if own else "triton"], graph.code


def test_the_forms_are_those_of_the_kernels():
    """The forms that the module names are those in the tables of docs/gpu-tables.md; float64 has none."""
    if _extensions.cuda is None:
        pytest.skip(f"no CUDA kernels, which tell their forms: {_extensions.cuda_error}")
    for name, (filters, options) in FORMS.items():
        filters = {k: of_orders(*v) if k in ("synapse", "axon") else v for k, v in filters.items()}
        for dtype in DTYPES:
            own = dispatch._form(layer_of(dtype, **filters, **options)) in dispatch._OWN_FORMS.get(dtype, ())
            assert own == (name not in ("general", "anything") and dtype != torch.float64), (name, dtype)


def of_orders(feedback, feedforward):
    """A filter of these orders."""
    return hnn_kernels.IIR([0.1] * feedback, [0.1] * (feedforward + 1))
