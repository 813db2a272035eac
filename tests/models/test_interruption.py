"""Runs that are interrupted, in processes of their own: what they end with, and that they go on to the same result."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import nullcontext

import pytest

from support.paths import environment

pytest.importorskip("lightning", reason="training needs the extra 'models'")

ENVIRONMENT = environment(OMP_NUM_THREADS="1")
HNN = [sys.executable, "-c", "from hnn_models.cli import main; main()"]
TRAIN = ["train", "A16-S10", "--epochs", "25", "--steps", "4", "--no-progress", "--json", "--device", "cpu"]


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def heed_signals():
    """In a new process: signals have their default effect, even if the tests run where they are ignored (nohup)."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)


def hnn(*arguments):
    return subprocess.run([*HNN, *map(str, arguments)], env=ENVIRONMENT, capture_output=True, text=True, timeout=300)


def result(done):
    found = json.loads(done.stdout)
    return {name: value for name, value in found.items() if name not in ("training_seconds", "checkpoint")}


def wait_for(path, process):
    while not path.exists() and process.poll() is None:
        time.sleep(0.02)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The result of an uninterrupted run."""
    done = hnn(*TRAIN, "--out", tmp_path_factory.mktemp("whole") / "run")
    assert done.returncode == 0, done.stderr
    return result(done)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_an_interrupted_command_ends_with_the_signals_code_and_goes_on(tmp_path, whole, name):
    command = [*TRAIN, "--out", tmp_path / "run"]
    process = subprocess.Popen(
        [*HNN, *map(str, command)], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=heed_signals,
    )  # fmt: skip
    wait_for(tmp_path / "run" / "last.ckpt", process)
    process.send_signal(getattr(signal, name))
    out, err = process.communicate(timeout=300)
    assert process.returncode == 128 + getattr(signal, name), err
    assert out == ""
    assert "Traceback" not in err
    assert err.endswith("interrupted; the same command with --resume continues after the last full epoch\n")
    assert not list(tmp_path.rglob("*.hnn-part"))
    if name == "SIGTERM":  # the checkpoint is the same for all
        assert result(hnn(*command, "--resume")) == whole


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_an_interrupt_while_importing_is_short(tmp_path, name):
    """The process tells when it has begun to import."""
    begun = tmp_path / "begun"
    script = f"""
import pathlib, sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            pathlib.Path({str(begun)!r}).touch()
sys.meta_path.insert(0, Watch())
from hnn_models.cli import main
sys.argv = ["hnn", "describe", "A784-S10"]
main()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=heed_signals,
    )  # fmt: skip
    wait_for(begun, process)
    process.send_signal(getattr(signal, name))
    out, err = process.communicate(timeout=300)
    assert (process.returncode, out, err) == (128 + getattr(signal, name), "", "")


def test_a_signal_that_is_ignored_stays_ignored(tmp_path, whole):
    """As with nohup."""
    command = [*HNN, *TRAIN, "--out", str(tmp_path / "run")]
    process = subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )  # fmt: skip
    wait_for(tmp_path / "run" / "last.ckpt", process)
    process.send_signal(signal.SIGHUP)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert json.loads(out)["test_accuracy"] == whole["test_accuracy"]


FULL_DISK = """
import resource, sys
limit = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
from hnn_models.cli import main
main()
"""


@pytest.mark.parametrize(
    ("bytes_left", "file"),
    [
        (20_000, r"best\.ckpt"),
        (150, r"logs/version_0/events\.out\.tfevents\.[^/']+"),
        (50, r"logs/version_0/metrics\.csv"),
    ],
)
def test_a_full_disk_ends_in_a_message_that_names_the_file(tmp_path, whole, bytes_left, file):
    run, command = tmp_path / "run", [*TRAIN, "--out", str(tmp_path / "run")]
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(bytes_left), *command], env=ENVIRONMENT, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "Traceback" not in done.stderr
    message = rf"hnn: error: \[Errno 27\] File too large: '{re.escape(str(run))}/{file}'"
    assert re.fullmatch(message, done.stderr.splitlines()[-1])
    assert [path for path in run.rglob("*") if re.fullmatch(file, str(path.relative_to(run)))] == []
    assert [path.name for path in run.iterdir()] == ["logs"]
    assert not list(run.rglob("*.hnn-part"))
    if bytes_left == 20_000:
        assert result(hnn(*command, "--resume")) == whole


def test_ctrl_c_is_a_keyboard_interrupt_in_python(digits, tmp_path, request):
    from support.small_network import PROTOCOL, assert_same_weights, build, saved_weights, train

    long = PROTOCOL._replace(epochs=400)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # the tests may run where it is ignored (nohup)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    handlers = [signal.getsignal(number) for number in SIGNALS]

    def interrupt():
        while not (tmp_path / "cut" / "last.ckpt").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt) as caught:
        train(build(), digits, tmp_path / "cut", long)
    thread.join()
    assert caught.value.__cause__ is None
    assert [signal.getsignal(number) for number in SIGNALS] == handlers
    # The rest is not trained here: a run of three epochs in the same process is as ever.
    for name in ("a", "b"):
        train(build(), digits, tmp_path / name, PROTOCOL._replace(epochs=1))
    assert_same_weights(saved_weights(tmp_path / "a"), saved_weights(tmp_path / "b"))


@pytest.mark.parametrize("own", [False, True], ids=["default", "own handler"])
def test_sigterm_in_python(digits, tmp_path, own):
    """It ends the program with 143; a handler of the program's own stays in force."""
    from support.small_network import PROTOCOL, build, train

    told = []
    handler = (lambda *_: told.append("mine")) if own else signal.SIG_DFL
    former = signal.signal(signal.SIGTERM, handler)

    def terminate():
        while not (tmp_path / "run" / "last.ckpt").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=terminate)
    thread.start()
    try:
        if own:
            train(build(), digits, tmp_path / "run")
        else:
            with pytest.raises(SystemExit) as caught:
                train(build(), digits, tmp_path / "run", PROTOCOL._replace(epochs=400))
            assert caught.value.code == 143
        assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        thread.join()
        signal.signal(signal.SIGTERM, former)
    assert told == (["mine"] if own else [])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("number", "usual", "error", "code"),
    [
        (signal.SIGTERM, signal.SIG_DFL, SystemExit, 143),
        (signal.SIGHUP, signal.SIG_DFL, SystemExit, 129),
        (signal.SIGINT, signal.default_int_handler, KeyboardInterrupt, None),
    ],
)
@pytest.mark.parametrize("within", [False, True], ids=["in training", "in an evaluation within it"])
def test_a_signal_that_arrives_in_a_finalizer_is_not_lost(number, usual, error, code, within):
    """Python drops the exception of the handler there; the next step of training raises it."""
    from hnn_models import signals

    class Finalized:
        def __del__(self):
            signal.raise_signal(number)

    former = signal.signal(number, usual)
    try:
        with signals.kept():
            signals.leave_if_told()
            with signals.kept() if within else nullcontext():
                Finalized()
            with pytest.raises(error) as caught:
                signals.leave_if_told()
        assert getattr(caught.value, "code", None) == code
        signals.leave_if_told()
    finally:
        signal.signal(number, former)
