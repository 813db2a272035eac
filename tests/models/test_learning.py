"""Training: it learns, it keeps the best epoch, and a run that was cut off ends where it would have ended."""

import csv
import math
import shutil
import warnings

import pytest
import torch
from _small import CPU, PROTOCOL, build, train
from torch import nn

from hnn_models import HybridNetwork, data, learning
from hnn_models.protocol import Protocol


def metrics(folder):
    """The rows of the newest log."""
    (*_, newest) = sorted((folder / "logs").glob("*/metrics.csv"))
    with newest.open() as file:
        return list(csv.DictReader(file))


def saved_weights(folder, name="last.ckpt"):
    return torch.load(folder / name, weights_only=True)["state_dict"]


def assert_same_weights(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_learns_digits(digits, tmp_path):
    torch.manual_seed(0)
    network = HybridNetwork("A128-S64-S10", digits.shape)
    outcome = train(network, digits, tmp_path, epochs=10, protocol=Protocol("digits", batch_size=32, lr=2e-3))
    assert outcome.test_accuracy > 0.9
    assert outcome.validation_accuracy > 0.9


def test_accuracy_and_loss_are_those_of_the_definition(run, digits):
    network, outcome = run
    _, validation, test = (digits[index] for index in data.split(len(digits), PROTOCOL.split_seed))
    with torch.no_grad():
        for (images, labels), accuracy in (
            (validation, outcome.validation_accuracy),
            (test, outcome.test_accuracy),
        ):
            correct = (network(images).argmax(1) == labels).float().mean().item()
            assert accuracy == pytest.approx(correct, abs=1e-6)
        images, labels = validation
        p = network(images).double().exp()
        loss = -(p[range(len(labels)), labels] / p.sum(1)).log().mean().item()  # eq. 2
    rows = [row for row in metrics(outcome.checkpoint.parent) if row["validation_loss"]]
    assert float(rows[outcome.best_epoch - 1]["validation_loss"]) == pytest.approx(loss, rel=1e-5)


def test_best_epoch_on_validation_is_kept(run):
    network, outcome = run
    folder = outcome.checkpoint.parent
    accuracies = [float(row["validation_accuracy"]) for row in metrics(folder) if row["validation_accuracy"]]
    assert len(accuracies) == 3
    assert outcome.validation_accuracy == pytest.approx(max(accuracies))
    assert outcome.best_epoch == accuracies.index(max(accuracies)) + 1
    kept = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    assert_same_weights(saved_weights(folder, "best.ckpt"), kept)


def test_best_epoch_need_not_be_the_last(digits, tmp_path, monkeypatch):
    def break_it(self):
        if self.current_epoch == 1:
            nn.init.zeros_(self.network.spiking[-1].weights.weight)

    monkeypatch.setattr(learning.Classifier, "on_validation_start", break_it)
    network = build()
    outcome = train(network, digits, tmp_path, PROTOCOL._replace(lr=1e-2), epochs=2)
    assert outcome.best_epoch == 1
    assert outcome.test_accuracy > 0.3
    assert (network.spiking[-1].weights.weight != 0).all()


class KilledError(Exception):
    pass


@pytest.mark.parametrize("moved", [False, True])
def test_resumed_run_ends_in_the_weights_of_an_uninterrupted_one(digits, tmp_path, monkeypatch, moved):
    """Also where the forward draws random numbers, and where the folder has been moved in between."""
    plain = HybridNetwork.forward
    monkeypatch.setattr(
        HybridNetwork, "forward", lambda self, x: plain(self, x + 0.05 * torch.randn_like(x) if self.training else x)
    )
    whole = train(build(), digits, tmp_path / "whole")

    step = learning.Classifier.training_step

    def killed_in_the_third_epoch(self, batch, batch_index):
        if self.current_epoch == 2 and batch_index == 4:
            raise KilledError
        return step(self, batch, batch_index)

    folder = tmp_path / "cut"
    with monkeypatch.context() as patch:
        patch.setattr(learning.Classifier, "training_step", killed_in_the_third_epoch)
        with pytest.raises(KilledError):
            train(build(), digits, folder)
    assert len([row for row in metrics(folder) if row["validation_accuracy"]]) == 2
    if moved:
        folder = shutil.move(folder, tmp_path / "moved")
    torch.manual_seed(99)  # a new process starts from another state
    other = HybridNetwork("A64-S32-S10", (1, 8, 8), steps=8)
    resumed = train(other, digits, folder, resume=True)

    assert_same_weights(saved_weights(folder), saved_weights(tmp_path / "whole"))
    assert_same_weights(saved_weights(folder, "best.ckpt"), saved_weights(tmp_path / "whole", "best.ckpt"))
    assert resumed[:3] == whole[:3]
    assert len([row for row in metrics(folder) if row["validation_accuracy"]]) == 1  # the third epoch alone


def test_finished_run_resumes_to_the_same_result(run, digits, tmp_path):
    _, outcome = run
    folder = shutil.copytree(outcome.checkpoint.parent, tmp_path / "copy")
    again = train(build(), digits, folder, resume=True)
    assert again[:3] == outcome[:3]


def test_resume_without_a_run_starts_one(digits, tmp_path):
    outcome = train(build(), digits, tmp_path / "new", epochs=1, resume=True)
    assert outcome.checkpoint.is_file()


def test_existing_run_is_not_overwritten(run, digits):
    _, outcome = run
    with pytest.raises(ValueError, match=r"already holds a run; resume it \(--resume\)"):
        train(build(), digits, outcome.checkpoint.parent)


def test_another_run_cannot_be_resumed(run, digits):
    folder = run[1].checkpoint.parent
    for network, protocol, changed in (
        (build(steps=9), PROTOCOL, r"steps \(8, now 9\)"),
        (build(decay=0.5), PROTOCOL, r"decay \(None, now 0.5\)"),
        (build(), PROTOCOL._replace(lr=1e-3), r"lr \(0.002, now 0.001\)"),
        (build(), PROTOCOL._replace(split_seed=2), r"split_seed \(1, now 2\)"),
    ):
        with pytest.raises(ValueError, match=f"cannot be resumed, it has another {changed}"):
            train(network, digits, folder, protocol, resume=True)


def test_an_option_that_was_dropped_cannot_be_resumed(digits, tmp_path):
    train(build(decay=0.5), digits, tmp_path, epochs=1)
    with pytest.raises(ValueError, match=r"decay \(0.5, now None\)"):
        train(build(), digits, tmp_path, resume=True)


def test_tensor_options_are_compared_by_value(digits, tmp_path):
    train(build(decay=torch.full((1,), 0.5)), digits, tmp_path, epochs=1)
    train(build(decay=torch.full((1,), 0.5)), digits, tmp_path, epochs=2, resume=True)
    with pytest.raises(ValueError, match="it has another decay"):
        train(build(decay=torch.full((1,), 0.4)), digits, tmp_path, resume=True)


def test_fewer_epochs_than_done_are_refused(run, digits):
    with pytest.raises(ValueError, match=r"epochs must be at least 3, .* got 2"):
        train(build(), digits, run[1].checkpoint.parent, epochs=2, resume=True)


def test_training_warns_of_nothing(digits, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(build(), digits, tmp_path, epochs=1)
        train(build(), digits, tmp_path, epochs=2, resume=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs must be an int of at least 1"),
        ({"protocol": PROTOCOL._replace(batch_size=0)}, "batch_size must be an int of at least 1"),
        ({"protocol": PROTOCOL._replace(lr=math.nan)}, "lr must be a finite float above 0"),
        ({"protocol": PROTOCOL._replace(seed=-1)}, "seed must be an int from 0"),
    ],
)
def test_wrong_argument(digits, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        train(build(), digits, tmp_path, **options)


def test_network_that_does_not_fit_the_images(digits, tmp_path):
    with pytest.raises(ValueError, match=r"network takes \(1, 8, 8\) to 7 classes; images are \(1, 8, 8\) of 10"):
        train(build("A64-S7"), digits, tmp_path)


def test_device():
    assert learning.resolve_device("cpu") == CPU
    assert learning.resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(ValueError, match="device must be 'auto', 'cpu' or 'cuda'; got 'gpu'"):
        learning.resolve_device("gpu")
