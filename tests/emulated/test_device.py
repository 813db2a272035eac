"""The device that is not there, as torch, the CUDA module and Triton see it."""

import os
import re
import subprocess
import sys

import pytest
import torch

import hnn_kernels
from hnn_kernels import _extensions
from support.comparisons import equal_bits
from support.layers import gradients, inputs, run
from support.paths import ROOT
from support.targets import emulated_device


def test_torch_sees_a_gpu():
    assert torch.cuda.is_available()
    major, minor = torch.cuda.get_device_capability()
    assert f"{major}.{minor}" == os.environ["HNN_EMULATE"]
    assert torch.cuda.get_device_properties(0).multi_processor_count == 132


def test_memory_of_the_device():
    x = torch.arange(12.0).reshape(3, 4)
    y = x.cuda()
    assert y.is_cuda
    equal_bits(y.t()[1:].contiguous().cpu(), x.t()[1:].contiguous(), "a copy of a part")
    y[1] += 1
    assert torch.equal(x[1] + 1, y[1].cpu())
    assert torch.empty(5, device="cuda").isnan().all(), "a new block"
    before = torch.cuda.mem_get_info()[0]
    block = torch.empty(1 << 20, device="cuda")
    assert torch.cuda.mem_get_info()[0] <= before - block.nbytes
    del block
    assert torch.cuda.mem_get_info()[0] == before


def test_a_kernel_of_torch_is_not_run(target):
    """An operator that no function stands in for would launch machine code."""
    before = emulated_device().launches
    x = torch.randn(4, 5, device="cuda", requires_grad=True)
    (x @ x.t()).sum().backward()
    torch.testing.assert_close(x.grad.cpu(), 2 * x.detach().cpu().sum(0).expand(4, 5), rtol=1e-5, atol=1e-5)
    assert emulated_device().launches == before


def test_streams_and_events():
    stream = torch.cuda.Stream()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    with torch.cuda.stream(stream):
        start.record()
        x = torch.ones(3, device="cuda")
        end.record()
    stream.synchronize()
    assert start.elapsed_time(end) >= 0
    assert x.sum().item() == 3


def test_a_graph_is_launched_again(target):
    arguments = inputs((9, 2, 5), device="cuda")
    run(arguments, target.backend)  # compiled before it is captured
    graph = torch.cuda.CUDAGraph()
    before = emulated_device().launches
    with torch.cuda.graph(graph):
        out, _ = run(arguments, target.backend, return_state=False)
    assert emulated_device().launches == before, "nothing runs while it is captured"
    for seed in (1, 2):
        arguments["current"].copy_(inputs((9, 2, 5), seed=seed)["current"])
        graph.replay()
        equal_bits(out, run(arguments, "reference")[0], f"replay {seed}")


def test_a_report_becomes_an_error_of_the_launch(target):
    device = emulated_device()
    device.edit = lambda name, text: text.replace("mul.rn.f32", "mul.unknown.f32")
    try:
        with pytest.raises(RuntimeError, match=r"PTXError: .*mul\.unknown\.f32"):
            run(inputs((3, 2, 5), device="cuda"), target.backend)
    finally:
        device.edit = None
    run(inputs((3, 2, 5), device="cuda"), target.backend)


def test_a_kernel_whose_threads_share_memory_asks_for_all_of_it(target):
    """Else a multiprocessor may give it what one block needs, and hold one block."""
    if target.backend != "cuda":
        pytest.skip("Triton's kernels for layers share none")
    device = emulated_device()
    before, device.kernels = device.kernels, set()
    gradients(inputs((9, 2, 5), device="cuda"), target.backend, wanted=["current"])
    found = {re.match(r"_ZN8hnn_cuda\d+(\w+?)I", name)[1]: device.carveout(name) for name in device.kernels}
    device.kernels |= before
    assert found == {"forward": None, "backward": 100}


SEVERAL = """
import torch, hnn_kernels
print([torch.cuda.get_device_capability(i) for i in range(torch.cuda.device_count())])
x = torch.zeros(5, 2, 3, device="cuda:1", requires_grad=True)
out, state = hnn_kernels.lif(x, 0.5, 0.5, backend="cuda")
out.backward(out)
print(out.device, x.grad.device)
"""


@pytest.mark.skipif(_extensions.cuda is None, reason="no CUDA module")
def test_several_devices_whose_launches_do_nothing():
    path = os.pathsep.join(str(ROOT / folder) for folder in ("tests/emulator/startup", "tests", "."))
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTORCH_", "TRITON_"))}
    done = subprocess.run(
        [sys.executable, "-c", SEVERAL], env=environment | {"HNN_EMULATE": "9.0,7.5", "PYTHONPATH": path}, cwd=ROOT,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.split("\n")[:2] == ["[(9, 0), (7, 5)]", "cuda:1 cuda:1"], done.stdout + done.stderr


def test_the_backends_are_usable():
    assert {name for name, one in hnn_kernels.backends().items() if "cuda" in one.devices} <= {"cuda", "triton"}
