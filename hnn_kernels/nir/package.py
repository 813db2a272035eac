"""The package ``nir``: imported where it is needed, with an error that says how to get it."""

import dataclasses
from typing import Any


def nir() -> Any:
    """Return the package ``nir``.

    Raises:
        ModuleNotFoundError: it is not installed.
        ImportError: it is older than 1.0.6, whose neurons have no ``v_reset``.
    """
    try:
        import nir as package
    except ModuleNotFoundError as error:
        if error.name != "nir":
            raise
        raise ModuleNotFoundError(
            "hnn_kernels.nir needs the package nir, part of the extra 'nir': pip install 'hnn-kernels[nir]'", name="nir"
        ) from error
    if "v_reset" not in {field.name for field in dataclasses.fields(package.LIF)}:
        raise ImportError(f"hnn_kernels.nir needs nir >= 1.0.6, whose neurons have v_reset; got {package.__version__}")
    return package
