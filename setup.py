"""Build: decides by itself what this machine can compile, prints what it decided, and builds that.

    no torch or no C++ compiler           pure Python: the reference; on a GPU Triton, which needs a C compiler itself
    a C++ compiler                        + the C++ CPU kernels (hnn_kernels._cpu)
    a CUDA toolkit and a CUDA torch       + the CUDA kernels (hnn_kernels._cuda13, by CUDA's major version), where a
                                          GPU is or they are asked for

The environment variables that it reads are in docs/switches.md.
"""

import importlib.util
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import sysconfig
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
Watch = runpy.run_path(str(ROOT / "building/watch.py"))["Watch"]

# The instruction sets that the CPU kernels are built without.
without: list[str] = []

KERNELS = ("cpu", "cuda")  # the modules that a user's calls take
LIMITS = ("python", "cpu", "cuda", "only-cuda", "native")
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


def architectures(toolkit: Path, native: bool) -> str:
    """TORCH_CUDA_ARCH_LIST where it is not given: those of ARCHITECTURES that this nvcc compiles for.

    ``native``: those of the GPUs that are here.
    """
    if native:
        import torch

        found = {torch.cuda.get_device_capability(gpu) for gpu in range(torch.cuda.device_count())}
        return ";".join(f"{major}.{minor}" for major, minor in sorted(found))
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


def left_out(compiler: str) -> list[str]:
    """The instruction sets that this machine's processor lacks, or has a better one than."""
    told = subprocess.run(
        [*compiler.split(), "-march=native", "-dM", "-E", "-x", "c++", os.devnull],
        capture_output=True, text=True, check=False,
    ).stdout  # fmt: skip
    has = set(re.findall(r"#define __(\w+)__ 1", told))
    runs = [name for name, needs in FLAGS["instruction_sets"].items() if has.issuperset(needs)]
    return [name for name in FLAGS["instruction_sets"] if name not in runs[:1]]


def for_all() -> bool:
    """Tell if the build is for a wheel that others install: nothing in it is of this machine or of one Python."""
    return checked("HNN_WHEEL", os.environ.get("HNN_WHEEL", ""), ("0", "1")) == ["1"]


def why_no_cuda(limit: str) -> str:
    """Why CUDA kernels are not wanted; nothing where they are asked for, or where there is a GPU."""
    import torch

    if limit == "cpu":
        return "HNN_BUILD=cpu"
    if limit in ("cuda", "only-cuda") or for_all() or "cuda" in required() or torch.cuda.is_available():
        return ""
    return "there is no GPU here" + ("" if limit == "native" else "; HNN_BUILD=cuda builds them all the same")


def plan() -> tuple[list[str], list[str]]:
    """The modules to build, and a line for every decision."""
    limits = checked("HNN_BUILD", os.environ.get("HNN_BUILD", ""), LIMITS) or [""]
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
        if limit == "native":
            without.extend(left_out(compiler))
            why.append(f"of the CPU's instruction sets it leaves out {' and '.join(without)}, HNN_BUILD=native")
    toolkit = find_cuda()
    if unwanted := why_no_cuda(limit):
        why.append(f"CUDA kernels: no, {unwanted}")
    elif torch.version.cuda is None:
        why.append("CUDA kernels: no, this torch is built without CUDA")
    elif toolkit is None:
        why.append("CUDA kernels: no, there is no CUDA toolkit (set CUDA_HOME to name one)")
    elif nvcc_major(toolkit) != torch.version.cuda.split(".")[0]:
        why.append(
            f"CUDA kernels: no, the toolkit in {toolkit} is CUDA {nvcc_major(toolkit)}, torch's is {torch.version.cuda}"
        )
    elif not (wanted := os.environ.get("TORCH_CUDA_ARCH_LIST") or architectures(toolkit, limit == "native")):
        why.append(f"CUDA kernels: no, the nvcc in {toolkit} compiles for none of {', '.join(ARCHITECTURES)}")
    else:
        os.environ["CUDA_HOME"] = str(toolkit)
        os.environ["TORCH_CUDA_ARCH_LIST"] = wanted
        build.insert(0, "cuda")  # first, because it is the one that may fail
        why.append(f"CUDA kernels: yes, with {toolkit} for {compiled_for()}")
    if build and limit != "native" and not for_all():
        if importlib.util.find_spec("pybind11"):
            build.append("inspect")
        else:
            why.append("inspection module: no, there is no pybind11")
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


def module_name(name: str) -> str:
    """The name of a module. That with the CUDA kernels has the major version of CUDA (hnn_kernels/_extensions.py)."""
    if name != "cuda":
        return f"_{name}"
    import torch

    return f"_cuda{torch.version.cuda.split('.')[0]}"


def limited(name: str) -> bool:
    """Tell if a module keeps to Python's limited API, and so runs on every Python from 3.11 on."""
    return name != "inspect" and not sysconfig.get_config_var("Py_GIL_DISABLED")


