"""Build: decides by itself what this machine can compile, prints what it decided, and builds that.

    no torch or no C++ compiler           pure Python: the reference; on a GPU Triton, which needs a C compiler itself
    a C++ compiler                        + the C++ CPU kernels (hnn_kernels._cpu)
    a CUDA toolkit and a CUDA torch       + the CUDA kernels (hnn_kernels._cuda); no GPU need be in the machine

The environment variables that it reads are in docs/switches.md.
"""

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

# The GPUs to compile for, as far as the toolkit knows them. The code of one also runs on those of the same major number
# above it: 8.6 and 8.9, 10.3, 12.1. The last one has PTX, from which the driver compiles for GPUs that are not out yet.
ARCHITECTURES = ("7.5", "8.0", "9.0", "10.0", "12.0")
ROOT = Path(__file__).parent
FLAGS = tomllib.loads((ROOT / "csrc/flags.toml").read_text())
CXX_FLAGS = [*FLAGS["cxx"], *FLAGS["stable_abi"]]
NVCC_FLAGS = [*FLAGS["nvcc"], *FLAGS["stable_abi"]]
SOURCES = FLAGS["sources"]

LIMITS = ("python", "cpu", "cuda", "only-cuda")
SANITIZERS = ("address", "undefined", "leak", "thread")


def packages() -> list[str]:
    """Every package, by the name that it is installed under."""
    found = find_packages(include=["hnn_kernels", "hnn_kernels.*", "hnn_models", "hnn_models.*"])
    suite = find_packages(include=["benchmarks", "benchmarks.*"])
    return [*found, *(f"hnn_{name}" for name in suite)]


def say(text: str) -> None:
    """Print to where pip shows it with -v."""
    print(f"hnn_kernels: {text}", file=sys.stderr, flush=True)


def checked(name: str, given: str, allowed: tuple[str, ...]) -> list[str]:
    """The words, with commas between, that the variable ``name`` is set to. A word that is not allowed ends the build.

    An empty variable is an unset one.
    """
    words = [word.strip() for word in given.split(",") if word.strip()]
    for word in words:
        if word not in allowed:
            raise SystemExit(f"{name} must be {', '.join(allowed[:-1])} or {allowed[-1]}; got {word!r}")
    return words


def required() -> set[str]:
    """The modules that must build."""
    return set(checked("HNN_REQUIRE", os.environ.get("HNN_REQUIRE", ""), tuple(SOURCES)))


def find_compiler() -> str | None:
    """The C++ compiler's command."""
    try:
        return runpy.run_path(str(ROOT / "hnn_kernels/_compiler.py"))["find_compiler"]()
    except ValueError as error:
        raise SystemExit(str(error)) from error


def find_cuda() -> Path | None:
    """The CUDA toolkit: from the environment, or the one that the nvcc on the path belongs to."""
    for name in ("CUDA_HOME", "CUDA_PATH"):
        if os.environ.get(name):
            return Path(os.environ[name])
    nvcc = shutil.which("nvcc")
    if nvcc:
        # nvcc on the path may be a link or a script, so it is asked where it lives.
        told = subprocess.run([nvcc, "--dryrun", "-c", "x.cu"], capture_output=True, text=True, check=False).stderr
        top = re.search(r"TOP=(\S+)", told)
        if top:
            return Path(top[1]).resolve()
    default = Path("/usr/local/cuda")
    return default if (default / "bin" / "nvcc").exists() else None


def nvcc_major(toolkit: Path) -> str | None:
    """The toolkit's major version."""
    nvcc = toolkit / "bin" / "nvcc"
    if not nvcc.exists():
        return None
    told = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=False).stdout
    release = re.search(r"release (\d+)\.", told)
    return release[1] if release else None


def architectures(toolkit: Path) -> str:
    """TORCH_CUDA_ARCH_LIST where it is not given: those of ARCHITECTURES that this nvcc compiles for."""
    told = subprocess.run(
        [toolkit / "bin" / "nvcc", "--list-gpu-arch"], capture_output=True, text=True, check=False
    ).stdout.split()
    known = [one for one in ARCHITECTURES if f"compute_{one.replace('.', '')}" in told]
    return f"{';'.join(known)}+PTX" if known else ""


