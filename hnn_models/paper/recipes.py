"""The recipes as the paper's cells take them: tables of settings, by network.

A recipe is a list of rules. A rule holds for the runs that it names, and a later rule overrides an earlier one. What
a recipe changes for every network alike, and ``hnn train`` takes too, is in :mod:`hnn_models.training.protocol`.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from .cells import Run

_ANY: Mapping[str, Any] = {}


class Rule(NamedTuple):
    """Settings for some runs.

    Attributes:
        when: by name, the values that the rule holds for: a field of :class:`hnn_models.paper.cells.Run`; ``"table"``;
            or ``"part"``, which is ``"spiking"``, ``"hybrid"`` or ``"artificial"``. It holds for all runs without any.
        run: fields of the run.
        tokens: tokens of the architecture, and what stands in their place.
        network: options of :class:`hnn_models.HybridNetwork`.
        protocol: fields of :class:`hnn_models.Protocol`.
    """

    when: Mapping[str, Sequence[str]] = _ANY
    run: Mapping[str, Any] = _ANY
    tokens: Mapping[str, str] = _ANY
    network: Mapping[str, Any] = _ANY
    protocol: Mapping[str, Any] = _ANY


_POISSON = ("poisson", "poisson-divided-twice")

# The program of the paper's authors (github.com/DenDen047/hybrid_network) where it differs from the paper's text.
_AUTHORS = (
    # The section about direct and axon input says which of them a cell has. In the program every table has the axon.
    Rule({"part": ("spiking", "hybrid"), "table": ("1a", "1b", "2a", "2b", "3a", "3b")}, run={"input": "axon"}),
    Rule({"dataset": ("mnist",)}, tokens={"A784": "A500", "S784": "S500"}),
    # A sigmoid stands at the border. The fixed layers come from a network that has ReLU there.
    Rule({"part": ("hybrid",), "coding": ("duplicate",)}, run={"border": "sigmoid"}),
    Rule({"coding": ("duplicate",), "learning": ("separate",)}, network={"pretrained_activation": "relu"}),
    # The artificial part gives mean and ln of the variance.
    Rule({"part": ("hybrid",), "coding": ("gaussian",)}, run={"coding": "gaussian-variance"}),
    Rule(network={"learn": ("axon",), "per": "neuron", "pool_axon": True}),
    # Drops after epochs 50 and 75 of 100 are usual. Elsewhere they are 50 and 100, the last epoch, or 75 and 112.
    Rule({"dataset": ("mnist",), "coding": ("gaussian-variance",)}, protocol={"milestones": (0.5,)}),
    Rule({"dataset": ("mnist",), "learning": ("separate",)}, protocol={"milestones": (0.5,)}),
    Rule({"dataset": ("mnist",), "coding": _POISSON}, protocol={"milestones": (0.75,)}),
    # After epochs 75 and 112 of 150.
    Rule({"dataset": ("cifar10",)}, protocol={"milestones": (0.5, 112 / 150)}),
    Rule({"dataset": ("cifar10",), "learning": ("separate",)}, protocol={"batch_size": 16}),
)

RULES: Mapping[str, Sequence[Rule]] = {
    "paper": (),
    "modern": (Rule(network={"learn": ("axon",)}),),
    "authors": _AUTHORS,
    # Faults of that program, as controls: each alone, to see what figure it gives. The first is all in the protocol.
    "fault-leaked-split": _AUTHORS,
    "fault-divided-twice": (
        *_AUTHORS,
        Rule({"part": ("hybrid",), "coding": ("poisson",)}, run={"coding": "poisson-divided-twice"}),
    ),
}


def changed(run: "Run", table: str, recipe: str) -> "Run":
    """The run of a cell of ``table`` with ``recipe``, where the paper's text has ``run``."""
    for rule in RULES[recipe]:
        if _holds(rule, run, table):
            tokens = [rule.tokens.get(token, token) for token in run.architecture.split("-")]
            run = run._replace(**{**rule.run, "architecture": "-".join(tokens)})
    return run


def network_options(run: "Run", recipe: str) -> dict[str, Any]:
    """The options of the network of ``run``, which is changed already, that belong to ``recipe``."""
    return _merged(run, recipe, "network")


def protocol_fields(run: "Run", recipe: str) -> dict[str, Any]:
    """The fields of the protocol of ``run``, which is changed already, that depend on more than ``recipe``."""
    return _merged(run, recipe, "protocol")


def _merged(run: "Run", recipe: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for rule in RULES[recipe]:
        if _holds(rule, run, ""):
            found |= getattr(rule, name)
    return found


def _holds(rule: Rule, run: "Run", table: str) -> bool:
    facts = {**run._asdict(), "part": run.part, "table": table}
    return all(facts[name] in allowed for name, allowed in rule.when.items())
