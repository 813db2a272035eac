"""Both ways of the CPU operators of products with spikes."""

from hnn_kernels._ops import products


def take(way, monkeypatch):
    """Take the ``"sums"`` of the kernels, or the ``"dense"`` products of torch, whatever the density."""

    def sparse(name, spikes, rows, features, outputs, dtype):
        return way == "sums" and rows * features * outputs > 0

    monkeypatch.setattr(products, "_sparse", sparse)
    monkeypatch.setattr(products, "_CHANNELS", 1)