def compiled_for() -> str:
    """The architectures of TORCH_CUDA_ARCH_LIST as numbers, such as 8.0;8.6+PTX for Ampere; the module tells them."""
    from torch.utils import cpp_extension

    try:
        flags = " ".join(cpp_extension._get_cuda_arch_flags())
    except (ValueError, IndexError) as error:
        given = os.environ["TORCH_CUDA_ARCH_LIST"]
        raise SystemExit(f"TORCH_CUDA_ARCH_LIST must be a list such as 8.0;9.0+PTX; got {given!r} ({error})") from error
    code = {(int(major), int(minor), own) for major, minor, own in re.findall(r"code=sm_(\d+)(\d)(a?)", flags)}
    ptx = set(re.findall(r"code=compute_(\w+)", flags))
    return ";".join(f"{a}.{b}{own}{'+PTX' if f'{a}{b}{own}' in ptx else ''}" for a, b, own in sorted(code))


def nvcc_flags() -> list[str]:
    """NVCC_FLAGS, and a smaller binary where this nvcc knows how (a fifth of the size)."""
    told = subprocess.run(
        [f"{os.environ['CUDA_HOME']}/bin/nvcc", "--help"], capture_output=True, text=True, check=False
    )
    return [*NVCC_FLAGS, *(["--compress-mode=size"] if "--compress-mode" in told.stdout else [])]


def plan() -> tuple[list[str], list[str]]:
    """The modules to build, and a line for every decision."""
    limits = checked("HNN_BUILD", os.environ.get("HNN_BUILD", ""), LIMITS) or ["cuda"]
    if len(limits) > 1:
        raise SystemExit(f"HNN_BUILD must be {', '.join(LIMITS[:-1])} or {LIMITS[-1]}; got {','.join(limits)!r}")
    (limit,) = limits
    shim = checked("HNN_BUILD_SHIM", os.environ.get("HNN_BUILD_SHIM", ""), ("0", "1"))
    build, why = [], []
    try:
        import torch
    except ImportError as error:
        return [], [f"pure Python: torch cannot be imported here ({error}); pip needs --no-build-isolation to see it"]
    if limit == "python":
        return [], ["pure Python: HNN_BUILD=python"]
    compiler = find_compiler()
    if compiler is None:
        return [], ["pure Python: there is no C++ compiler (set CXX to name one)"]
    os.environ["CXX"] = compiler
    if limit == "only-cuda":
        why.append("C++ CPU kernels: no, HNN_BUILD=only-cuda")
    else:
        build.append("cpu")
        why.append(f"C++ CPU kernels: yes, with {compiler} against torch {torch.__version__}")
    toolkit = find_cuda()
    if limit == "cpu":
        why.append("CUDA kernels: no, HNN_BUILD=cpu")
    elif torch.version.cuda is None:
        why.append("CUDA kernels: no, this torch is built without CUDA")
    elif toolkit is None:
        why.append("CUDA kernels: no, there is no CUDA toolkit (set CUDA_HOME to name one)")
    elif nvcc_major(toolkit) != torch.version.cuda.split(".")[0]:
        why.append(
            f"CUDA kernels: no, the toolkit in {toolkit} is CUDA {nvcc_major(toolkit)}, torch's is {torch.version.cuda}"
        )
    elif not (wanted := os.environ.get("TORCH_CUDA_ARCH_LIST") or architectures(toolkit)):
        why.append(f"CUDA kernels: no, the nvcc in {toolkit} compiles for none of {', '.join(ARCHITECTURES)}")
    else:
        os.environ["CUDA_HOME"] = str(toolkit)
        os.environ["TORCH_CUDA_ARCH_LIST"] = wanted
        build.insert(0, "cuda")  # first, because it is the one that may fail
        why.append(f"CUDA kernels: yes, with {toolkit} for {compiled_for()}")
    if shim == ["1"]:
        build.append("shim")
        why.append("CUDA sources for the host: yes, HNN_BUILD_SHIM=1")
    return build, why


def write_digest(name: str) -> str:
    """Write the header with the digest of a module's sources; return its folder."""
    digest = runpy.run_path(str(ROOT / "hnn_kernels/_sources.py"))["digest"](ROOT / "csrc", name)
    header = ROOT / "build" / "sources" / name / "sources.h"
    text = f'#define HNN_SOURCES "{digest}"\n'
    if not header.exists() or header.read_text() != text:  # else what includes it would be compiled again
        header.parent.mkdir(parents=True, exist_ok=True)
        header.write_text(text)
    return str(header.parent)


