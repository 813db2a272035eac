"""Separate learning: the artificial network first, its best layers fixed, what they make of the images kept."""

import dataclasses
import shutil

import pytest
import torch

from hnn_models import HybridNetwork
from hnn_models.training import learning
from support.small_network import PROTOCOL, assert_same_weights, build, saved_weights, train

LONGER = PROTOCOL._replace(epochs=6)


def fixed(**options):
    return build(fixed_artificial=True, **options)


@pytest.fixture(scope="module")
def separate(digits, tmp_path_factory):
    """``(network, outcome)`` of separate learning."""
    network = fixed()
    return network, train(network, digits, tmp_path_factory.mktemp("separate"), LONGER)


def test_the_layers_are_those_of_the_best_artificial_network(separate, digits):
    network, outcome = separate
    folder = outcome.checkpoint.parent
    best = saved_weights(folder / "artificial", "best.ckpt")
    for name, parameter in network.artificial.named_parameters():
        assert torch.equal(parameter, best[f"network.artificial.{name}"])
    assert outcome.artificial.checkpoint == folder / "artificial" / "best.ckpt"
    # The artificial network is what one gets by training it alone.
    alone = build("A64-A32-A10")
    assert_same_weights(saved_weights(folder / "artificial"), train_alone(alone, digits, folder))
    assert outcome.artificial.test_accuracy > 0.8
    assert outcome.test_accuracy > 0.5


def train_alone(network, digits, folder):
    train(network, digits, folder / "alone", LONGER)
    return saved_weights(folder / "alone")


def test_the_spiking_part_learns_as_if_the_layers_were_run(separate, digits, tmp_path, monkeypatch):
    """Augmentation that moves nothing has the fixed layers run for every batch; the weights are the same."""
    monkeypatch.setattr(learning, "Augmentation", lambda *_: Still())
    train(fixed(), digits, tmp_path, LONGER)
    one, other = (saved_weights(folder) for folder in (tmp_path, separate[1].checkpoint.parent))
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-4, atol=1e-6)


class Still(tuple):
    """An augmentation that changes nothing."""

    def __new__(cls):
        return super().__new__(cls, (True,))

    def draw(self, count, random):
        return torch.zeros(count, 3, dtype=torch.int64)


def test_features_are_computed_once(digits, tmp_path, monkeypatch):
    calls = []
    encode = HybridNetwork.encode_features

    def counted(self, images):
        if self.has_fixed_part:
            calls.append(len(images))
        return encode(self, images)

    monkeypatch.setattr(HybridNetwork, "encode_features", counted)
    train(fixed(), digits, tmp_path)
    assert sum(calls) == len(digits)  # training, validation and test images once each


def test_mixed_precision_keeps_what_autocast_gives(digits, tmp_path, monkeypatch):
    kept = []
    features = learning._features
    monkeypatch.setattr(learning, "_features", lambda *args: kept.append(features(*args)) or kept[-1])
    train(fixed(), digits, tmp_path, PROTOCOL._replace(precision="bf16-mixed", epochs=1))
    assert [part.features.dtype for part in kept] == [torch.bfloat16] * 2


@pytest.fixture
def pretrained(separate):
    return separate[1].checkpoint.parent / "artificial" / "best.ckpt"


def test_a_pretrained_network_is_the_same(separate, pretrained, digits, tmp_path):
    network = fixed()
    outcome = train(network, digits, tmp_path, LONGER, pretrained=pretrained)
    assert outcome.artificial is None
    assert outcome[:4] == separate[1][:4]
    assert not (tmp_path / "artificial").exists()
    assert_same_weights(saved_weights(tmp_path), saved_weights(separate[1].checkpoint.parent))


def test_pretrained_networks_that_are_refused(separate, pretrained, digits, tmp_path):
    def refused(message, protocol=LONGER, images=digits, path=pretrained, network=None):
        with pytest.raises(ValueError, match=message):
            train(network or fixed(), images, tmp_path / "run", protocol, pretrained=path)
        assert not (tmp_path / "run").exists()

    refused(r"another split_seed \(1, now 7\): it may have seen the test images", LONGER._replace(split_seed=7))
    relabelled = dataclasses.replace(digits, labels=digits.labels.flip(0))
    refused("trained on other images: it may have seen", images=relabelled)
    refused("purely artificial", path=separate[1].checkpoint)
    (tmp_path / "cut.ckpt").write_bytes(pretrained.read_bytes()[:1000])
    refused("damaged or not a checkpoint", path=tmp_path / "cut.ckpt")
    refused("is not a file", path=tmp_path / "none.ckpt")
    refused("pretrained is for separate learning", network=build())


def test_resume_with_another_pretrained_network(pretrained, digits, tmp_path):
    train(fixed(), digits, tmp_path / "run", pretrained=pretrained)
    other = train(build("A64-A32-A10"), digits, tmp_path / "other").checkpoint
    with pytest.raises(ValueError, match="it has another pretrained network"):
        train(fixed(), digits, tmp_path / "run", pretrained=other, resume=True)


def test_a_run_of_the_artificial_network_is_not_overwritten(separate, digits, tmp_path):
    shutil.copytree(separate[1].checkpoint.parent / "artificial", tmp_path / "artificial")
    with pytest.raises(ValueError, match="artificial already holds a run"):
        train(fixed(), digits, tmp_path, LONGER)


def test_finished_run_resumes_to_the_same_result(separate, digits, tmp_path):
    folder = shutil.copytree(separate[1].checkpoint.parent, tmp_path / "copy")
    again = train(fixed(), digits, folder, LONGER, resume=True)
    assert again[:5] == separate[1][:5]
    assert again.artificial[:5] == separate[1].artificial[:5]
