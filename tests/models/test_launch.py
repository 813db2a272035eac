"""Process variables: believed where they form a launch, refused where they are half of one, and else left aside."""

import os
import subprocess
import sys

import pytest

from hnn_models.training import launch as launches
from hnn_models.training.launch import ALONE, Launch, launch

FULL = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "node1", "MASTER_PORT": "29500"}
BATCH = {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "train", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NTASKS": "4"}
STEP = {**BATCH, "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4"}


@pytest.fixture(autouse=True)
def variables(monkeypatch):
    """None of the variables is set; a function that sets some."""
    for name in list(os.environ):
        if name in launches.TORCHRUN or name.startswith(("SLURM_", "OMPI_", "PMI_", "MV2_", "JSM_")):
            monkeypatch.delenv(name)

    def set_all(values):
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return set_all


def test_torchruns_variables_are_a_launch(variables):
    variables(FULL)
    assert launch() == Launch(1, 2, 1, "node1", 29500)
    assert launch().share == (1, 2)
    variables(STEP)  # torchrun in each of several tasks
    assert launch() == Launch(1, 2, 1, "node1", 29500)


@pytest.mark.parametrize(
    "left_over",
    [
        {},
        {"WORLD_SIZE": "1"},
        {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"},
        {**FULL, "RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"},
        {"LOCAL_RANK": "1"},
        {"LOCAL_RANK": "one"},
        {"MASTER_ADDR": "node1"},
        dict.fromkeys(FULL, ""),
        {"RANK": " "},
        {"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_LOCAL_RANK": "0", "PMI_RANK": "0"},
        BATCH,
        {**BATCH, "SLURM_NTASKS_PER_NODE": "4"},
        {**STEP, "SLURM_STEP_NUM_TASKS": "1"},
        {**STEP, "SLURM_JOB_NAME": "bash"},
        {**STEP, "SLURM_JOB_NAME": "interactive"},
        {**STEP, "SLURM_PTY_PORT": "4242"},
    ],
)
def test_what_forms_no_launch_is_left_aside(variables, left_over):
    variables(left_over)
    assert launch() == ALONE
    assert launch().share == (0, 1)


@pytest.mark.parametrize(
    ("half", "message"),
    [
        (
            {"RANK": "3"},
            "RANK=3 tells of several processes, but WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT",
        ),
        (
            {"WORLD_SIZE": "2"},
            "WORLD_SIZE=2 tells of several processes, but RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT",
        ),
        ({**FULL, "LOCAL_RANK": ""}, "RANK=1 and WORLD_SIZE=2 tell of several processes, but LOCAL_RANK is not set"),
        ({**FULL, "MASTER_PORT": ""}, "but MASTER_PORT is not set: start them with torchrun, or unset RANK WORLD_SIZE"),
        ({**FULL, "RANK": "2"}, "RANK must be below WORLD_SIZE; got RANK=2 and WORLD_SIZE=2"),
        ({**FULL, "LOCAL_RANK": "2"}, "LOCAL_RANK must not be above RANK; got LOCAL_RANK=2 and RANK=1"),
        ({**FULL, "RANK": "-1"}, "the variable RANK must be a whole number of at least 0; got '-1'"),
        ({"WORLD_SIZE": "two"}, "the variable WORLD_SIZE must be a whole number of at least 1; got 'two'"),
        ({"WORLD_SIZE": "0"}, "the variable WORLD_SIZE must be a whole number of at least 1; got '0'"),
        ({**FULL, "MASTER_PORT": "http"}, "the variable MASTER_PORT must be a whole number of at least 1; got 'http'"),
    ],
)
def test_half_a_launch_is_refused(variables, half, message):
    variables(half)
    with pytest.raises(ValueError, match=message):
        launch()


@pytest.mark.parametrize(
    ("task", "launcher"),
    [
        (STEP, "srun"),
        ({**STEP, "SLURM_PROCID": "3", "SLURM_JOB_NAME": "bash"}, "srun"),
        ({"SLURM_PROCID": "2"}, "srun"),
        ({"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "2"}, "mpirun"),
        ({"PMI_RANK": "1", "PMI_SIZE": "2"}, "mpirun"),
        ({"MV2_COMM_WORLD_RANK": "0", "MV2_COMM_WORLD_SIZE": "2"}, "mpirun"),
        ({"JSM_NAMESPACE_RANK": "1", "JSM_NAMESPACE_SIZE": "2"}, "jsrun"),
    ],
)
def test_one_of_several_tasks_that_share_nothing_is_refused(variables, task, launcher):
    variables(task)
    with pytest.raises(ValueError, match=f"this is one of several tasks of {launcher} .*torchrun .*or unset "):
        launch()


TRAINS = """
import os, sys, torch
import hnn_models.training.learning
from support.small_network import PROTOCOL, build, train
from hnn_models import load_images
from pathlib import Path
images = load_images("digits").subset(torch.arange(100))
train(build("A8-S10", steps=2), images, Path(sys.argv[1]), PROTOCOL._replace(epochs=1))
assert {name: os.environ.get(name) for name in before} == before
"""


@pytest.mark.parametrize(
    "environment", [{"RANK": ""}, {"LOCAL_RANK": "1"}, BATCH, {**STEP, "SLURM_JOB_NAME": "bash"}],
    ids=["empty", "left over", "batch", "shell"],
)  # fmt: skip
def test_training_writes_everything_and_leaves_the_variables(tmp_path, environment):
    """Lightning would read them as it is imported, write no logs, or wait for others."""
    from support.paths import ROOT

    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    script = [sys.executable, "-c", f"before = {environment!r}\n{TRAINS}", tmp_path]
    done = subprocess.run(script, env=env | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {"best.ckpt", "last.ckpt", "logs"} == {path.name for path in tmp_path.iterdir()}
    assert (tmp_path / "logs" / "version_0" / "metrics.csv").is_file()
    assert list((tmp_path / "logs" / "version_0").glob("events.*"))


def test_half_a_launch_is_refused_on_the_command_line(variables, tmp_path):
    from support.commands import refused

    variables({"RANK": "1", "WORLD_SIZE": "2"})
    error = refused("train", "A16-S10", "--epochs", 1, "--out", tmp_path / "run")
    assert error.startswith(
        "hnn: error: RANK=1 and WORLD_SIZE=2 tell of several processes, but LOCAL_RANK, MASTER_ADDR"
    )
    assert list(tmp_path.iterdir()) == []