def pybind11(name: str) -> list[str]:
    """The folder of pybind11's headers, for the module that has them."""
    if name != "inspect":
        return []
    import pybind11

    return [pybind11.get_include()]


def extension(name: str):
    """The setuptools extension for one compiled module."""
    from torch.utils import cpp_extension

    sanitize = ",".join(checked("HNN_SANITIZE", os.environ.get("HNN_SANITIZE", ""), SANITIZERS))
    cxx = [*CXX_FLAGS, *([f"-fsanitize={sanitize}", "-g", "-fno-omit-frame-pointer"] if sanitize else [])]
    left = without if name == "cpu" else []
    cxx += [f"-DHNN_WITHOUT_{one.upper()}" for one in left]
    without_these = tuple(f"kernels_{one}" for one in left)
    if name == "shim" or sanitize:
        # Unrolled for a GPU, or checked at every access, these kernels take the optimiser minutes.
        cxx[cxx.index("-O3")] = "-O1"
    make = cpp_extension.CUDAExtension if name == "cuda" else cpp_extension.CppExtension
    result = make(
        f"hnn_kernels.{module_name(name)}",
        [f"csrc/{name}/{source}" for source in SOURCES[name] if not source.startswith(without_these)],
        include_dirs=[*pybind11(name), write_digest(name)],
        define_macros=[("HNN_CUDA_ARCHITECTURES", f'"{compiled_for()}"')] if name == "cuda" else [],
        py_limited_api=limited(name),
        extra_compile_args={"cxx": cxx, "nvcc": nvcc_flags()} if name == "cuda" else {"cxx": cxx},
        extra_link_args=[f"-fsanitize={sanitize}"] if sanitize else [],
        depends=[str(p) for p in sorted((ROOT / "csrc").rglob("*.*"))],
    )
    # The stable ABI needs none of torch's Python binding, whose symbols change with every release.
    left_to_others = {"torch_python"}
    if for_all() and "cudart" in result.libraries:
        # A wheel brings its CUDA runtime along. Elsewhere it is torch's, which the tests' emulator takes the place of.
        left_to_others.add("cudart")
        result.libraries += ["cudart_static", "rt", "dl", "pthread"]
    if for_all() and name != "shim":
        result.sources.append("building/older_system.cpp")
    result.libraries = [library for library in result.libraries if library not in left_to_others]
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
        record(folder / "hnn_kernels", [name for name in expected if name in KERNELS], "; ".join(reasons))


def forget_others(one, folder: Path) -> None:
    """Remove files of a module that would be imported in its place: those for one Python, of an older build."""
    module = one.name.rpartition(".")[2]
    if one.py_limited_api:
        for path in folder.glob(f"{module.rstrip('0123456789')}.cpython-*.so"):
            path.unlink()


def build_command():
    """``build_ext`` that tells what it compiles, and survives the failure of a module unless HNN_REQUIRE names it."""
    from torch.utils.cpp_extension import BuildExtension

    class Build(BuildExtension):
        def build_extensions(self) -> None:
            built = []
            for one in list(self.extensions):
                self.extensions = [one]
                name = one.name.rpartition("_")[2].rstrip("0123456789")
                say(f"building {one.name}, {len(one.sources)} files, {os.environ['MAX_JOBS']} at a time")
                sources = [Path(source).name for source in one.sources]
                try:
                    with Watch(Path(self.build_temp), sources, say):
                        super().build_extensions()
                    # A wheel takes along whatever lies here.
                    forget_others(one, Path(self.get_ext_fullpath(one.name)).parent)
                    built.append(one)
                except (Exception, SystemExit) as error:
                    if name in required():
                        raise
                    say(f"FAILED to build {one.name}, going on without it: {error}")
            self.extensions = built
            say(f"built: {', '.join(e.name for e in built) or 'nothing'}")

        def build_extension(self, ext) -> None:
            # setuptools sorts the sources by name. Here they keep their order, in which ninja begins them.
            in_any_order = self.compiler.compile

            def in_order(sources, *arguments, **options):
                return in_any_order(sorted(sources, key=ext.sources.index), *arguments, **options)

            self.compiler.compile = in_order
            try:
                super().build_extension(ext)
            finally:
                self.compiler.compile = in_any_order

        def copy_extensions_to_source(self) -> None:
            super().copy_extensions_to_source()
            for one in self.extensions:
                forget_others(one, ROOT / "hnn_kernels")
            record(ROOT / "hnn_kernels", [name for name in chosen if name in KERNELS], "; ".join(reasons))

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
        options={"bdist_wheel": {"py_limited_api": "cp311"}} if all(map(limited, chosen)) else {},
    )
else:
    setup(packages=packages(), cmdclass={"build_py": BuildPackages})
