"""Load the compiled modules. A module that is absent is None with a reason, never an import error.

Importing a module registers its kernels with torch's dispatcher, for the operators that ``_dispatch.py`` has defined
before. Its Python face (pybind11) tells how it was built.
"""

import importlib
from types import ModuleType

import torch

from . import _layer
from .surrogates import SURROGATES

# A module must have been built for the list of what a layer is made of that has this digest.
DIGEST = _layer.digest(SURROGATES)


def _load(name: str) -> tuple[ModuleType | None, str]:
    try:
        module = importlib.import_module(f"hnn_kernels.{name}")
    except ModuleNotFoundError:
        return None, "this installation was built without them"
    except ImportError as error:
        return None, f"{name} was built but cannot be loaded: {error}"
    built_for = module.build_info().get("layer")
    if built_for != DIGEST:
        return None, (
            f"{name} was built for another list of what a layer is made of ({built_for}, not {DIGEST}: _layer.py and "
            "surrogates.py); `make generate`, and build it again"
        )
    return module, ""


cpu, cpu_error = _load("_cpu")
cuda, cuda_error = _load("_cuda")
# The CUDA sources compiled for the host, for tests. With a device, the tests run the kernels on the device instead.
shim, shim_error = _load("_shim") if cuda is None or not torch.cuda.is_available() else (None, "")