def extension(name: str):
    """The setuptools extension for one compiled module."""
    import pybind11
    from torch.utils import cpp_extension

    sanitize = ",".join(checked("HNN_SANITIZE", os.environ.get("HNN_SANITIZE", ""), SANITIZERS))
    cxx = [*CXX_FLAGS, *([f"-fsanitize={sanitize}", "-g", "-fno-omit-frame-pointer"] if sanitize else [])]
    if name == "shim" or sanitize:
        # Unrolled for a GPU, or checked at every access, these kernels take the optimiser minutes.
        cxx[cxx.index("-O3")] = "-O1"
    make = cpp_extension.CUDAExtension if name == "cuda" else cpp_extension.CppExtension
    result = make(
        f"hnn_kernels._{name}",
        [f"csrc/{name}/{source}" for source in SOURCES[name]],
        include_dirs=[pybind11.get_include(), write_digest(name)],
        define_macros=[("HNN_CUDA_ARCHITECTURES", f'"{compiled_for()}"')] if name == "cuda" else [],
        extra_compile_args={"cxx": cxx, "nvcc": nvcc_flags()} if name == "cuda" else {"cxx": cxx},
        extra_link_args=[f"-fsanitize={sanitize}"] if sanitize else [],
        depends=[str(p) for p in sorted((ROOT / "csrc").rglob("*.*"))],
    )
    # The stable ABI needs none of torch's Python binding, whose symbols change with every release.
    result.libraries = [library for library in result.libraries if library != "torch_python"]
    return result


def record(folder: Path, expected: list[str], why: str) -> None:
    """Write what was expected of this build for hnn_kernels/_extensions.py, which warns where it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "_build.json").write_text(json.dumps({"expected": expected, "why": why}) + "\n")


class BuildPackages(build_py):
    """``build_py`` that adds the record of the build to the package."""

    def run(self) -> None:
        super().run()
        # Where there is a compiler, the CPU's kernels are expected, whatever else was missing.
        wanted = os.environ.get("HNN_BUILD") != "python" and find_compiler() is not None
        expected = chosen or (["cpu"] if wanted else [])
        in_place = getattr(self, "editable_mode", False)
        folder = ROOT if in_place else Path(self.build_lib)
        if not in_place:  # a clone has them where they are
            for name in FLAGS["defined"]["headers"] + ["flags.toml"]:
                target = folder / "hnn_kernels" / "csrc" / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / "csrc" / name, target)
        record(folder / "hnn_kernels", [name for name in expected if name != "shim"], "; ".join(reasons))


def build_command():
    """``build_ext`` that survives the failure of a module unless HNN_REQUIRE names it."""
    from torch.utils.cpp_extension import BuildExtension

    class Build(BuildExtension):
        def build_extensions(self) -> None:
            if self.inplace:  # without build_py
                record(ROOT / "hnn_kernels", [name for name in chosen if name != "shim"], "; ".join(reasons))
            built = []
            for one in list(self.extensions):
                self.extensions = [one]
                name = one.name.rpartition("_")[2]
                try:
                    super().build_extensions()
                    built.append(one)
                except (Exception, SystemExit) as error:
                    if name in required():
                        raise
                    say(f"FAILED to build {one.name}, going on without it: {error}")
            self.extensions = built
            say(f"built: {', '.join(e.name for e in built) or 'nothing'}")

    return Build


def limit_jobs() -> None:
    """One compiler process per core, but no more than memory allows (about 2 GB each)."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 4 << 30
    given = os.environ.get("MAX_JOBS", "").strip()
    if given and not (given.isascii() and given.isdigit() and int(given) > 0):
        raise SystemExit(f"MAX_JOBS must be a whole number of at least 1; got {given!r}")
    os.environ["MAX_JOBS"] = given or str(max(1, min(os.cpu_count() or 1, memory // (2 << 30))))


chosen, reasons = plan()
for reason in reasons:
    say(reason)
missing = required() - set(chosen)
if missing:
    raise SystemExit(f"HNN_REQUIRE asks for {', '.join(sorted(missing))}, which this machine cannot build: {reasons}")
if chosen:
    limit_jobs()
    setup(
        packages=packages(),
        ext_modules=[extension(name) for name in chosen],
        cmdclass={"build_ext": build_command(), "build_py": BuildPackages},
    )
else:
    setup(packages=packages(), cmdclass={"build_py": BuildPackages})
