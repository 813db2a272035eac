"""The libraries whose modules are converted, and the look-up of a class in their tables."""

from typing import NamedTuple

from . import norse, sinabs, snntorch, spikingjelly
from .rules import Library, Rule, full_name
from .swap import of_library

LIBRARIES: tuple[Library, ...] = (spikingjelly.LIBRARY, sinabs.LIBRARY, norse.LIBRARY, snntorch.LIBRARY)

# What a subclass may define without another step of its neurons.
_HARMLESS = {
    "__annotations__", "__doc__", "__firstlineno__", "__init__", "__module__", "__parameters__", "__qualname__",
    "__repr__", "__static_attributes__", "extra_repr",
}  # fmt: skip


class Found(NamedTuple):
    """A rule for a class, and how sure it is.

    Attributes:
        library: the library of the rule.
        rule: the rule.
        doubt: why the rule may not fit the class; empty where it is known to.
    """

    library: Library
    rule: Rule
    doubt: str


def rule_of(kind: type) -> Found | None:
    """Return the rule for a class: its own, or that of the nearest class above it, with the doubt about that.

    A class that was converted has the rule of the one that it replaced.
    """
    kind = of_library(kind)
    for above in kind.__mro__:
        name = full_name(above)
        for library in LIBRARIES:
            if name in library.reasons:
                return None
            if name in library.rules:
                doubt = "" if above is kind else subclass_of(name)
                return Found(library, library.rules[name], doubt or library.unknown_version())
    return None


def subclass_of(name: str) -> str:
    """Return why a subclass of a class with this name is left."""
    return f"a subclass of {name}, whose step may be another one"


def only_constructs(kind: type) -> bool:
    """Tell if a subclass adds nothing to the class of its rule but another constructor or text."""
    for above in kind.__mro__:
        if any(full_name(above) in library.rules for library in LIBRARIES):
            return True
        if set(vars(above)) - _HARMLESS:
            return False
    return False


def why_not(kind: type) -> str:
    """Return why a class without a rule stays; empty for one that is no neuron of a library."""
    names = [full_name(above) for above in kind.__mro__]
    for library in LIBRARIES:
        for name in names:
            if name in library.reasons:
                return library.reasons[name] if name == names[0] else subclass_of(name)
        packages = tuple(name for name in library.neurons if name.endswith("."))
        if any(name in library.neurons or name.startswith(packages) for name in names):
            return "no kernel computes its step"
    return ""


def stays(kind: type) -> str:
    """Return why a neuron of a library stays as it is; empty for one with a rule, and for what is no neuron of one."""
    found = rule_of(kind)
    return why_not(kind) if found is None else found.doubt
