"""The device to compute on."""

import pytest
import torch

from hnn_models.training.device import (
    FAST_PRECISIONS,
    as_device,
    device_name,
    fast_precision,
    has_bfloat16_units,
    resolve_device,
)
from hnn_models.training.protocol import PRECISIONS


def test_device():
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(ValueError, match="device must be 'auto', 'cpu' or 'cuda'; got 'gpu'"):
        resolve_device("gpu")


def test_device_name():
    assert device_name(torch.device("cpu"))


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu"), "cpu:0", torch.device("cpu", 0)])
def test_a_device_or_its_name(device):
    assert as_device(device).type == "cpu"


@pytest.mark.parametrize(
    ("device", "error", "message"),
    [
        ("gpu", ValueError, "device must be 'auto', 'cpu' or 'cuda'; got 'gpu'"),
        ("gpu:1", ValueError, "device must be 'auto', 'cpu', 'cuda' or 'cuda:INDEX'; got 'gpu:1'"),
        ("meta:0", ValueError, "device must be a CPU or a CUDA device; got 'meta:0'"),
        (torch.device("meta"), ValueError, "device must be a CPU or a CUDA device; got 'meta'"),
        (f"cuda:{torch.cuda.device_count()}", ValueError, "cannot be used: torch finds [0-9]+ CUDA devices"),
        (torch.device("cuda", 99), ValueError, "device 'cuda:99' cannot be used"),
        (0, TypeError, "device must be a torch.device or its name; got 0 of type int"),
        (None, TypeError, "device must be a torch.device or its name; got None"),
    ],
)
def test_what_is_no_device(device, error, message):
    with pytest.raises(error, match=message):
        as_device(device)


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"architecture": "x86_64", "avx512_f": True, "avx512_bf16": False, "amx_bf16": False}, False),
        ({"architecture": "x86_64"}, False),
        ({"architecture": "x86_64", "avx512_bf16": True}, True),
        ({"architecture": "x86_64", "amx_bf16": True}, True),
        ({"architecture": "aarch64"}, True),  # not known to have none
        ({}, True),
    ],
)
def test_units_for_bfloat16(capabilities, expected, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert has_bfloat16_units(torch.device("cpu")) is expected
    assert fast_precision(torch.device("cpu")) == ("bf16-mixed" if expected else "32-true")


def test_units_for_bfloat16_of_a_gpu(monkeypatch):
    for capability, expected in (((7, 5), False), ((8, 0), True), ((9, 0), True)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, found=capability: found)
        assert has_bfloat16_units(torch.device("cuda")) is expected


def test_the_probe_of_this_torch_is_there():
    assert "architecture" in torch.cpu.get_capabilities()
    assert set(FAST_PRECISIONS) < set(PRECISIONS)
