"""The machine, its programs and packages, and the kernels that can run."""

import os
import platform
import shutil
import sysconfig
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from . import facts
from .facts import HAS, Facts
from .programs import found, output
from .state import ROOT

PROGRAMS = ("nvcc", "ncu", "compute-sanitizer", "c++", "cc", "ninja")
PACKAGES = ("pytest", "xdist", "pybind11", "setuptools")


def main() -> None:
    """Say the facts. One that cannot be had is said with its error, and ends nothing."""
    say, _ = facts.given(__doc__)
    for what in (_machine, _device, _tools, _modules, _backends):
        try:
            what(say)
        except Exception as error:
            say.say(f"error of {what.__name__[1:]}", f"{type(error).__name__}: {error}")


def _machine(say: Facts) -> None:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = f"Python {platform.python_version()}, {'-'.join(platform.libc_ver())}, {platform.machine()}"
    say.say("system", f"{system}, {len(os.sched_getaffinity(0))} cores, {memory:.0f} GiB")
    if say.device == "cuda":
        query = ["--query-gpu=name,driver_version,memory.total,clocks.max.sm,clocks.max.mem", "--format=csv,noheader"]
        say.say("nvidia-smi", output(["nvidia-smi", *query], 5))


def _device(say: Facts) -> None:
    import torch

    triton = output_of(lambda: __import__("triton").__version__)
    say.say("torch", f"{torch.__version__}, CUDA {torch.version.cuda or 'none'}, triton {triton}")
    if say.device == "cpu":
        say.say("machine", "cpu")
        return
    if not torch.cuda.is_available():
        say.say("no GPU", output_of(torch.cuda.init))
        return
    one = torch.cuda.get_device_properties(0)
    free, total = torch.cuda.mem_get_info()
    cache = getattr(one, "L2_cache_size", 0) >> 20
    chip = f"sm_{one.major}{one.minor}, {one.multi_processor_count} multiprocessors, {cache} MiB of L2"
    say.say("machine", f"{one.name}, {chip}")
    say.say("memory", f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB are free")
    x = torch.arange(1000, device="cuda", dtype=torch.float64)
    say.say("a kernel of torch", "runs" if x.sum().item() == 499500 else "gives a wrong sum")
    say.say(HAS, "gpu")


def output_of(call: Callable[[], object]) -> str:
    """Return the result of a call, or its error, as a text."""
    try:
        return str(call())
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def _tools(say: Facts) -> None:
    there = [name for name in PROGRAMS if found(name)]
    there += [name for name in PACKAGES if find_spec(name)]
    say.say(HAS, ", ".join(there))
    say.say("not there", ", ".join(sorted({*PROGRAMS, *PACKAGES} - set(there))) or "nothing")
    header = Path(sysconfig.get_path("include"), "Python.h")
    say.say("Python.h", "there" if header.exists() else f"not in {header.parent}")
    say.say("disk", f"{shutil.disk_usage(Path.home()).free / 2**30:.0f} GiB are free at home, for Triton's cache")


def _modules(say: Facts) -> None:
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    for path in sorted((ROOT / "hnn_kernels").glob("_*.so")):
        fits = "for this Python" if path.name.endswith((suffix, ".abi3.so")) else f"for another Python than {suffix}"
        say.say("module", f"{path.name}, {path.stat().st_size / 2**20:.1f} MiB, {fits}")


def _backends(say: Facts) -> None:
    import hnn_kernels
    from hnn_kernels import _extensions
    from hnn_models.training.provenance import commit

    say.say("commit", commit())
    if _extensions.cuda is not None:
        say.say("module of CUDA kernels", ", ".join(f"{k} {v}" for k, v in _extensions.cuda.build_info().items()))
    usable = [name for name, backend in hnn_kernels.backends().items() if say.device in backend.devices]
    say.say(HAS, ", ".join(usable))
    for backend in hnn_kernels.backends().values():
        if backend.name not in (*usable, "reference"):
            say.say(f"no {backend.name}", backend.reason or f"it takes {', '.join(backend.devices)}")
    if say.device == "cuda":
        say.say("default", str(hnn_kernels.explain("cuda")).replace("\n", "; "))


if __name__ == "__main__":
    main()
