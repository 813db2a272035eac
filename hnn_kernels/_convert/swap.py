"""Classes in the place of a library's: each is a subclass of the one that it replaces.

Attributes, parameters, buffers and hooks are the module's own, and stay as they are. Pickles name a converted class by
its place in the module ``classes``, where it is made again in whatever process.
"""

import warnings
from typing import Any

from torch import Tensor

from .rules import Rule, full_name, unfit_coefficients, unfit_input

# By the class of a library.
_CLASSES: dict[type, type] = {}


def converted_class(kind: type, rule: Rule) -> type:
    """Return the subclass of ``kind`` whose methods are those of ``rule``."""
    found = _CLASSES.get(kind)
    if found is None:
        # The names have no dot: pickle takes a dot for a step into a class.
        place = f"{kind.__module__.replace('.', '/')}:{kind.__qualname__.replace('.', '/')}"
        named = {"__module__": f"{__package__}.classes", "__qualname__": place, "__doc__": kind.__doc__}
        found = type(kind.__name__, (kind,), named | dict(rule.methods) | {"_hnn_original": kind, "_hnn_rule": rule})
        _CLASSES[kind] = found
    return found


def original(kind: type) -> type | None:
    """Return the class that a converted class replaced; None for any other class."""
    return vars(kind).get("_hnn_original")


def of_library(kind: type) -> type:
    """Return the library's own class: the one that a converted or a marked class replaced, or else the class itself.

    A mark is above a conversion: :mod:`hnn_kernels._unroll.marks` makes its class of what a module has.
    """
    kind = vars(kind).get("_hnn_unmarked", kind)
    return original(kind) or kind


def arguments(module: Any, x: Any, one: bool = False) -> Any:
    """Return what a call of a converted module needs; None, with a warning, where its library has to compute it.

    ``x`` has an axis of time, but for ``one`` step.
    """
    rule: Rule = type(module)._hnn_rule
    asked = rule.single if one and rule.single is not None else rule.arguments
    given = unfit_input(x, one) or asked(module)
    if not isinstance(given, str):
        given = laid_out(given, x)
        given = unfit_coefficients(x, given.coefficients, one) or given
    if isinstance(given, str):
        kind = full_name(type(module)._hnn_original)
        warnings.warn(f"{kind} computes this call itself: {given}", RuntimeWarning, stacklevel=4)
        return None
    return given


def laid_out(given: Any, x: Tensor) -> Any:
    """Return the same call, with each coefficient of one axis along the axis of a step that it is for."""
    axis = getattr(given, "axis", None)
    behind = 0 if axis is None else (x.dim() - 2 - axis if axis >= 0 else -1 - axis)
    if behind <= 0:
        return given
    values = {
        name: value.reshape(-1, *[1] * behind) if isinstance(value, Tensor) and value.dim() == 1 else value
        for name, value in given.coefficients.items()
    }
    return given._replace(coefficients=values)
