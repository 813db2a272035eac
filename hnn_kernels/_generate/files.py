"""The generated files, and for each the function that writes its text."""

from collections.abc import Callable

from . import layer, surrogates

# By path from the root. Each function takes the names of _layer.py and the list of surrogates.
FILES: dict[str, Callable] = {
    "csrc/layer.h": layer.cpp,
    "csrc/surrogates.h": lambda _, listed: surrogates.cpp(listed),
    "hnn_kernels/_triton/surrogates.py": lambda _, listed: surrogates.triton(listed),
}
