"""The examples of docs/neurons.md compute what the page says."""

import re

import pytest
import torch

from support.comparisons import equal_bits
from support.paths import ROOT

EXAMPLES = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "neurons.md").read_text(), re.MULTILINE | re.DOTALL)


def test_there_are_three_definitions_and_a_recurrence():
    assert ["Recurrent" in example for example in EXAMPLES] == [False, False, False, True]


@pytest.mark.parametrize("number", range(4))
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
    if number == 3:
        whole = names["all_to_all"](names["x"])
        equal_bits(torch.cat([names["spikes"], names["rest"]]), whole, "two parts")
        assert 0 < whole.mean() < 1
        learnt = [*names["all_to_all"].parameters(), *names["one_to_one"].parameters()]
        assert all(parameter.grad is not None and parameter.grad.any() for parameter in learnt)
