"""The device to compute on."""

import itertools

import pytest
import torch

from hnn_models.training import device as device_module
from hnn_models.training.device import (
    FAST_PRECISIONS,
    as_device,
    bfloat16_pays,
    device_name,
    fast_precision,
    product_ms,
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


@pytest.mark.parametrize(("bfloat16", "float32", "expected"), [(1.0, 1.9, True), (2.6, 1.4, False), (14.0, 1.4, False)])
def test_whether_bfloat16_pays(bfloat16, float32, expected, monkeypatch):
    measured = {torch.bfloat16: bfloat16, torch.float32: float32}
    monkeypatch.setattr(device_module, "product_ms", lambda: measured)
    assert bfloat16_pays(torch.device("cpu")) is expected
    assert fast_precision(torch.device("cpu")) == ("bf16-mixed" if expected else "32-true")
    assert set(FAST_PRECISIONS) < set(PRECISIONS)


def test_whether_bfloat16_pays_on_a_gpu(monkeypatch):
    for capability, expected in (((7, 5), False), ((8, 0), True), ((9, 0), True)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, found=capability: found)
        assert bfloat16_pays(torch.device("cuda")) is expected


def test_products_are_measured_once(monkeypatch):
    # The clock ticks once at each look, but for the products of float32, which seem to take a second more.
    looks = itertools.cycle((0, 0, 0, 1))
    elapsed = itertools.accumulate(1 + look for look in looks)
    monkeypatch.setattr(device_module.time, "perf_counter", lambda: next(elapsed))
    device_module.product_ms.cache_clear()
    try:
        assert product_ms() == {torch.bfloat16: 1e3, torch.float32: 2e3}
        before = next(elapsed)
        product_ms()
        assert next(elapsed) - before <= 2
    finally:
        device_module.product_ms.cache_clear()
