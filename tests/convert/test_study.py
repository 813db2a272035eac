"""The study of what conversion gains: each example runs a step as it is and converted, with nothing left."""

import pytest

from benchmarks.studies.converted import EXAMPLES, pair
from support.converted import by_the_loop


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_converted_whole(name, monkeypatch):
    pytest.importorskip(name.split(" ")[0], reason="examples of other libraries need the extra 'peers'")
    by_the_loop(monkeypatch)
    steps = pair(EXAMPLES[name])
    assert list(steps) == ["library", "converted"]
    for step in steps.values():
        step()
