"""The place where pickles find converted classes, by their names."""

import importlib
from typing import Any

from .libraries import rule_of
from .rules import full_name
from .swap import converted_class


def __getattr__(name: str) -> Any:
    module, colon, qualified = name.partition(":")
    if not colon:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    kind: Any = importlib.import_module(module.replace("/", "."))
    for part in qualified.split("/"):
        kind = getattr(kind, part)
    found = rule_of(kind)
    if found is None:
        raise AttributeError(f"{full_name(kind)} is none of the classes that this version of hnn_kernels converts")
    return converted_class(kind, found.rule)
