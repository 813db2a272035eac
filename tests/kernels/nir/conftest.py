import pytest
import torch


@pytest.fixture
def float64():
    """Float64 as torch's default, and a seed."""
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)
