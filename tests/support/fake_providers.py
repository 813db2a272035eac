"""Providers for the tests of the benchmark suite, and a plan that takes no time."""

import torch

from benchmarks.core import timing
from benchmarks.core.fairness import reference
from benchmarks.core.layer import Layer, Product
from benchmarks.core.timing import Plan
from benchmarks.suite import runner

CPU = torch.device("cpu")
PLAN = Plan(turns=2, seconds=0.0, most=1, limit=60.0, first=120.0)


class Fake:
    """A provider whose layers compute the reference, changed by ``change``, a function of ``(run, current)``."""

    def __init__(self, name="fake", change=lambda run, current: run(current), **layer):
        self.name, self.change, self.options, self.made = name, change, layer, 0

    def version(self):
        return "1.2.3"

    def layer(self, wanted, features, device, dtype):
        self.made += 1
        return Layer(
            lambda current: self.change(lambda x: reference(x, wanted), current),
            **{"dynamics": wanted, "exact": True, **self.options},
        )


class FakeMultiplier(Fake):
    """A provider that also has a product: the weights' own, changed by ``change``."""

    def product(self, weights, device):
        self.made += 1
        return Product(lambda train: self.change(weights, train), **self.options)


def hasten(monkeypatch):
    """Turn off warm-up and garbage collection, which would take a second with all the modules that tests import."""
    monkeypatch.setattr(timing, "WARM_UP_SECONDS", 0.0)
    monkeypatch.setattr(runner, "_free", lambda device: None)


def raising(error):
    """A change that raises."""

    def change(run, current):
        raise error

    return change
