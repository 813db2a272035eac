"""A run's folder: nothing in it is lost, trained again, or replaced without a word."""

import os
import shutil
import threading

import pytest
import torch

from hnn_models import HybridNetwork
from hnn_models.training import checkpoint, learning
from hnn_models.training.classifier import Classifier
from support.small_network import CPU, PROTOCOL, assert_same_weights, build, saved_weights, train

FLAT = PROTOCOL._replace(milestones=())


@pytest.fixture
def copy(run, tmp_path):
    """A copy of the finished run of three epochs."""
    return shutil.copytree(run[1].checkpoint.parent, tmp_path / "copy")


def contents(folder):
    return {path.relative_to(folder): path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.fixture
def epochs(monkeypatch):
    """The numbers of the epochs that are trained, from 1."""
    trained = []
    start = Classifier.on_train_epoch_start
    monkeypatch.setattr(
        Classifier, "on_train_epoch_start", lambda self: (trained.append(self.current_epoch + 1), start(self))
    )
    return trained


def test_a_finished_run_is_neither_trained_nor_changed(run, digits, copy, epochs):
    before = contents(copy)
    again = train(build(), digits, copy, resume=True)
    assert again[:5] == run[1][:5]
    assert epochs == []
    assert contents(copy) == before


def test_a_run_that_patience_ended_is_neither_trained_nor_changed(digits, tmp_path, epochs):
    protocol = FLAT._replace(lr=1e-12, epochs=9, patience=1)
    outcome = train(build(), digits, tmp_path, protocol)
    before = contents(tmp_path)
    assert epochs == [1, 2]
    assert train(build(), digits, tmp_path, protocol, resume=True)[:5] == outcome[:5]
    assert epochs == [1, 2]
    assert contents(tmp_path) == before
    with pytest.raises(ValueError, match=r"another epochs \(9, now 12\): it has ended at epoch 2, flat for 1 epochs"):
        train(build(), digits, tmp_path, protocol._replace(epochs=12), resume=True)


def test_a_finished_run_of_separate_learning_is_not_trained_again(digits, tmp_path, epochs):
    few = digits.subset(torch.arange(300))
    one = PROTOCOL._replace(epochs=1)
    outcome = train(build(fixed_artificial=True), few, tmp_path, one)
    assert epochs == [1, 1]
    again = train(build(fixed_artificial=True), few, tmp_path, one, resume=True)
    assert (again[:5], again.artificial[:5]) == (outcome[:5], outcome.artificial[:5])
    assert epochs == [1, 1]
    with pytest.raises(ValueError, match=f"more epochs: .* --pretrained {tmp_path}/artificial/best.ckpt"):
        train(build(fixed_artificial=True), few, tmp_path, one._replace(epochs=2), resume=True)
    shutil.rmtree(tmp_path / "artificial")
    with pytest.raises(ValueError, match=f"is missing: {tmp_path}/artificial/best.ckpt"):
        train(build(fixed_artificial=True), few, tmp_path, one, resume=True)
    assert epochs == [1, 1]


def test_a_lost_last_epoch_is_not_trained_again_in_silence(digits, tmp_path, monkeypatch, epochs):
    """The run's best epoch is its second of three, and the copy that the message advises ends in the same weights."""
    whole = train(build(), digits, tmp_path / "run")
    best = whole.best_epoch
    (tmp_path / "run" / "last.ckpt").rename(tmp_path / "whole.ckpt")
    before = contents(tmp_path / "run")
    assert best > 1
    advice = f"last.ckpt is missing: .* copy best.ckpt to last.ckpt, to go on after epoch {best}; or .*--out"
    with pytest.raises(ValueError, match=advice):
        train(build(), digits, tmp_path / "run", resume=True)
    assert contents(tmp_path / "run") == before
    shutil.copy(tmp_path / "run" / "best.ckpt", tmp_path / "run" / "last.ckpt")
    epochs.clear()
    assert train(build(), digits, tmp_path / "run", resume=True)[:4] == whole[:4]
    assert epochs == list(range(best + 1, 4))
    assert_same_weights(saved_weights(tmp_path / "run"), saved_weights(tmp_path, "whole.ckpt"))


def test_a_run_killed_between_the_files_of_its_first_epoch_goes_on(digits, tmp_path, epochs):
    two = FLAT._replace(epochs=2)
    whole = train(build(), digits, tmp_path / "whole", two)

    class KilledError(Exception):
        pass

    write = checkpoint.write

    def killed(content, path):
        if str(path).endswith("last.ckpt"):
            raise KilledError
        write(content, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "write", killed)
        with pytest.raises(KilledError):
            train(build(), digits, tmp_path / "cut", two)
    assert [path.name for path in (tmp_path / "cut").glob("*.ckpt")] == ["best.ckpt"]
    epochs.clear()
    with pytest.warns(UserWarning, match=r"has no last\.ckpt yet; it continues after epoch 1 of best\.ckpt"):
        assert train(build(), digits, tmp_path / "cut", two, resume=True)[:4] == whole[:4]
    assert epochs == [2]
    assert_same_weights(saved_weights(tmp_path / "cut"), saved_weights(tmp_path / "whole"))


def test_a_lost_last_epoch_is_said_though_the_first_is_the_best(digits, tmp_path, epochs):
    protocol = PROTOCOL._replace(lr=1e-12)  # flat
    train(build(), digits, tmp_path, protocol)
    assert checkpoint.load(tmp_path / "best.ckpt").epoch == 1
    (tmp_path / "last.ckpt").unlink()
    epochs.clear()
    with pytest.raises(ValueError, match=r"last\.ckpt is missing: .* to go on after epoch 1; or"):
        train(build(), digits, tmp_path, protocol, resume=True)
    assert epochs == []


def test_a_lost_best_epoch_is_said_before_training(digits, copy, epochs):
    (copy / "best.ckpt").unlink()
    with pytest.raises(ValueError, match=r"best\.ckpt is missing, its best epoch so far: put that file back"):
        train(build(), digits, copy, resume=True)
    assert epochs == []


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("link", [False, True])
def test_logs_without_a_checkpoint_are_those_of_a_run(digits, copy, epochs, resume, link):
    for name in ("best.ckpt", "last.ckpt"):
        (copy / name).unlink()
        if link:  # to a disk that is not there
            (copy / name).symlink_to(copy / "away" / name)
    before = contents(copy / "logs")
    message = r"has the logs of a run of 3 epochs, but last\.ckpt and best\.ckpt are missing"
    with pytest.raises(ValueError, match=message):
        train(build(), digits, copy, resume=resume)
    assert (epochs, contents(copy / "logs")) == ([], before)


def test_a_run_killed_before_its_first_checkpoint_begins_anew(digits, tmp_path):
    few, one = digits.subset(torch.arange(100)), PROTOCOL._replace(epochs=1)
    outcome = train(build(), few, tmp_path, one)
    for name in ("best.ckpt", "last.ckpt"):
        (tmp_path / name).unlink()
    with pytest.warns(UserWarning, match="has the logs of an epoch and no checkpoint: its run begins anew"):
        assert train(build(), few, tmp_path, one, resume=True)[:4] == outcome[:4]


def test_a_finished_run_may_be_given_more_epochs(digits, copy, epochs, monkeypatch):
    """Its learning rate stays as low as it is, and the checkpoint says that it was continued."""
    rates = []
    monkeypatch.setattr(
        Classifier, "on_train_batch_start", lambda self, *_: rates.append(self.optimizers().param_groups[0]["lr"])
    )
    outcome = train(build(), digits, copy, PROTOCOL._replace(epochs=5), resume=True)
    assert (outcome.epochs, epochs) == (5, [4, 5])
    assert rates == pytest.approx([PROTOCOL.lr / 10] * len(rates))
    found = checkpoint.load(copy / "last.ckpt")
    assert (found.protocol.epochs, found.continued) == (5, (3,))
    again = train(build(), digits, copy, PROTOCOL._replace(epochs=6), resume=True)
    assert again.epochs == 6
    assert checkpoint.load(copy / "last.ckpt").continued == (3, 5)
    assert [figures["epoch"] for figures in learning.history(copy)] == [1, 2, 3, 4, 5, 6]


def test_more_epochs_of_a_constant_rate_are_those_of_a_longer_run(digits, tmp_path):
    few = digits.subset(torch.arange(300))
    train(build(), few, tmp_path / "short", FLAT._replace(epochs=1))
    more = train(build(), few, tmp_path / "short", FLAT._replace(epochs=2), resume=True)
    whole = train(build(), few, tmp_path / "whole", FLAT._replace(epochs=2))
    assert more[:4] == whole[:4]
    assert_same_weights(saved_weights(tmp_path / "short"), saved_weights(tmp_path / "whole"))
    assert checkpoint.load(tmp_path / "whole" / "last.ckpt").continued == ()


def test_patience_keeps_to_the_drops_of_the_run_that_was_given_more_epochs(digits, tmp_path, epochs):
    few = digits.subset(torch.arange(60))
    flat = PROTOCOL._replace(lr=1e-12, epochs=3, patience=2)  # its drop is after epoch 2
    assert flat.drops() == (2,)
    assert train(build(), few, tmp_path, flat).epochs == 3
    assert train(build(), few, tmp_path, flat._replace(epochs=9), resume=True).epochs == 5
    assert train(build(), few, tmp_path, flat._replace(epochs=9), resume=True).epochs == 5
    assert epochs == [1, 2, 3, 4, 5]


def test_a_cycle_of_learning_rates_cannot_be_given_more_epochs(digits, tmp_path, epochs):
    few = digits.subset(torch.arange(300))
    cycle = PROTOCOL._replace(epochs=1, schedule="one-cycle")
    train(build(), few, tmp_path, cycle)
    with pytest.raises(ValueError, match=r"epochs \(1, now 2\): the schedule 'one-cycle' ends with the run"):
        train(build(), few, tmp_path, cycle._replace(epochs=2), resume=True)
    assert epochs == [1]


def test_an_unfinished_run_keeps_its_number_of_epochs(digits, copy, monkeypatch):
    content = torch.load(copy / "last.ckpt", weights_only=True)
    for name in ("best.ckpt", "last.ckpt"):
        content = torch.load(copy / name, weights_only=True)
        content["hnn"]["protocol"]["epochs"] = 9
        checkpoint.write(content, copy / name)
    with pytest.raises(
        ValueError, match=r"epochs \(9, now 12\): its schedule is for 9; a run may be given more epochs once"
    ):
        train(build(), digits, copy, PROTOCOL._replace(epochs=12), resume=True)
    with pytest.raises(ValueError, match=r"epochs \(9, now 2\): 3 are trained already"):
        train(build(), digits, copy, PROTOCOL._replace(epochs=2), resume=True)


@pytest.mark.parametrize("name", ["a b", "Zürich 日本", "-x", "$HOME", "{0} %s [1] *", "epoch=1", ".hidden", "a:b"])
def test_every_file_of_a_run_is_in_its_folder(digits, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    few = digits.subset(torch.arange(60))
    one = PROTOCOL._replace(epochs=1)
    outcome = train(build("A4-S10", steps=2), few, f"./{name}/", one)
    folder = tmp_path / name
    assert outcome.checkpoint == folder / "best.ckpt"
    files = {str(path.relative_to(tmp_path)).removeprefix(name) for path in tmp_path.rglob("*") if path.is_file()}
    assert {"/best.ckpt", "/last.ckpt", "/logs/version_0/metrics.csv"} <= files
    assert all(file.startswith(("/best", "/last", "/logs/version_0/")) for file in files)
    assert len(learning.history(f"./{name}")) == 1
    again = train(build("A4-S10", steps=2), few, folder, one._replace(epochs=2), resume=True)
    assert again.epochs == 2
    assert checkpoint.load(f"./{name}/best.ckpt").epoch == again.best_epoch


def test_a_run_in_the_home_and_behind_a_link(digits, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    few = digits.subset(torch.arange(60))
    one = PROTOCOL._replace(epochs=1)
    outcome = train(build("A4-S10", steps=2), few, "~/x", one)
    assert outcome.checkpoint == tmp_path / "x" / "best.ckpt"
    assert checkpoint.load("~/x/best.ckpt").epoch == 1
    (tmp_path / "link").symlink_to("x")
    with pytest.raises(ValueError, match=f"{tmp_path}/x already holds a run"):
        train(build("A4-S10", steps=2), few, tmp_path / "link", one)


@pytest.mark.parametrize("given", ["s3://bucket/run", "file:///run", "a::b", ""])
def test_a_folder_that_is_no_local_one_is_refused_before_training(digits, tmp_path, monkeypatch, epochs, given):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="run_dir"):
        train(build(), digits, given)
    assert epochs == []
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_place_of_the_folder_is_refused_before_training(digits, tmp_path, epochs):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=f"run_dir must be a folder, but {tmp_path}/file is a file"):
        train(build(), digits, tmp_path / "file" / "run")
    (tmp_path / "run" / "best.ckpt").mkdir(parents=True)
    with pytest.raises(ValueError, match="already holds a run"):
        train(build(), digits, tmp_path / "run")
    assert epochs == []


def test_a_folder_that_cannot_be_written_is_refused_before_training(digits, tmp_path, monkeypatch, epochs):
    def refuse(**options):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(OSError, match=f"Read-only file system: '{tmp_path}/run'"):
        train(build(), digits, tmp_path / "run")
    assert epochs == []


def test_a_best_epoch_that_vanishes_while_training_is_named(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(Classifier, "on_fit_end", lambda self: (tmp_path / "best.ckpt").unlink(), raising=False)
    with pytest.raises(ValueError, match=f"{tmp_path}/best.ckpt is not a file"):
        train(build(), digits.subset(torch.arange(300)), tmp_path, PROTOCOL._replace(epochs=1))


def state_of_the_process():
    return (
        torch.get_rng_state().tolist(),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.get_default_dtype(),
        torch.are_deterministic_algorithms_enabled(),
        torch.backends.cudnn.deterministic,
        torch.backends.cudnn.benchmark,
        torch.get_num_threads(),
    )


def process_of_python():
    import logging
    import signal
    import warnings

    handlers = [signal.getsignal(number) for number in signal.valid_signals()]
    return handlers, list(warnings.filters), logging.getLogger("lightning.pytorch").level, dict(os.environ)


@pytest.mark.parametrize("around", ["nothing", "no_grad", "inference_mode", "autocast", "failing"])
def test_the_process_is_afterwards_as_before(digits, tmp_path, monkeypatch, around):
    """And the surroundings do not change what is learnt."""
    few = digits.subset(torch.arange(300))
    one = PROTOCOL._replace(epochs=1)
    plain = train(build(coding="gaussian"), few, tmp_path / "plain", one)
    network = build(coding="gaussian")
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    torch.manual_seed(7)
    if around == "failing":
        before = state_of_the_process(), process_of_python()
        with pytest.raises(FloatingPointError):
            train(network, few, tmp_path / "run", one._replace(lr=1e30))
        assert (state_of_the_process(), process_of_python()) == before
        return
    contexts = {"no_grad": torch.no_grad(), "inference_mode": torch.inference_mode(),
                "autocast": torch.autocast("cpu", torch.bfloat16), "nothing": torch.enable_grad()}  # fmt: skip
    with contexts[around]:
        before = state_of_the_process(), process_of_python()
        outcome = train(network, few, tmp_path / "run", one)
        learning.evaluate(network, few, one, device=CPU, progress=False)
        assert (state_of_the_process(), process_of_python()) == before
    assert outcome[:4] == plain[:4]
    assert_same_weights(saved_weights(tmp_path / "run"), saved_weights(tmp_path / "plain"))


def test_threads_train_one_after_the_other(digits, tmp_path):
    """Each with its own result, though the noise of the coding is drawn from the one generator of torch."""
    few = digits.subset(torch.arange(300))
    protocols = [PROTOCOL._replace(epochs=2, seed=seed) for seed in (1, 2)]
    networks = [build(coding="gaussian") for _ in protocols]
    alone = [
        train(build(coding="gaussian"), few, tmp_path / f"alone-{i}", protocol)[:4]
        for i, protocol in enumerate(protocols)
    ]
    found = {}

    def run(i):
        found[i] = train(networks[i], few, tmp_path / f"thread-{i}", protocols[i])[:4]

    threads = [threading.Thread(target=run, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[i] for i in range(2)] == alone
    for i in range(2):
        assert_same_weights(saved_weights(tmp_path / f"thread-{i}"), saved_weights(tmp_path / f"alone-{i}"))


def test_a_run_in_an_event_loop_with_progress_bars(digits, tmp_path, capsys):
    import asyncio

    few = digits.subset(torch.arange(300))
    one = PROTOCOL._replace(epochs=1)

    async def cell():
        return learning.train(build(), few, one, run_dir=tmp_path / "loop", device=CPU, progress=True)

    assert asyncio.run(cell())[:4] == train(build(), few, tmp_path / "plain", one)[:4]


def test_the_folder_of_a_run_that_is_trained_elsewhere_is_refused(digits, tmp_path, epochs):
    from hnn_models import paths

    held = paths.locked(tmp_path, wait=False)  # as another process holds it
    with held, pytest.raises(ValueError, match=f"another process writes in {tmp_path}"):
        train(HybridNetwork("S10", (1, 8, 8), steps=2), digits, tmp_path)
    assert epochs == []
    assert list(tmp_path.iterdir()) == []
