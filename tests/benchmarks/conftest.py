"""The suite's providers change the instruction set of the process's kernels; other tests need the usual one."""

import pytest

from benchmarks.providers.own import usual_set
from hnn_kernels import _extensions


@pytest.fixture(autouse=True)
def usual_instruction_set():
    yield
    if _extensions.cpu is not None:
        _extensions.cpu.use_instruction_set(usual_set())
