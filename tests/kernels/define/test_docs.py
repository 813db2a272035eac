"""The examples of docs/neurons.md compute what the page says."""

import re

import pytest
import torch

from support.paths import ROOT

EXAMPLES = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "neurons.md").read_text(), re.MULTILINE | re.DOTALL)


def test_there_are_three_definitions():
    assert ["@hnn_kernels.neuron(" in example for example in EXAMPLES] == [True, True, True]


@pytest.mark.parametrize("number", range(3))
def test_example(number):
    names: dict = {}
    exec(compile(EXAMPLES[number], f"docs/neurons.md, example {number}", "exec"), names)
    learnt = [value for value in names.values() if isinstance(value, torch.Tensor) and value.requires_grad]
    assert all(value.grad is not None and value.grad.isfinite().all() for value in learnt if value.is_leaf)
    if number == 0:
        assert 0 < names["spikes"].mean() < 1
        assert names["decay"].grad.shape == (500,)
    if number == 2:
        # v = 2, 2 - 2 + ..: two thresholds are reached at the first step, and 2 again from v = 0.
        assert names["out"].unique().tolist() == [1.0]
        assert names["gain"].grad == 6 * 2 * 2
