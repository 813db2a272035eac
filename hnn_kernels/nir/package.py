"""The package ``nir``: imported where it is needed, with an error that says how to get it."""

import re
from typing import Any

LEAST = (1, 0, 7)


def nir() -> Any:
    """Return the package ``nir``.

    Raises:
        ModuleNotFoundError: it is not installed.
        ImportError: it is older than 1.0.7, the first whose ``read`` can leave out the check of types.
    """
    try:
        import nir as package
    except ModuleNotFoundError as error:
        if error.name != "nir":
            raise
        raise ModuleNotFoundError(
            "hnn_kernels.nir needs the package nir, part of the extra 'nir': pip install 'hnn-kernels[nir]'", name="nir"
        ) from error
    if release(package.__version__) < LEAST:
        raise ImportError(f"hnn_kernels.nir needs nir >= {'.'.join(map(str, LEAST))}; got {package.__version__}")
    return package


def release(version: str) -> tuple[int, ...]:
    """Return the first three numbers of a version, such as (1, 0, 8) of "1.0.8.dev1"."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])
