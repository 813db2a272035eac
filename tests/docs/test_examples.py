"""The programs of examples/ run, on small data, and reach what they promise."""

import re
import socket
import struct

import numpy as np
import pytest

from support.paths import ROOT

EXAMPLES = ROOT / "examples"

# Arguments that make a program short, and what its output must match.
RUNS = {
    "first_layer": ([], r"constant input: \(25, 8, 100\)"),
    "mnist": (["--data-dir", "."], r"epoch 3: .* test accuracy (9\d|100)\."),
    "learnt_time_constants": (
        ["--iterations", "150"],
        r"weights alone: [4-7]\d% right[^:]*\nlearnt: decay: (9\d|100)%",
    ),
    "streaming": (["--streams", "21"], r"stream 20: .* [7-9]\d% of the chunks right"),
    "event_camera": (["--size", "20", "--epochs", "2", "--steps", "6"], r"epoch 2: .* (9\d|100)% right"),
    "energy": ([], r"S128: .* [1-9]\d* spikes\n.*S10: +0 MACs, +[1-9]\d* additions"),
    "hybrid_cnn_lightning": (["--epochs", "3"], r"validation accuracy [89]\d\."),
}


def write_mnist(root):
    """Two classes of random images around two patterns, in MNIST's files."""
    random = np.random.default_rng(0)
    patterns = random.integers(0, 256, (2, 28, 28))
    (root / "MNIST" / "raw").mkdir(parents=True)
    for name, count in (("train", 512), ("t10k", 128)):
        labels = random.integers(0, 2, count)
        images = (patterns[labels] * random.random((count, 28, 28))).astype(np.uint8)
        folder = root / "MNIST" / "raw"
        header = struct.pack(">4i", 2051, count, 28, 28)
        (folder / f"{name}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(
            struct.pack(">2i", 2049, count) + labels.astype("u1").tobytes()
        )


def test_every_example_is_run():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {*RUNS, "several_processes"}


@pytest.mark.parametrize("name", RUNS)
def test_an_example_runs(name, tmp_path, forks):
    if name == "hybrid_cnn_lightning":
        pytest.importorskip("lightning", reason="this example needs the extra 'models'")
    if name == "mnist":
        write_mnist(tmp_path)
    arguments, wanted = RUNS[name]
    done = forks.run(EXAMPLES / f"{name}.py", tmp_path, arguments)
    assert done.returncode == 0, done.stderr
    assert re.search(wanted, done.stdout), done.stdout
    assert "Warning" not in re.sub(r"/site-packages/.*", "", done.stderr)


def write_nmnist(root, count=80):
    """Recordings in N-MNIST's files, 5 bytes an event: a bar whose place tells the class."""
    random = np.random.default_rng(0)
    for number in range(count):
        label = number % 10
        t, p = np.sort(random.integers(0, 300_000, 200)), random.integers(0, 2, 200)
        x, y = 3 * label + random.integers(0, 4, 200), random.integers(0, 34, 200)
        events = np.stack([x, y, p << 7 | t >> 16, t >> 8 & 255, t & 255], axis=1).astype(np.uint8)
        folder = root / "NMNIST" / "Train" / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        events.tofile(folder / f"{number:05d}.bin")


# tonic downloads a data set of less than 10,000 files again.
NMNIST = """
import runpy
import tonic
tonic.datasets.NMNIST._check_exists = lambda self: True
runpy.run_path({path!r}, run_name="__main__")
"""


def test_events_come_through_tonic(tmp_path, forks):
    pytest.importorskip("tonic", reason="tests/peers.txt has it")
    write_nmnist(tmp_path)
    path = str(EXAMPLES / "event_camera.py")
    arguments = ["--nmnist", ".", "--epochs", "6", "--steps", "4", "--size", "20"]
    done = forks.run(path, tmp_path, arguments, text=NMNIST.format(path=path))
    assert done.returncode == 0, done.stderr
    assert re.search(r"epoch 6: .* (9\d|100)% right", done.stdout), done.stdout


LAUNCH = """
import os, runpy
os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT="{port}",
                  CUDA_VISIBLE_DEVICES="")
other = os.fork()
if not other:
    os.environ.update(RANK="1", LOCAL_RANK="1")
runpy.run_path({path!r}, run_name="__main__")
if other:
    assert os.waitpid(other, 0)[1] == 0
"""


def test_several_processes_train_one_network(tmp_path, forks):
    """Two processes as torchrun starts them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = str(EXAMPLES / "several_processes.py")
    done = forks.run(path, tmp_path, text=LAUNCH.format(port=port, path=path))
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"2 processes, loss .*, (9\d|100)% right\n", done.stdout)
