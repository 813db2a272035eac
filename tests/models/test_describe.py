"""The table of a network against numbers worked out by hand."""

import pytest
import torch

import hnn_kernels
from hnn_models import HybridNetwork
from hnn_models.network import table as describe


def test_the_printed_table():
    network = HybridNetwork("A4C3-P2-S6C2-P2-S5", (2, 9, 8), "gaussian", 7, input="axon", learn=("axon",))
    # A4C3: 2 * (2 * 4 * 9 + 4); coding: 3 per neuron, 2 numbers each; S6C2: 4 * 6 * 4 + 6 and 3 per neuron,
    # V, R and 2 of the axon each; S5: 6 * 5 + 5, V and R
    assert str(network).split("\n") == [
        "HybridNetwork('A4C3-P2-S6C2-P2-S5', input_shape=(2, 9, 8), coding='gaussian', steps=7, input='axon')",
        "layer           part        shape  parameters  state (B)",
        "input                       2x9x8           0          0",
        "A4C3            artificial  4x7x6         152          0",
        "P2              artificial  4x3x3           0          0",
        "gaussian, axon  coding      4x3x3         108        288",
        "S6C2            spiking     6x2x2         174        384",
        "P2              spiking     6x1x1           0          0",
        "S5              spiking     5              35         40",
        "total                                     469        712",
    ]


@pytest.mark.parametrize(
    ("options", "numbers"),
    [
        ({}, 4),
        ({"axon": None}, 2),
        ({"axon": "normalized"}, 5),
        ({"reset": "subtract"}, 3),
        ({"synapse": "exponential"}, 5),
    ],
)
def test_state_of_a_neuron(options, numbers):
    network = HybridNetwork("S7-S5", (1, 4, 4), **options)
    assert describe.rows(network)[2].state == 4 * 7 * numbers


@pytest.mark.skipif(hnn_kernels.explain("cpu").chosen != "cpu", reason="the reference keeps every step")
@pytest.mark.parametrize("coding", ["duplicate", "poisson"])
def test_kept_for_backward(coding):
    """The kernels keep their current, weights their input, a pool its input and indices of 8 bytes; T is 6.

    Spikes are kept as bits, a line of an image or the features in whole bytes. Where an axon comes behind the weights,
    there is a number for each step, by which the bias is multiplied. Behind the pool the weights meet filtered trains.
    Where few outputs or channels gain nothing by spikes, they are kept as they are.
    """
    network = HybridNetwork("S6C3-P2-S7-S40-S5", (2, 9, 8), coding, 6, backend="cpu")
    images, maps, pooled = 2 * 9 * 8, 6 * 7 * 6, 6 * 3 * 3
    first = 4 * (images + maps) if coding == "duplicate" else 4 * 6 * (images + maps)
    state = torch.random.get_rng_state()
    assert describe.kept_for_backward(network) == [
        0,
        0,
        first,
        6 * maps * 4 + 6 * pooled * 8,
        4 * 6 * (pooled + 7),
        6 * 1 + 4 * 6 * (1 + 40),
        4 * 6 * (40 + 5),
    ]
    assert torch.equal(torch.random.get_rng_state(), state)


def test_nothing_is_kept_for_a_fixed_part():
    network = HybridNetwork("A6C3-S5", (2, 9, 8), fixed_artificial=True)
    assert describe.kept_for_backward(network)[1] == 0
    assert describe.kept_for_backward(HybridNetwork("A6C3-S5", (2, 9, 8)))[1] > 0
