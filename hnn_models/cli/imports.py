"""Torch modules by the place that they are imported from."""

import importlib
import os
import sys

from torch import nn


def imported(place: str) -> nn.Module:
    """The torch module at ``place``, such as ``package.models:network``.

    The name may be that of a module, or of a class or function that makes one without arguments. The current folder is
    looked in first.

    Raises:
        ValueError: there is no such name, or it is neither; or the import or the call fails.
    """
    where, _, name = place.partition(":")
    before = list(sys.path)
    sys.path.insert(0, os.getcwd())
    try:
        found = importlib.import_module(where)
        for part in name.split("."):
            found = getattr(found, part)
        made = found if isinstance(found, nn.Module) or not callable(found) else found()
    except Exception as error:  # code of the user
        raise ValueError(f"{place} cannot be imported as MODULE:NAME: {type(error).__name__}: {error}") from error
    finally:
        sys.path[:] = before
    if not isinstance(made, nn.Module):
        raise ValueError(f"{place} must be a torch.nn.Module, or a function that makes one; got {type(made).__name__}")
    return made
