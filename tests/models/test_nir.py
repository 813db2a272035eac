"""The spiking part of a network as a NIR graph."""

import pytest
import torch

import hnn_kernels
from hnn_kernels.nir import NIRWarning, export, load
from hnn_models import HybridNetwork

nir = pytest.importorskip("nir", reason="NIR needs the extra 'nir'")

ZERO = {"decay": 0.8, "reset": "zero", "reset_decay": None}
NETWORKS = {
    "dense": (("A50-A30-S20-S10", (1, 6, 6), "duplicate"), {"gain": 20.0}),
    "convolutions": (("S4C3-S3C3-S20-S10", (2, 8, 8), "poisson"), {**ZERO, "gain": 6.0}),
    "axon input": (("A50-A30-S20-S10", (1, 6, 6), "gaussian"), {"input": "axon", "axon": "normalized"}),
    "learnt": (
        ("A4C3-S4C3-S10", (1, 8, 8), "duplicate"),
        {**ZERO, "learn": ("axon", "decay"), "per": "channel", "axon": "exponential"},
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_graph_gives_the_logits(name, tmp_path):
    arguments, options = NETWORKS[name]
    torch.manual_seed(0)
    network = HybridNetwork(*arguments, steps=12, **{"gain": 4.0, **options}).double().eval()
    images = torch.rand(5, *arguments[1], dtype=torch.float64)
    torch.manual_seed(1)
    logits = network(images)
    torch.manual_seed(1)
    signal = network.code.encode(network.encode_features(images))
    coded = signal.value if signal.steps is None else hnn_kernels.encode_duplicate(signal.value, signal.steps)
    if options.get("reset") == "zero":
        graph = export(network, dt=1e-3, strict=True)
    else:
        with pytest.warns(NIRWarning, match="'neurons0' has reset='filter', 'neurons1' has reset='filter'"):
            graph = export(network, dt=1e-3)
    nir.write(tmp_path / "network.nir", graph)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        loaded = load(tmp_path / "network.nir", dt=1e-3)
    finally:
        torch.set_default_dtype(before)
    assert loaded.input_shape == coded.shape[2:]
    assert logits.std() > 0.3
    assert torch.equal(loaded(coded).sum(0), logits)


def test_networks_without_a_graph():
    with pytest.raises(TypeError, match=r"'weights1.0', a MaxPool2d, has no node in NIR"):
        export(HybridNetwork("S4C3-P2-S10", (1, 8, 8)), dt=1e-3)
    with pytest.raises(ValueError, match="the architecture must have a spiking part; got A16-A10"):
        export(HybridNetwork("A16-A10", (1, 4, 4)), dt=1e-3)
