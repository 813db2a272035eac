"""The generated files, each with the function that writes its text."""

from collections.abc import Callable

from . import layer, surrogates

# By their paths from the root: of the names of _layer.py, and of the list of surrogates.
FILES: dict[str, Callable] = {
    "csrc/layer.h": layer.cpp,
    "csrc/surrogates.h": lambda _, listed: surrogates.cpp(listed),
    "hnn_kernels/_triton/surrogates.py": lambda _, listed: surrogates.triton(listed),
}
