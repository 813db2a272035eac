"""The build: what it decides, what it does when a part fails, and the wheels that it makes."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

from support.paths import ROOT
from support.targets import EVERY_CASE

CPU_MODULE = re.compile(r"hnn_kernels/_cpu\..*\.so$")
SMOKE = """
import torch, hnn_kernels, sys
current = torch.randn(25, 4, 70, requires_grad=True)
out, _ = hnn_kernels.lif(current, 0.5, 0.7)
out.sum().backward()
expected, _ = hnn_kernels.lif(current, 0.5, 0.7, backend="reference")
assert torch.equal(out, expected) and current.grad.isfinite().all()
@hnn_kernels.neuron(states=("v",))
def leaky(x, v, *, decay):
    return hnn_kernels.fire(v - 1), decay * v + x

out, _ = leaky(current, decay=0.5)
out.sum().backward()
assert torch.equal(out, leaky(current, decay=0.5, backend="reference")[0])
print(hnn_kernels.__file__, hnn_kernels.explain(current).chosen)
"""
OURS = [path for path in sys.path if path.endswith("site-packages")]
LIST = ("--quick", "--list", "--device", "cpu")
BENCH = f"""
import sys; sys.path.extend({OURS!r})
import hnn_benchmarks, hnn_models.cli
print(hnn_benchmarks.__file__)
sys.argv = ["hnn", "bench", *{LIST}]
hnn_models.cli.main()
"""


def run(*command: str | Path, cwd: Path, **environment: str | None) -> subprocess.CompletedProcess:
    """Run with some environment variables set, or unset where None."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("HNN_")} | environment
    env = {k: v for k, v in env.items() if v is not None}
    return subprocess.run([*map(str, command)], cwd=cwd, env=env, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """The unpacked sdist. The tests below build from it, as a user would."""
    folder = tmp_path_factory.mktemp("sdist")
    copy = folder / "tree"
    produced = shutil.ignore_patterns("*.so", "__pycache__")
    beside = shutil.ignore_patterns(".git", ".venv*", "build", "dist", "data", "runs", "*.egg-info")

    def ignore(path: str, names: list[str]) -> set[str]:
        return produced(path, names) | (beside(path, names) if Path(path) == ROOT else set())

    shutil.copytree(ROOT, copy, ignore=ignore)
    made = run(sys.executable, "setup.py", "-q", "sdist", "-d", folder, cwd=copy, HNN_BUILD="python")
    assert made.returncode == 0, made.stderr
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return folder / archive.name.removesuffix(".tar.gz")


def wheel(source: Path, folder: Path, **environment: str | None) -> tuple[subprocess.CompletedProcess, Path | None]:
    """Build a wheel as pip does, without isolation."""
    built = run(
        sys.executable, "-m", "pip", "wheel", "-v", "--no-build-isolation", "--no-deps", "-w", folder, source,
        cwd=folder, **environment,
    )  # fmt: skip
    return built, next(folder.glob("*.whl"), None)


def install_and_run(wheel: Path, folder: Path) -> str:
    """Install into a clean environment that sees this one's torch, and run the smoke test from elsewhere."""
    venv.create(folder / "env", with_pip=False)
    python = folder / "env" / "bin" / "python"
    made = run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", wheel, cwd=folder)
    assert made.returncode == 0, made.stderr
    code = f"import sys; sys.path.extend({OURS!r})\n{SMOKE}"
    done = run(python, "-c", code, cwd=folder, PYTHONPATH=None, HNN_CACHE_DIR=str(folder / "cache"))
    assert done.returncode == 0, done.stderr
    assert str(folder / "env") in done.stdout, "the smoke test imported another installation"
    return done.stdout


def test_sdist_holds_what_the_build_needs(source):
    for pattern in (
        "hnn_*/py.typed",
        "csrc/*.h",
        "csrc/cpu/*.cpp",
        "csrc/cpu/*.h",
        "csrc/cuda/*.cu",
        "csrc/shim/*",
        "LICENSE",
    ):
        names = {str(p.relative_to(ROOT)) for p in ROOT.glob(pattern)}
        assert names, pattern
        assert names <= {str(p.relative_to(source)) for p in source.glob(pattern)}


def test_without_a_compiler_it_is_pure_python_and_says_so(source, tmp_path):
    tools = tmp_path / "bin"
    tools.mkdir()
    built, made = wheel(source, tmp_path, PATH=str(tools), CXX=None)
    assert built.returncode == 0, built.stderr
    assert "pure Python: there is no C++ compiler" in built.stdout + built.stderr
    assert not [n for n in zipfile.ZipFile(made).namelist() if n.endswith(".so")]
    assert "reference" in install_and_run(made, tmp_path)


def test_the_wheel_has_every_package_and_no_records(source, tmp_path):
    built, made = wheel(source, tmp_path, HNN_BUILD="python")
    assert built.returncode == 0, built.stderr
    names = set(zipfile.ZipFile(made).namelist())
    for folder, package in (
        ("hnn_kernels", "hnn_kernels"),
        ("hnn_models", "hnn_models"),
        ("benchmarks", "hnn_benchmarks"),
    ):
        files = {str(path.relative_to(ROOT / folder)) for path in (ROOT / folder).rglob("*.py")}
        assert {f"{package}/{name}" for name in files} <= names
    assert {"hnn_kernels/py.typed", "hnn_models/py.typed"} <= names
    headers = tomllib.loads((ROOT / "csrc/flags.toml").read_text())["defined"]["headers"]
    assert {f"hnn_kernels/csrc/{name}" for name in ("flags.toml", *headers)} <= names
    assert not [name for name in names if name.endswith(".csv") or name.startswith("tests")]
    install_and_run(made, tmp_path)
    done = run(tmp_path / "env" / "bin" / "python", "-c", BENCH, cwd=tmp_path, PYTHONPATH=None)
    assert done.returncode == 0, done.stderr
    assert str(tmp_path / "env") in done.stdout
    assert "providers: cpu" in done.stdout


def test_an_editable_install_has_the_benchmarks_too(source, tmp_path):
    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env" / "bin" / "python"
    (packages,) = (tmp_path / "env" / "lib").glob("python*/site-packages")
    (packages / "ours.pth").write_text("\n".join(OURS))  # setuptools and torch
    made = run(
        sys.executable, "-m", "pip", "--python", python, "install", "--no-build-isolation", "--no-deps", "-e", source,
        cwd=tmp_path, HNN_BUILD="python",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    for command, cwd in ((("-c", BENCH), tmp_path), (("-m", "benchmarks", *LIST), source)):
        done = run(python, *command, cwd=cwd, PYTHONPATH=None)
        assert done.returncode == 0, done.stderr
        assert "providers: cpu" in done.stdout


def test_what_is_required_and_cannot_be_built_is_fatal(source, tmp_path):
    tools = tmp_path / "bin"
    tools.mkdir()
    built, made = wheel(source, tmp_path, PATH=str(tools), CXX=None, HNN_REQUIRE="cpu")
    assert built.returncode != 0
    assert "HNN_REQUIRE asks for cpu" in built.stdout + built.stderr
    assert made is None


@pytest.fixture
def broken_cuda(tmp_path) -> Path:
    """A toolkit of torch's CUDA version whose compiler fails."""
    import torch

    if torch.version.cuda is None:
        pytest.skip("this torch is built without CUDA, so CUDA kernels are never tried")
    nvcc = tmp_path / "toolkit" / "bin" / "nvcc"
    nvcc.parent.mkdir(parents=True)
    release = torch.version.cuda
    version = f"echo 'Cuda compilation tools, release {release}, V{release}.0'"
    nvcc.write_text(f'#!/bin/sh\ncase "$1" in --version) {version};; *) echo broken on purpose >&2; exit 1;; esac\n')
    nvcc.chmod(0o755)
    return nvcc.parents[1]


@pytest.mark.skipif(
    not EVERY_CASE,
    reason="it compiles every CPU kernel once more, for minutes; HNN_EVERY_CASE=1 runs it",
)
@pytest.mark.timeout(600)
def test_a_failing_cuda_build_leaves_the_cpu_kernels(source, tmp_path, broken_cuda):
    built, made = wheel(source, tmp_path, HNN_BUILD="cuda", CUDA_HOME=str(broken_cuda), TORCH_CUDA_ARCH_LIST="9.0")
    log = built.stdout + built.stderr
    assert built.returncode == 0, log[-3000:]
    assert "CUDA kernels: yes" in log
    assert "FAILED to build hnn_kernels._cuda" in log
    names = zipfile.ZipFile(made).namelist()
    assert [n for n in names if CPU_MODULE.match(n)], names
    assert not [n for n in names if n.startswith("hnn_kernels/_cuda")]
    # The wheel of this build is also the one that must install and run elsewhere.
    assert install_and_run(made, tmp_path).split()[-1] == "cpu"


def test_a_failing_cuda_build_is_fatal_where_it_is_required(source, tmp_path, broken_cuda):
    built, made = wheel(source, tmp_path, CUDA_HOME=str(broken_cuda), TORCH_CUDA_ARCH_LIST="9.0", HNN_REQUIRE="cuda")
    assert built.returncode != 0
    assert "broken on purpose" in built.stdout + built.stderr
    assert made is None


@pytest.mark.parametrize("name", ["_cpu", "_cuda*", "_shim"])
def test_compiled_modules_use_only_the_stable_abi(name):
    import hnn_kernels

    modules = list(Path(hnn_kernels.__file__).parent.glob(f"{name}.*.so"))
    nm = shutil.which("nm")
    if not modules or not nm:
        pytest.skip(f"{name} is not built here" if nm else "there is no nm")
    for module in modules:
        symbols = subprocess.run(
            [nm, "-D", "-C", "--undefined-only", module], capture_output=True, text=True, check=True
        )
        unstable = [s for s in symbols.stdout.splitlines() if re.search(r"\b(at|c10|torch)::", s)]
        assert not unstable, f"{module.name} would break with another torch: {unstable}"
        assert "aoti_torch_" in symbols.stdout


def test_the_command_tells_versions_builds_and_backends():
    told = run(sys.executable, "-m", "hnn_kernels", cwd=ROOT)
    assert told.returncode == 0, told.stderr
    import torch

    import hnn_kernels

    assert f"hnn_kernels {hnn_kernels.__version__}" in told.stdout
    assert torch.__version__ in told.stdout
    for name in hnn_kernels.backends():
        assert re.search(rf"^backend +{name}: (usable on|not usable: \S)", told.stdout, re.MULTILINE)
    shim = hnn_kernels._extensions.shim
    assert (shim is not None) == bool(re.search(r"^built +shim .*: compiler \S", told.stdout, re.MULTILINE))
