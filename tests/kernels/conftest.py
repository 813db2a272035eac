"""Fixtures that several files of tests of the kernels share."""

import pytest

from support.spike_products import take


@pytest.fixture(params=["sums", "dense"])
def way(request, monkeypatch):
    """Both ways of the CPU operators of products with spikes, whatever the density."""
    take(request.param, monkeypatch)
    return request.param
