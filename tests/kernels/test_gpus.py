"""The choice for each GPU, by the architectures that the CUDA kernels were compiled for; no GPU need be there."""

import os
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

import hnn_kernels
from hnn_kernels import __main__ as command
from hnn_kernels import _dispatch as dispatch
from hnn_kernels._architectures import serves
from support.gpus import compile_for, pretend

FIRST, SECOND = torch.device("cuda", 0), torch.device("cuda", 1)


@pytest.mark.parametrize(
    ("architectures", "capability", "expected"),
    [
        ("8.0;9.0;10.0+PTX", (8, 0), True),
        ("8.0;9.0;10.0+PTX", (8, 6), True),
        ("8.0;9.0;10.0+PTX", (7, 5), False),
        ("8.0;9.0;10.0+PTX", (12, 0), True),
        ("8.0;9.0;10.0", (12, 0), False),
        ("8.0;9.0;10.0", (10, 3), True),
        ("8.6", (8, 0), False),
        ("8.6+PTX", (8, 0), False),
        ("8.0+PTX 9.0", (12, 1), True),
        ("9.0a", (9, 0), True),
        ("9.0a+PTX", (10, 0), False),
        ("10.0a", (10, 3), False),
        ("8.0", (8, 7), False),
        ("8.0+PTX", (8, 7), True),
        ("8.7", (8, 7), True),
        ("", (9, 0), False),
    ],
)
def test_which_gpus_run_what_was_compiled(architectures, capability, expected):
    """Binary code within a major number and upwards, PTX upwards, features of one architecture there alone."""
    assert serves(architectures, capability) is expected


@pytest.fixture
def mixed(monkeypatch):
    """A machine with an H100 and a T4, and CUDA kernels for the first alone; the questions to the GPUs."""
    asked = pretend(monkeypatch, (9, 0), (7, 5))
    compile_for(monkeypatch, "8.0;9.0")
    return asked


def test_each_gpu_has_its_own_choice(mixed):
    assert dispatch.choose(FIRST, None) == "cuda"
    assert mixed == [0], "the second GPU was asked for a tensor on the first"
    assert dispatch.choose(SECOND, None) == "triton"
    assert dispatch.choose(torch.device("cuda"), None) == "cuda", "the current GPU is the first"
    for _ in range(3):
        dispatch.choose(FIRST, None)
        dispatch.choose(SECOND, "triton")
        hnn_kernels.backends()
        hnn_kernels.explain(SECOND)
    assert mixed == [0, 1], "a GPU was asked twice"


def test_the_reason_names_the_gpu_and_what_was_compiled(mixed):
    reason = hnn_kernels.explain(SECOND).others["cuda"]
    for words in ("compiled for 8.0;9.0", "compute capability 7.5", "TORCH_CUDA_ARCH_LIST=7.5", "pip install"):
        assert words in reason
    found = hnn_kernels.backends()["cuda"]
    assert found.devices[:2] == ("cuda", "meta")
    assert found.refused == (f"cuda:1: {reason}",)
    assert hnn_kernels.backends()["triton"].refused == ()
    assert hnn_kernels.explain(FIRST).others["triton"].startswith("usable, but cuda is faster, except for the layers")


def test_a_request_for_a_gpu_that_is_not_served_is_refused(mixed):
    assert dispatch.choose(FIRST, "cuda") == "cuda"
    with pytest.raises(RuntimeError, match=r"backend='cuda' .*compiled for 8\.0;9\.0.*: 'triton', 'reference'$"):
        dispatch.choose(SECOND, "cuda")
    with pytest.raises(RuntimeError, match="backend='cuda'"):
        hnn_kernels.explain(SECOND, backend="cuda")


def test_a_module_that_serves_no_gpu_here_says_why(monkeypatch):
    pretend(monkeypatch, (7, 5))
    compile_for(monkeypatch, "9.0")
    found = hnn_kernels.backends()["cuda"]
    assert found.devices == found.automatic == ()
    assert re.match(r"cuda:0: the CUDA kernels are compiled for 9\.0, .* 7\.5", found.reason)
    assert dispatch.choose(torch.device("cuda"), None) == "triton"


def test_triton_is_not_chosen_on_a_gpu_that_it_does_not_know(monkeypatch):
    pretend(monkeypatch, (6, 1))
    compile_for(monkeypatch, "9.0")
    explanation = hnn_kernels.explain(FIRST)
    assert explanation.chosen == "reference"
    assert "7.0 or above, and this one has 6.1" in explanation.others["triton"]


