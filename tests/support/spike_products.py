"""Both ways of the CPU operators of products with spikes."""

from hnn_kernels._ops import density


def take(way, monkeypatch):
    """Take the ``"sums"`` of the kernels, or the ``"dense"`` products of torch, whatever the density."""

    def sparse(name, spikes, rows, features, outputs, dtype):
        return way == "sums" and rows * features * outputs > 0

    monkeypatch.setattr(density, "sparse", sparse)
    monkeypatch.setattr(density, "_CHANNELS", 1)
