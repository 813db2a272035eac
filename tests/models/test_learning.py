"""Training: it learns, it keeps the best epoch, and a run that was cut off ends where it would have ended."""

import dataclasses
import math
import shutil
import warnings

import pytest
import torch
from torch import nn
from torchmetrics.classification import MulticlassAccuracy

from hnn_models import HybridNetwork
from hnn_models.data import images as data
from hnn_models.training import learning, trainer
from hnn_models.training.classifier import Classifier
from hnn_models.training.protocol import Protocol
from support.small_network import PROTOCOL, assert_same_weights, build, saved_weights, train

ONE = PROTOCOL._replace(epochs=1)


def test_learns_digits(digits, tmp_path):
    torch.manual_seed(0)
    network = HybridNetwork("A128-S64-S10", digits.shape)
    outcome = train(network, digits, tmp_path, Protocol.of("digits", epochs=10, batch_size=32, lr=2e-3, milestones=()))
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
    logged = learning.history(outcome.checkpoint.parent)[outcome.best_epoch - 1]
    assert logged["validation_loss"] == pytest.approx(loss, rel=1e-5)


def test_outcome_tells_epochs_and_time(run):
    _, outcome = run
    assert outcome.epochs == 3
    assert outcome.seconds > 0
    assert outcome.artificial is None


def test_tensorboard_reads_what_was_logged(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    _, outcome = run
    run_dir = outcome.checkpoint.parent
    read = EventAccumulator(str(run_dir / "logs" / "version_0")).Reload()
    logged = learning.history(run_dir)
    names = {name for epoch in logged for name in epoch}
    assert {"train_loss", "validation_accuracy", "rate_2_S10"} < names
    assert set(read.Tags()["scalars"]) == names
    for name in names - {"epoch"}:
        events = read.Scalars(name)
        assert [event.value for event in events] == pytest.approx([epoch[name] for epoch in logged], rel=1e-6)
        assert [event.step for event in events] == sorted({event.step for event in events})
    (path,) = (run_dir / "logs" / "version_0").glob("events.out.tfevents.*")
    assert set(path.parent.iterdir()) == {path, path.parent / "metrics.csv"}


def test_best_epoch_on_validation_is_kept(run):
    network, outcome = run
    folder = outcome.checkpoint.parent
    accuracies = [epoch["validation_accuracy"] for epoch in learning.history(folder)]
    assert len(accuracies) == 3
    assert outcome.validation_accuracy == pytest.approx(max(accuracies))
    assert outcome.best_epoch == accuracies.index(max(accuracies)) + 1
    kept = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    assert_same_weights(saved_weights(folder, "best.ckpt"), kept)


def test_best_epoch_need_not_be_the_last(digits, tmp_path, monkeypatch):
    def break_it(self):
        if self.current_epoch == 1:
            nn.init.zeros_(self.network.spiking[-1].weights.weight)

    monkeypatch.setattr(Classifier, "on_validation_start", break_it)
    network = build()
    outcome = train(network, digits, tmp_path, PROTOCOL._replace(lr=1e-2, epochs=2))
    assert outcome.best_epoch == 1
    assert outcome.test_accuracy > 0.3
    assert (network.spiking[-1].weights.weight != 0).all()


class KilledError(Exception):
    pass


@pytest.mark.parametrize("moved", [False, True])
def test_resumed_run_ends_in_the_weights_of_an_uninterrupted_one(digits, tmp_path, monkeypatch, moved):
    """Also with the forward's noise, augmentation, a schedule, and where the folder has been moved in between."""
    plain = HybridNetwork.forward
    monkeypatch.setattr(HybridNetwork, "forward", lambda self, x: plain(self, x + 0.05 * torch.randn_like(x)))
    protocol = PROTOCOL._replace(shift=1, flip=True, warp=0.5, **({"schedule": "one-cycle"} if moved else {}))
    whole = train(build(), digits, tmp_path / "whole", protocol)

    step = Classifier.training_step

    def killed_in_the_third_epoch(self, batch, batch_index):
        if self.current_epoch == 2 and batch_index == 4:
            raise KilledError
        return step(self, batch, batch_index)

    folder = tmp_path / "cut"
    with monkeypatch.context() as patch:
        patch.setattr(Classifier, "training_step", killed_in_the_third_epoch)
        with pytest.raises(KilledError):
            train(build(), digits, folder, protocol)
    assert len(learning.history(folder)) == 2
    if moved:
        folder = shutil.move(folder, tmp_path / "moved")
    torch.manual_seed(99)  # a new process starts from another state
    other = HybridNetwork("A64-S32-S10", (1, 8, 8), steps=8)
    resumed = train(other, digits, folder, protocol, resume=True)

    assert_same_weights(saved_weights(folder), saved_weights(tmp_path / "whole"))
    assert_same_weights(saved_weights(folder, "best.ckpt"), saved_weights(tmp_path / "whole", "best.ckpt"))
    assert resumed[:4] == whole[:4]
    assert learning.history(folder) == learning.history(tmp_path / "whole")


def test_finished_run_resumes_to_the_same_result(run, digits, tmp_path):
    _, outcome = run
    folder = shutil.copytree(outcome.checkpoint.parent, tmp_path / "copy")
    again = train(build(), digits, folder, resume=True)
    assert again[:5] == outcome[:5]


def test_resume_without_a_run_starts_one(digits, tmp_path):
    outcome = train(build(), digits, tmp_path / "new", ONE, resume=True)
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
        (build(), PROTOCOL._replace(epochs=2), r"epochs \(3, now 2\)"),
        (build(), PROTOCOL._replace(milestones=()), r"milestones \(\(0.5,\), now \(\)\)"),
    ):
        with pytest.raises(ValueError, match=f"cannot be resumed, it has another {changed}"):
            train(network, digits, folder, protocol, resume=True)


