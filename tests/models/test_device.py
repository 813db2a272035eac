"""The device to compute on."""

import pytest
import torch

from hnn_models.training.device import device_name, resolve_device


def test_device():
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(ValueError, match="device must be 'auto', 'cpu' or 'cuda'; got 'gpu'"):
        resolve_device("gpu")


def test_device_name():
    assert device_name(torch.device("cpu"))
