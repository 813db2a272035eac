"""All architectures of the paper's tables, with what is known of them by hand."""

import pytest
import torch

from hnn_models import HybridNetwork
from hnn_models.network import table as describe

MLPS = ["S784-S500-S10", "A784-S500-S10", "A784-A500-S10", "A784-A500-A10"]
CNNS = [
    "S32C3-S32C3-S64C3-P2-S64C3-P2-S512-S10",
    "A32C3-S32C3-S64C3-P2-S64C3-P2-S512-S10",
    "A32C3-A32C3-A64C3-P2-S64C3-P2-S512-S10",
    "A32C3-A32C3-A64C3-P2-A64C3-P2-S512-S10",
    "A32C3-A32C3-A64C3-P2-A64C3-P2-A512-A10",
]
# 784 * 784 + 784, 784 * 500 + 500, 500 * 10 + 10
MLP = [615_440, 392_500, 5_010]
# 3 * 32 * 9 + 32, 32 * 32 * 9 + 32, 32 * 64 * 9 + 64, 0, 64 * 64 * 9 + 64, 0, 64 * 5 * 5 * 512 + 512, 512 * 10 + 10
CNN = [896, 9_248, 18_496, 0, 36_928, 0, 819_712, 5_130]


def table(network):
    return [row for row in describe.rows(network) if row.part in ("artificial", "spiking")]


@pytest.mark.parametrize("architecture", MLPS + CNNS)
@pytest.mark.parametrize("input_", ["direct", "axon"])
def test_shapes_parameters_and_a_training_step(architecture, input_):
    cnn = architecture in CNNS
    shape, parameters = ((3, 32, 32), CNN) if cnn else ((1, 28, 28), MLP)
    network = HybridNetwork(architecture, shape, steps=3, input=input_)
    rows = table(network)
    assert [row.parameters for row in rows] == parameters
    sides = [(32, 30), (32, 28), (64, 26), (64, 13), (64, 11), (64, 5)]
    shapes = [*((c, side, side) for c, side in sides), (512,), (10,)] if cnn else [(784,), (500,), (10,)]
    assert [row.shape for row in rows] == shapes
    assert [row.part[0].upper() for row in rows if row.name[0] != "P"] == [
        t[0] for t in architecture.split("-") if t[0] != "P"
    ]
    assert sum(p.numel() for p in network.parameters()) == sum(parameters)
    logits = network(torch.rand(2, *shape))
    assert logits.shape == (2, 10)
    logits.sum().backward()
    assert all(p.grad is not None for p in network.parameters())


@pytest.mark.parametrize(
    ("architecture", "more"),
    [
        ("A784-S500-S10", 615_440),
        ("A784-A500-S10", 392_500),
        ("A32C3-S32C3-S64C3-P2-S64C3-P2-S512-S10", 896),
        ("A32C3-A32C3-A64C3-P2-S64C3-P2-S512-S10", 18_496),
        ("A32C3-A32C3-A64C3-P2-A64C3-P2-S512-S10", 36_928),
    ],
)
def test_gaussian_coding_doubles_the_last_artificial_layer(architecture, more):
    cnn = architecture in CNNS
    shape = (3, 32, 32) if cnn else (1, 28, 28)
    network = HybridNetwork(architecture, shape, "gaussian", 3)
    assert sum(p.numel() for p in network.parameters()) == sum(CNN if cnn else MLP) + more
    assert network.encode_features(torch.rand(2, *shape)).shape == (2, *network.features_shape)
    assert network(torch.rand(2, *shape)).shape == (2, 10)


@pytest.mark.parametrize("architecture", MLPS + CNNS)
def test_poisson_coding(architecture):
    shape = (3, 32, 32) if architecture in CNNS else (1, 28, 28)
    hybrid = architecture[0] == "A" and "S" in architecture
    network = HybridNetwork(architecture, shape, "poisson", 3, fixed_artificial=hybrid)
    assert network(torch.rand(2, *shape)).shape == (2, 10)
    if hybrid:
        assert network.activations[-1] == "sigmoid"
        assert set(network.activations[:-1]) <= {"relu"}
