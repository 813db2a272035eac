"""Load the compiled modules. A module that is absent is None with a reason, never an import error.

Importing a module registers its kernels with torch's dispatcher, for the operators that ``_dispatch.py`` has defined
before. Its Python face, in the limited API, tells how it was built. The inspection module (pybind11), which only a
build from source has, tells what the CUDA kernels take.
"""

import importlib
import importlib.metadata
import json
import sys
from importlib.machinery import EXTENSION_SUFFIXES, PathFinder
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit
from urllib.request import url2pathname

import torch

from . import _layer, _sources
from .surrogates import SURROGATES

# A module must have been built for the list of what a layer is made of that has this digest.
DIGEST = _layer.digest(SURROGATES)
PACKAGE = Path(__file__).parent
# Where the sources are: a clone. An installed package has none, and its modules are of its own version.
CSRC = PACKAGE.parent / "csrc"
CLONE = (CSRC / "layer.h").exists()
_WHAT = f"-e {PACKAGE.parent}" if CLONE else "--force-reinstall --no-deps, of what was installed here"
BUILD_AGAIN = f"build again: pip install -v --no-build-isolation {_WHAT}"


def cuda_module(version: str | None) -> str:
    """Return the name of the module with the CUDA kernels for a torch of this CUDA version; each major has its own."""
    return f"_cuda{(version or '').split('.')[0]}"


def _there(name: str) -> bool:
    """Tell if the module is a file of this package; another clone that is installed may have one of that name."""
    return PathFinder.find_spec(f"hnn_kernels.{name}", [str(PACKAGE)]) is not None


def _load(name: str) -> tuple[ModuleType | None, str]:
    if f"hnn_kernels.{name}" not in sys.modules and not _there(name):
        others = sorted(path.name.split(".")[0] for path in PACKAGE.glob(f"{name.rstrip('0123456789')}[0-9]*.so"))
        return None, "this installation was built without them" + (f"; it has {', '.join(others)}" if others else "")
    try:
        module = importlib.import_module(f"hnn_kernels.{name}")
    except ImportError as error:
        return None, _hiding(name) or f"{name} was built but cannot be loaded: {error}"
    if name == "_cpu" and not module.instruction_sets():
        return None, f"_cpu was built for another processor (HNN_BUILD=native); {BUILD_AGAIN}"
    reason = _stale(name, module.build_info())
    return (None, _hiding(name) or reason) if reason else (module, "")


def _hiding(name: str) -> str:
    """Tell which file to remove, where the one that Python takes is no good and there is another one of that module.

    An older build named its modules for one Python, as in ``_cpu.cpython-311-x86_64-linux-gnu.so``.
    """
    files = [path for suffix in EXTENSION_SUFFIXES if (path := PACKAGE / f"{name}{suffix}").exists()]
    if len(files) < 2:
        return ""
    return f"{files[0]} is of another build and hides {files[1].name}; remove that file"


def _stale(name: str, info: dict[str, str]) -> str:
    """Tell why a module does not belong to this package; nothing if it does."""
    if info.get("layer") != DIGEST:
        return (
            f"{name} was built for another list of what a layer is made of ({info.get('layer')}, not {DIGEST}: "
            f"_layer.py and surrogates.py); `make generate`, and {BUILD_AGAIN}"
        )
    folder = name[1:].rstrip("0123456789")
    if CLONE and folder in _sources.FOLDERS:
        digest = _sources.digest(CSRC, folder)
        if info.get("sources") != digest:
            return (
                f"{name} was built from other sources than those in {CSRC} ({info.get('sources')}, not {digest}); "
                f"{BUILD_AGAIN}"
            )
    return ""


cpu, cpu_error = _load("_cpu")
CUDA = cuda_module(torch.version.cuda)
cuda, cuda_error = (None, "this torch is built without CUDA") if torch.version.cuda is None else _load(CUDA)
# The CUDA sources compiled for the host, for tests.
shim, shim_error = _load("_shim")
inspection, inspection_error = _load("_inspect")


def _installed_elsewhere() -> Path | None:
    """Return the folder of an installed package with kernels that this one, further ahead in ``sys.path``, shadows."""
    folders = [Path(entry or ".") for entry in sys.path]
    try:
        url = importlib.metadata.distribution("hnn-kernels").read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        url = None
    if url and (place := urlsplit(json.loads(url)["url"])).scheme == "file":  # an editable installation
        folders.append(Path(url2pathname(place.path)))
    for folder in folders:
        other = folder / "hnn_kernels"
        if any(other.glob("_cpu.*")) and other.resolve() != PACKAGE.resolve():
            return other
    return None


def missing(name: str, module: ModuleType | None, error: str) -> str:
    """Tell why a module that was expected is not there, and how to mend it.

    It was expected where its file is there, where setup.py found a compiler, or where an installed package has it.

    Args:
        name: ``"cpu"`` or ``"cuda"``.
        module: the module, or None.
        error: the reason why there is none.

    Returns:
        Nothing where the module is there, or was never expected.
    """
    if module is not None:
        return ""
    file = CUDA if name == "cuda" else f"_{name}"
    if _there(file):
        return error
    record = PACKAGE / "_build.json"
    built = json.loads(record.read_text()) if record.exists() else {}
    if name in built.get("expected", ()):
        return f"{file} was not built when this package was ({built['why']}); {BUILD_AGAIN}"
    if (other := _installed_elsewhere()) is not None:
        return (
            f"{PACKAGE}, which has no compiled modules, shadows the installed {other}, which has; start Python in "
            f"another folder or with -P, or {BUILD_AGAIN}"
        )
    return ""