def test_a_gpu_without_kernels_is_warned_of(monkeypatch):
    """On a GPU kernels are expected; a loop in plain PyTorch must not take their place in silence."""
    pretend(monkeypatch, (6, 1))
    compile_for(monkeypatch, "9.0")
    monkeypatch.setattr(dispatch, "_warned", False)
    with pytest.warns(hnn_kernels.ReferenceWarning, match=r"cuda: .*compiled for 9\.0.*; triton: .*7\.0 or above"):
        dispatch.warn_of_the_reference(FIRST, None, 2)


def test_a_gpu_that_is_not_there(monkeypatch):
    pretend(monkeypatch, (9, 0))
    compile_for(monkeypatch, "9.0")
    assert dispatch.choose(SECOND, None) == "reference"
    assert "cuda:1 is not there; the number" in hnn_kernels.explain(SECOND).others["cuda"]


def test_no_gpu_is_the_reason_where_there_is_none(monkeypatch):
    pretend(monkeypatch)
    compile_for(monkeypatch, "9.0")
    for name in ("cuda", "triton"):
        assert "torch finds no CUDA device" in hnn_kernels.backends()[name].reason
        assert "torch finds no CUDA device" in hnn_kernels.explain("cuda").others[name]
        with pytest.raises(RuntimeError, match="torch finds no CUDA device"):
            dispatch.choose(torch.device("meta"), name)


def test_a_tensor_on_meta_asks_no_gpu_where_it_need_not(mixed):
    meta = torch.device("meta")
    if "meta" in hnn_kernels.backends()["cpu"].devices:
        mixed.clear()
        dispatch._GPUS.clear()
        assert dispatch.choose(meta, None) == "cpu"
        assert mixed == []
    assert dispatch.choose(meta, "cuda") == "cuda"
    dispatch._BACKENDS.pop("cpu")
    assert dispatch.choose(meta, None) == "cuda"


def test_the_choice_is_traced_as_a_constant(monkeypatch):
    """The questions to a GPU are not traced."""

    def capability(index):
        torch._dynamo.graph_break()  # an error where it is traced
        return [(9, 0), (7, 5)][index]

    cuda = SimpleNamespace(is_available=lambda: True, device_count=lambda: 2, get_device_capability=capability)
    compile_for(monkeypatch, "8.0;9.0")
    monkeypatch.setattr(dispatch, "_GPUS", {})
    monkeypatch.setattr(dispatch, "torch", SimpleNamespace(cuda=cuda))  # the compiler asks for GPUs, too

    @torch.compile(fullgraph=True, backend="eager")
    def chosen(x):
        names = dispatch.choose(FIRST, None), dispatch.choose(SECOND, None)
        return x + 1 if names == ("cuda", "triton") else x

    assert chosen(torch.zeros(())) == 1
    assert sorted(dispatch._GPUS) == [0, 1]


ASKS_NOTHING = """
import os, sys, torch

def asked(*arguments):
    raise AssertionError("CUDA is asked")

for name in ("is_available", "device_count", "current_device", "get_device_capability", "init", "_lazy_init"):
    setattr(torch.cuda, name, asked)
for name in ("_cuda_getDeviceCount", "_cuda_init"):
    if hasattr(torch._C, name):
        setattr(torch._C, name, asked)

import hnn_kernels, hnn_models

def runs():
    current = torch.ones(3, 2, 5, requires_grad=True)
    for _ in range(4):
        hnn_kernels.lif(current, 0.9, 0.5)[0].sum().backward()
    hnn_kernels.encode_poisson(torch.rand(2, 3), 2)
    hnn_kernels.spike_linear(torch.ones(4, 3), torch.ones(2, 3))
    hnn_kernels.lif(current.to("meta"), 0.9, 0.5)
    return hnn_kernels.explain("cpu").chosen

before = runs()
child = os.fork()
if child == 0:
    os._exit(runs() != before)
print("child", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_import_and_calls_on_the_cpu_ask_no_gpu():
    """A process that has counted its devices cannot use them in a fork, and CUDA_VISIBLE_DEVICES comes too late."""
    if "meta" not in hnn_kernels.backends()["cpu"].devices:
        pytest.skip("without the C++ kernels a tensor on meta asks for a GPU")
    done = subprocess.run([sys.executable, "-c", ASKS_NOTHING], capture_output=True, text=True, check=False)
    assert done.stdout == "child 0\n", done.stderr


def test_the_command_tells_the_choice_for_each_gpu(mixed, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"GPU {index}")
    command.main()
    told = capsys.readouterr().out
    assert re.search(r"^backend     cuda: usable on cuda, meta\n +not on cuda:1: .*compiled for 8\.0;9\.0", told, re.M)
    assert told.endswith("default     cuda:0 tensors take cuda\ndefault     cuda:1 tensors take triton\n")
