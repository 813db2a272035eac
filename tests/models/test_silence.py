"""Firing rates in the logs, and the warning about layers that never fire or get no gradient."""

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import warnings

import pytest
import torch
from torch import nn

from hnn_models.network.activity import activity
from support.commands import hnn
from support.paths import environment
from support.small_network import CPU, PROTOCOL, build, saved_weights, train

learning = pytest.importorskip("hnn_models.training.learning", reason="training needs the extra 'models'")
from hnn_models.training.silence import SilenceWatch  # noqa: E402

IN_TERMINAL = environment(TERM="xterm-256color", OMP_NUM_THREADS="1")
IN_TERMINAL.pop("COLUMNS", None)


def messages(network, images, folder, **changes):
    """The warnings of a training run about silent layers."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(network, images, folder, PROTOCOL._replace(**changes))
    return [str(warning.message) for warning in caught if str(warning.message).startswith("after epoch")]


@pytest.mark.parametrize(("architecture", "layers"), [("A64-S32-S10", ["S32", "S10"]), ("S64-S10", ["S64", "S10"])])
def test_a_network_that_learns_is_not_warned_of(architecture, layers, digits, tmp_path):
    network = build(architecture, gain=6.0)
    assert messages(network, digits, tmp_path) == []
    logged = learning.history(tmp_path)
    names = [f"rate_{number}_{layer}" for number, layer in enumerate(layers, 1)]
    assert [sorted(name for name in epoch if name.startswith("rate")) for epoch in logged] == 3 * [names]
    assert all(0 < epoch[name] < 1 for epoch in logged for name in names)


def test_the_rates_are_those_of_the_first_validation_images(digits, tmp_path):
    network = build(gain=6.0)
    train(network, digits, tmp_path, PROTOCOL._replace(epochs=1))
    images = digits[learning.parts(network, digits, PROTOCOL)[1][:16]][0]
    rates = [work.spikes.mean().item() for work in activity(network.eval(), images)]
    (logged,) = learning.history(tmp_path)
    assert [logged["rate_1_S32"], logged["rate_2_S10"]] == pytest.approx(rates)


def test_measuring_leaves_the_run_as_it_was(digits, tmp_path, monkeypatch):
    """Weights with noise of the coding are the same bit for bit without it."""
    for name in ("measured", "not measured"):
        if name == "not measured":
            monkeypatch.setattr(SilenceWatch, "rates", lambda *_: {})
        train(build(coding="gaussian"), digits, tmp_path / name, PROTOCOL._replace(epochs=2))
    one, other = (saved_weights(tmp_path / name) for name in ("measured", "not measured"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_separate_learning_measures_from_features(digits, tmp_path):
    network = build(gain=6.0, fixed_artificial=True, coding="poisson")
    train(network, digits, tmp_path, PROTOCOL._replace(epochs=1))
    (logged,) = learning.history(tmp_path)
    assert logged["rate_1_S32"] > 0
    assert not any(name.startswith("rate") for name in learning.history(tmp_path / "artificial")[0])


def test_silent_layers_are_named_once_with_what_helps(digits, tmp_path):
    (message,) = messages(build("S64-S64-S10", gain=0.01), digits, tmp_path, epochs=3)
    assert message.startswith(
        "after epoch 3, no neuron fires in S64 (layer 1) on 16, in S64 (layer 2) on 16, in S10 (layer 3) on 16 of 16 "
        "validation images. What helps: "
    )
    for help_ in ("gain, --gain; it is 0.01", "input='axon'", "threshold; it is 1", "--lr; it is 0.002", "more epochs"):
        assert help_ in message


def test_a_layer_that_gets_no_gradient_is_named(digits, tmp_path):
    network = build("A64-S32-S10", gain=6.0, input="axon")
    with torch.no_grad():
        network.spiking[1].weights.bias.fill_(-100)  # far below the threshold, where the surrogate is zero
    (message,) = messages(network, digits, tmp_path)
    assert "no neuron fires in S10 (layer 3) on 16 of 16" in message
    assert "no gradient arrives at the weights of A64 (layer 1), S32 (layer 2), S10 (layer 3)" in message
    assert "input='axon'" not in message


def test_it_waits_for_two_hundred_steps_and_warns_once(digits, tmp_path):
    (message,) = messages(build("S64-S10", gain=0.01), digits, tmp_path, epochs=9, batch_size=32, lr=1e-6)
    steps = -(-len(learning.parts(build("S64-S10"), digits, PROTOCOL)[0]) // 32)
    assert message.startswith(f"after epoch {-(-200 // steps)},")


def test_one_short_epoch_is_judged_only_if_all_layers_are_silent(digits, tmp_path):
    (message,) = messages(build("S64-S10", gain=0.01), digits, tmp_path / "all", epochs=1, lr=1e-6)
    assert message.startswith("after epoch 1, no neuron fires in S64 (layer 1) on 16, in S10 (layer 2) on 16 of 16")
    assert messages(build(), digits, tmp_path / "some", epochs=1) == []
    assert learning.history(tmp_path / "some")[0]["rate_2_S10"] == 0


def test_a_loss_that_is_small_needs_no_gradient():
    network = build()
    watch = SilenceWatch(network)
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    watch.gradients(torch.tensor(0.01), 1e-8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        watch.warn(1, 1000, 1e-3, last=True)
    watch.gradients(torch.tensor(2.3), 1e-8)
    with pytest.warns(UserWarning, match="no gradient arrives at the weights of A64"):
        watch.warn(1, 1000, 1e-3, last=True)


def test_layers_that_are_not_trained_need_no_gradient():
    network = build(fixed_artificial=True)
    watch = SilenceWatch(network)
    nn.functional.cross_entropy(network(torch.rand(4, 1, 8, 8)), torch.arange(4)).backward()
    for layer in network.spiking:
        layer.weights.weight.grad = torch.full_like(layer.weights.weight, 1e-3)
    watch.gradients(torch.tensor(2.3), 1e-8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        watch.warn(1, 1000, 1e-3, last=True)


def in_terminal(columns, command):
    """The output of ``hnn`` in a terminal, without its colours, and its exit status."""
    pid, terminal = pty.fork()
    if not pid:
        os.execve(
            sys.executable, [sys.executable, "-c", "from hnn_models.cli import main; main()", *command], IN_TERMINAL
        )
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    written = b""
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        written += part
    _, status = os.waitpid(pid, 0)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written.decode()), os.waitstatus_to_exitcode(status)


@pytest.mark.parametrize("where", [80, 200, "file"])
def test_each_epoch_leaves_a_line_with_its_rates(tmp_path, where):
    command = [
        "train", "A64-S64-S32-S10", "--gain", "6", "--epochs", "2", "--steps", "4", "--device", "cpu", "--out",
        str(tmp_path / "run"),
    ]  # fmt: skip
    if where == "file":
        done = subprocess.run(
            [sys.executable, "-c", "from hnn_models.cli import main; main()", *command],
            env=IN_TERMINAL, capture_output=True, text=True,
        )  # fmt: skip
        shown, code = done.stderr, done.returncode
    else:
        shown, code = in_terminal(where, command)
    assert code == 0, shown
    history = learning.history(tmp_path / "run")
    for epoch, line in zip(history, re.findall(r"epoch \d/2 .*", shown), strict=True):
        rates = ", ".join(f"{name[7:]} {rate:.3g}" for name, rate in epoch.items() if name.startswith("rate_"))
        accuracy = f"validation {100 * epoch['validation_accuracy']:.2f} %"
        assert line.strip() == f"epoch {epoch['epoch']}/2  loss {epoch['train_loss']:.3f}  {accuracy}  rates {rates}"
        assert len(line.strip()) < 80
    assert " ".join(shown.split()).count("hnn: warning: after epoch 2, no neuron fires in S") == 1
    assert "UserWarning" not in shown


def test_hnn_train_warns_and_keeps_the_names_of_its_results(tmp_path):
    command = [
        "train", "A16-S16-S10", "--gain", 0.01, "--epochs", 2, "--steps", 4, "--device", CPU, "--no-progress", "--json",
        "--out", tmp_path / "run",
    ]  # fmt: skip
    with pytest.warns(UserWarning, match="after epoch 2, no neuron fires in S16 .*--gain"):
        result = hnn(*command)
    assert list(json.loads(result.stdout)) == [
        "test_accuracy", "validation_accuracy", "best_epoch", "epochs", "training_seconds", "backend", "checkpoint",
    ]  # fmt: skip
