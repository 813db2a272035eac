"""The description of a network: its defaults, what it normalises, and the network that it stands for."""

import inspect
from dataclasses import FrozenInstanceError, fields

import numpy as np
import pytest
import torch

import hnn_kernels
from hnn_models import CODINGS, HybridNetwork, NetworkConfig


def test_a_networks_defaults_are_the_fields():
    parameters = inspect.signature(HybridNetwork).parameters
    described = {one.name: one.default for one in fields(NetworkConfig) if one.name != "neuron"}
    shown = {name: p.default for name, p in parameters.items() if p.kind is not p.VAR_KEYWORD and name != "backend"}
    positional = {"architecture", "input_shape"}
    assert shown.keys() == described.keys()
    assert all(shown[name] == described[name] for name in shown.keys() - positional)


def test_the_network_of_a_description():
    config = NetworkConfig(
        "A6-S5", [1, 4, 4], "gaussian", learn=["axon"], activation=["sigmoid"], neuron={"decay": 0.5}
    )
    assert (config.input_shape, config.learn, config.activation) == ((1, 4, 4), ("axon",), ("sigmoid",))
    assert config.axon == tuple(hnn_kernels.IIR.dual_exponential(4, 1))
    torch.manual_seed(0)
    network = HybridNetwork.of(config, backend="reference")
    assert network.settings == config
    assert network.config == config.arguments() == {**config.arguments(), "coding": "gaussian", "decay": 0.5}
    torch.manual_seed(0)
    same = HybridNetwork("A6-S5", (1, 4, 4), "gaussian", learn=("axon",), activation=("sigmoid",), decay=0.5)
    assert all(torch.equal(one, other) for one, other in zip(network.parameters(), same.parameters(), strict=True))
    assert network.spiking[0].neurons.backend == "reference"


def test_it_is_frozen():
    config = NetworkConfig("A6-S5", (1, 4, 4))
    with pytest.raises(FrozenInstanceError):
        config.steps = 3


@pytest.mark.parametrize("coding", CODINGS)
def test_pretraining_needs_no_coding(coding):
    config = NetworkConfig("A6C2-P2-S4-S5", (1, 9, 9), coding, fixed_artificial=coding.startswith("poisson"), steps=7)
    twin = config.pretraining()
    assert (twin.architecture, twin.border, twin.hybrid) == ("A6C2-P2-A4-A5", 4, False)
    assert twin.activations == (("sigmoid" if coding.startswith("poisson") else "relu"), "relu")
    of_others = NetworkConfig(
        "A6-A6-S4-S5", (1, 9, 9), activation=("identity", "sigmoid"), pretrained_activation="relu"
    )
    assert of_others.pretraining().activations == ("relu", "relu", "relu")
    with pytest.raises(ValueError, match="pretrained_activation must be one of 'relu'"):
        NetworkConfig("A6-S5", (1, 9, 9), pretrained_activation="step")


@pytest.mark.parametrize("input_shape", [[1, 4, 4], torch.Size((1, 4, 4)), np.array([1, 4, 4]), (np.int64(1), 4, 4)])
def test_numbers_of_numpy_become_plain(tmp_path, input_shape):
    """A checkpoint holds plain types alone; others would be found when it is read, after the training."""
    float64 = np.float64
    filter_ = ([float64(0.5)], (float64(1), np.float32(0.25)))
    config = NetworkConfig(
        "A6-S5", input_shape, steps=np.int64(7), gain=np.float32(2), axon=filter_, synapse=[list(filter_[0]), [1]],
        neuron={"decay": float64(0.5), "threshold": np.float32(1), "reset_decay": np.float16(0.5), "sigma": 1},
    )  # fmt: skip
    expected = NetworkConfig(
        "A6-S5", (1, 4, 4), steps=7, gain=2.0, axon=((0.5,), (1.0, 0.25)), synapse=((0.5,), (1.0,)),
        neuron={"decay": 0.5, "threshold": 1.0, "reset_decay": 0.5, "sigma": 1},
    )  # fmt: skip
    assert config == expected
    assert repr(config) == repr(expected)  # with the types
    torch.save(HybridNetwork.of(config).config, tmp_path / "config.pt")
    assert NetworkConfig(**_fields(torch.load(tmp_path / "config.pt", weights_only=True))) == expected


def _fields(arguments):
    own = {one.name for one in fields(NetworkConfig)}
    neuron = {name: value for name, value in arguments.items() if name not in own}
    return {**{name: value for name, value in arguments.items() if name in own}, "neuron": neuron}


def test_numbers_as_json_and_yaml_give_them():
    """JSON makes floats of 7.0 and 1e2, and YAML 1.1 texts of 1e-1 and 1e2."""
    config = NetworkConfig(
        "A6-S5", [1.0, "4", 4e0], steps=7.0, gain="2e0", axon=[["5e-1"], [1, "0.25"]], fixed_artificial=np.True_,
        neuron={"decay": "9e-1", "sigma": "1e0", "checkpoint_every": 1e2, "smooth": np.True_, "reset": "zero"},
    )  # fmt: skip
    expected = NetworkConfig(
        "A6-S5", (1, 4, 4), steps=7, gain=2.0, axon=((0.5,), (1.0, 0.25)), fixed_artificial=True,
        neuron={"decay": 0.9, "sigma": 1.0, "checkpoint_every": 100, "smooth": True, "reset": "zero"},
    )  # fmt: skip
    assert config == expected
    assert repr(config) == repr(expected)  # with the types


@pytest.mark.parametrize("steps", [7.5, np.bool_(True), np.int64(0), "7.5", "seven", "", "nan", 1e300, None])
def test_steps_that_are_none(steps):
    with pytest.raises(ValueError, match="steps must be an int of at least 1; got"):
        NetworkConfig("A6-S5", (1, 4, 4), steps=steps)