def test_other_images_cannot_be_resumed(run, digits):
    other = dataclasses.replace(digits, labels=digits.labels.flip(0))
    with pytest.raises(ValueError, match="cannot be resumed, it has other images"):
        train(build(), other, run[1].checkpoint.parent, resume=True)


def test_a_foreign_best_epoch_is_not_overwritten(run, digits, tmp_path):
    """A run that was killed before it had a last epoch."""
    shutil.copy(run[1].checkpoint, tmp_path)
    with pytest.raises(ValueError, match="already holds a run"):
        train(build(), digits, tmp_path)
    with pytest.raises(ValueError, match=r"has another steps \(8, now 9\)"):
        train(build(steps=9), digits, tmp_path, resume=True)
    (tmp_path / "best.ckpt").write_bytes(b"mine")
    with pytest.raises(ValueError, match="damaged or not a checkpoint"):
        train(build(), digits, tmp_path, resume=True)
    assert (tmp_path / "best.ckpt").read_bytes() == b"mine"


def test_an_option_that_was_dropped_cannot_be_resumed(digits, tmp_path):
    train(build(decay=0.5), digits, tmp_path, ONE)
    with pytest.raises(ValueError, match=r"decay \(0.5, now None\)"):
        train(build(), digits, tmp_path, ONE, resume=True)


def test_tensor_options_are_compared_by_value(digits, tmp_path):
    train(build(decay=torch.full((1,), 0.5)), digits, tmp_path, ONE)
    train(build(decay=torch.full((1,), 0.5)), digits, tmp_path, ONE, resume=True)
    with pytest.raises(ValueError, match="it has another decay"):
        train(build(decay=torch.full((1,), 0.4)), digits, tmp_path, ONE, resume=True)


def test_schedules(digits, tmp_path, monkeypatch):
    rates = []
    monkeypatch.setattr(
        Classifier, "on_train_batch_start", lambda self, *_: rates.append(self.optimizers().param_groups[0]["lr"])
    )
    train(
        build(), digits, tmp_path / "steps", PROTOCOL._replace(epochs=5, lr=1.0, milestones=(0.5, 0.75), batch_size=600)
    )
    # Two batches an epoch; half of five is in the third epoch, three quarters in the fourth.
    assert rates == pytest.approx([1, 1, 1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])
    rates.clear()
    train(
        build(), digits, tmp_path / "cycle", PROTOCOL._replace(epochs=5, lr=0.01, schedule="one-cycle", batch_size=60)
    )
    assert len(rates) == 90
    assert max(rates) == pytest.approx(0.01)
    assert rates.index(max(rates)) == pytest.approx(0.3 * 90, abs=1)
    assert rates[-1] < 1e-6


def test_weight_decay_is_of_weights_alone(digits, tmp_path):
    network = build(learn=("decay",), decay=0.5)
    optimizer = Classifier(network, PROTOCOL._replace(weight_decay=0.1)).configure_optimizers()["optimizer"]
    decayed, others = optimizer.param_groups
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.1, 0)
    assert {id(p) for p in decayed["params"]} == {
        id(p) for name, p in network.named_parameters() if "weight" in name.rsplit(".", 1)[-1]
    }
    assert len(decayed["params"]) + len(others["params"]) == len(list(network.parameters()))


def test_label_smoothing_is_of_training_alone(digits, tmp_path):
    network = build("A10")
    nn.init.normal_(network.artificial[1].weight)
    train(network, digits, tmp_path, ONE._replace(label_smoothing=0.3, lr=1e-9))  # the weights stay as they are
    (logged,) = learning.history(tmp_path)
    parts = [digits[index] for index in data.split(len(digits), PROTOCOL.split_seed)]
    for (images, labels), name, smoothing in zip(parts, ("train", "validation"), (0.3, 0), strict=False):
        loss = nn.functional.cross_entropy(network(images), labels, label_smoothing=smoothing)
        assert logged[f"{name}_loss"] == pytest.approx(loss.item(), rel=1e-5)


def test_patience(digits, tmp_path, monkeypatch):
    """Flat from the first epoch on: it ends when patience says so, not before min_epochs, and stays ended."""
    protocol = PROTOCOL._replace(lr=1e-12, epochs=9, patience=2, milestones=())
    outcome = train(build(), digits, tmp_path / "a", protocol)
    assert (outcome.best_epoch, outcome.epochs) == (1, 3)
    again = train(build(), digits, tmp_path / "a", protocol, resume=True)
    assert again[:5] == outcome[:5]
    assert train(build(), digits, tmp_path / "b", protocol._replace(min_epochs=5)).epochs == 5


@pytest.mark.parametrize(
    ("milestones", "least", "flat", "end"),
    [
        ((), 1, 1, 4),  # the first epoch is the best, and two others are not
        ((0.2, 0.5), 1, 1, 9),  # the drop is after epoch 5: epoch 6 is the best behind it
        ((0.5,), 10, 1, 10),
    ],
)
def test_patience_waits_for_the_last_drop(milestones, least, flat, end, digits, tmp_path, monkeypatch):
    """The accuracy falls after epoch ``flat`` for good; the run ends three epochs after the best behind the drop."""
    few = digits.subset(torch.arange(60))
    protocol = PROTOCOL._replace(epochs=10, patience=3, milestones=milestones, min_epochs=least)
    monkeypatch.setattr(
        MulticlassAccuracy, "compute", lambda self: torch.tensor(0.5 if len(epochs) <= flat else 0.4 - len(epochs) / 99)
    )
    epochs = []
    start = Classifier.on_train_epoch_start
    monkeypatch.setattr(Classifier, "on_train_epoch_start", lambda self: (epochs.append(0), start(self)))
    outcome = train(build("A4-S10", steps=2), few, tmp_path / "whole", protocol)
    assert (outcome.epochs, len(epochs)) == (end, end)
    # A finished run stays ended, and one that is interrupted beside the drop ends where the whole one does.
    train(build("A4-S10", steps=2), few, tmp_path / "whole", protocol, resume=True)
    assert len(epochs) == end
    for cut in (5, 6):
        if cut < end == 9:
            epochs.clear()
            folder = tmp_path / f"cut{cut}"
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(Classifier, "on_train_batch_start", interrupting(cut))
                with pytest.raises(KeyError):
                    train(build("A4-S10", steps=2), few, folder, protocol)
            epochs.pop()
            assert train(build("A4-S10", steps=2), few, folder, protocol, resume=True).epochs == end


def interrupting(cut):
    """Return a method that raises in the epoch behind the one with the number ``cut``."""

    def interrupted(self, *_):
        if self.current_epoch == cut:
            raise KeyError

    return interrupted


def test_weights_that_are_not_finite_end_the_run(digits, tmp_path, monkeypatch):
    step = Classifier.training_step
    monkeypatch.setattr(Classifier, "training_step", lambda self, *batch: step(self, *batch) * math.nan)
    with pytest.raises(FloatingPointError, match=r"not finite in epoch 1, step 1: try a lower lr \(0.002\)"):
        train(build(), digits, tmp_path)
    assert not list(tmp_path.glob("*.ckpt"))


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize(("precision", "pays"), [("bf16-mixed", False), ("bf16-mixed", True), ("32-true", False)])
def test_a_precision_that_the_processor_is_slow_in(fixed, precision, pays, digits, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "bfloat16_pays", lambda device: pays)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(build(fixed_artificial=fixed), digits, tmp_path, ONE._replace(precision=precision))
    texts = [str(one.message) for one in caught if "is slow on" in str(one.message)]
    assert len(texts) == (precision == "bf16-mixed" and not pays)  # the artificial run of a fixed part has none
    assert all("'32-true' trains faster" in text for text in texts)


def test_mixed_precision(digits, tmp_path):
    seen = []
    network = build()
    network.artificial.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    outcome = train(network, digits, tmp_path, ONE._replace(precision="bf16-mixed"))
    assert set(seen) == {torch.bfloat16}
    assert all(p.dtype == torch.float32 for p in network.parameters())
    assert 0 <= outcome.test_accuracy <= 1
    with pytest.raises(ValueError, match="precision '16-mixed' needs a CUDA device"):
        train(build(), digits, tmp_path / "half", ONE._replace(precision="16-mixed"))


@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="torch.compile needs a C++ compiler")
def test_compiled(digits, tmp_path):
    """The same network after training, but for rounding."""
    few = dataclasses.replace(digits, images=digits.images[:100], labels=digits.labels[:100])
    for name in ("plain", "compiled"):
        train(build(), few, tmp_path / name, ONE, compiled=name == "compiled")
    one, other = (saved_weights(tmp_path / name) for name in ("plain", "compiled"))
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-4, atol=1e-5)


def test_given_split(digits, tmp_path):
    images = dataclasses.replace(digits, test_from=1500)
    protocol = ONE._replace(split="given")
    network = build()
    outcome = train(network, images, tmp_path, protocol)
    pixels, labels = images[torch.arange(1500, 1797)]
    correct = (network(pixels).argmax(1) == labels).float().mean().item()
    assert outcome.test_accuracy == pytest.approx(correct, abs=1e-6)
    with pytest.raises(ValueError, match="split 'given' needs images that come in two parts; digits has no test part"):
        train(build(), digits, tmp_path / "none", protocol)


def test_too_few_images(digits, tmp_path):
    with pytest.raises(ValueError, match="2 images are too few to split"):
        train(build(), digits.subset(torch.arange(2)), tmp_path)


def test_training_warns_of_nothing(digits, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(build(), digits, tmp_path, ONE)
        train(build(), digits, tmp_path, ONE, resume=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"protocol": PROTOCOL._replace(epochs=0)}, "epochs must be an int of at least 1"),
        ({"pretrained": "best.ckpt"}, "pretrained is for separate learning"),
    ],
)
def test_wrong_argument(digits, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        train(build(), digits, tmp_path, **options)


def test_what_is_no_image_set_is_refused(digits, tmp_path):
    part, _ = torch.utils.data.random_split(digits, [0.5, 0.5])
    message = r"images must be an ImageSet; got Subset \(a Subset s of one is s\.dataset\.subset\(s\.indices\)\)"
    with pytest.raises(TypeError, match=message):
        train(build(), part, tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert len(part.dataset.subset(part.indices)) == len(part)


def test_network_that_does_not_fit_the_images(digits, tmp_path):
    with pytest.raises(ValueError, match=r"network takes \(1, 8, 8\) to 7 classes; images are \(1, 8, 8\) of 10"):
        train(build("A64-S7"), digits, tmp_path)
