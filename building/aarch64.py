"""A Python for aarch64 on a machine of another kind: qemu runs it, so that a wheel compiled here is tried here.

Debian's packages have the interpreter and its libraries, PyPI's wheels torch and what the tests need. All of it lies in
one folder, and nothing else of this machine is changed. torch's wheel for aarch64 is one for CUDA: CUDA's runtime comes
along, and stand-ins for CUDA's other libraries, which are gigabytes and which no call reaches without a GPU.
"""

import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

QEMU = "qemu-aarch64"
PROCESSOR = "neoverse-n1"
CROSS = "aarch64-linux-gnu-"
TOOLS = (QEMU, "apt-get", "dpkg-deb", f"{CROSS}gcc", f"{CROSS}nm", f"{CROSS}readelf")
KEYS = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
SUITE = "bookworm"  # Debian 12, with Python 3.11
PYTHON = "3.11"
GLIBC = 36  # 2.36
SYSTEM = (f"python{PYTHON}", "libstdc++6", "libgomp1")
APT = """APT::Architecture "arm64";
APT::Architectures {{ "arm64"; }};
APT::Sandbox::User "root";
Dir::State "{folder}/state";
Dir::State::status "{folder}/state/status";
Dir::Cache "{folder}/cache";
Dir::Etc::sourcelist "{folder}/sources.list";
Dir::Etc::sourceparts "-";
"""
# What torch and the smoke suite import. pip would take what they depend on for this machine's kind.
PACKAGES = (
    "numpy", "filelock", "typing-extensions", "sympy", "mpmath", "networkx", "jinja2", "markupsafe", "fsspec",
    "setuptools<82", "pytest", "iniconfig", "pluggy", "packaging", "pygments", "pytest-timeout", "hypothesis",
    "sortedcontainers", "attrs",
)  # fmt: skip
# torch asks the system for its processors: qemu shows this machine's, which a library of torch's cannot read.
CPUINFO = """processor\t: {number}
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x3
CPU part\t: 0xd0c
CPU revision\t: 1

"""


def why_not() -> str:
    """Tell what is missing for a trial here; nothing if all is there."""
    if os.uname().machine == "aarch64":
        return "it is for another machine, and qemu is asked for aarch64 alone"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if not KEYS.exists():
        missing.append(str(KEYS))
    return f"there is no {', '.join(missing)}" if missing else ""


def output(*command: str | Path) -> str:
    """Return what a command prints."""
    return subprocess.run([*map(str, command)], capture_output=True, text=True, check=True).stdout


def run(*command: str | Path, **environment: str) -> None:
    """Run and show a command."""
    print("+", *command, flush=True)
    subprocess.run([*map(str, command)], env=os.environ | environment, check=True)


def system(folder: Path) -> Path:
    """Unpack Debian's Python, with all that it depends on; return the root of that system."""
    root = folder / "root"
    for name in ("state/lists/partial", "cache/archives/partial", "root/proc"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "state/status").touch()
    (folder / "sources.list").write_text(f"deb [signed-by={KEYS}] http://deb.debian.org/debian {SUITE} main\n")
    (folder / "apt.conf").write_text(APT.format(folder=folder))
    apt = {"APT_CONFIG": str(folder / "apt.conf"), "DEBIAN_FRONTEND": "noninteractive"}
    run("apt-get", "update", "-q", **apt)
    run("apt-get", "install", "-q", "-y", "--download-only", "--no-install-recommends", *SYSTEM, **apt)
    for package in sorted((folder / "cache/archives").glob("*.deb")):
        output("dpkg-deb", "-x", package, root)
    cpuinfo = "".join(CPUINFO.format(number=number) for number in range(os.cpu_count() or 1))
    (root / "proc/cpuinfo").write_text(cpuinfo)
    return root


def install(site: Path, *wanted: str | Path) -> None:
    """Install wheels for that Python into a folder, without what they depend on."""
    platforms = [f"--platform=manylinux_2_{minor}_aarch64" for minor in range(GLIBC, 16, -1)]
    run(
        sys.executable, "-m", "pip", "install", "--upgrade", "--no-compile", "--target", site, *platforms,
        "--platform=manylinux2014_aarch64", f"--python-version={PYTHON}", "--implementation=cp", "--only-binary=:all:",
        "--no-deps", *wanted,
    )  # fmt: skip


def names(library: Path, which: str) -> list[tuple[str, str]]:
    """Return the dynamic symbols of a library, each with its version, or with an empty one."""
    lines = output(f"{CROSS}nm", "-D", which, library).splitlines()
    symbols = [line.split()[-1].partition("@") for line in lines if line.split()[-2] not in "wv"]
    return [(symbol, version.lstrip("@")) for symbol, _, version in symbols]


def stand_ins(site: Path, root: Path) -> None:
    """Write the libraries that torch's are linked with and that are not there. Each function of them tells an error."""
    torch = sorted((site / "torch/lib").glob("*.so*"))
    beside = [path for folder in (root / "lib", root / "usr/lib", site / "nvidia") for path in folder.rglob("*.so*")]
    needed: set[str] = set()
    version: dict[str, str] = {}  # of a library's symbols
    symbols: dict[str, set[str]] = defaultdict(set)  # by version
    for library in torch:
        needed |= set(re.findall(r"\(NEEDED\).*\[(.*)\]", output(f"{CROSS}readelf", "-dW", library)))
        of = ""
        for line in output(f"{CROSS}readelf", "-VW", library).splitlines():
            if file := re.search(r"File: (\S+)", line):
                of = file[1]
            elif of and (name := re.search(r"Name: (\S+)  Flags", line)):
                version[of] = name[1]
        for symbol, its in names(library, "--undefined-only"):
            symbols[its].add(symbol)
    defining = (*torch, root / f"usr/bin/python{PYTHON}")
    known = {symbol for path in defining for symbol, _ in names(path, "--defined-only")}
    folder = site / "nvidia/cu13/lib"  # where torch looks
    source, script = folder / "stand_in.c", folder / "stand_in.map"
    folder.mkdir(parents=True, exist_ok=True)
    for missing in sorted(needed - {path.name for path in (*torch, *beside)}):
        its = version.get(missing, "")
        # Those without a version are in each library that has none.
        functions = sorted(symbols[its] - (set() if its else known))
        source.write_text("".join(f"int {one}(void) {{ return 999; }}\n" for one in functions))
        script.write_text(f"{its} {{ global: *; }};\n")
        run(
            f"{CROSS}gcc", "-shared", "-fPIC", "-w", "-ffreestanding", "-nostdlib", f"-Wl,-soname,{missing}",
            f"-Wl,--version-script={script}", "-o", folder / missing, source,
        )  # fmt: skip


def interpreter(folder: Path, wheel: Path, torch: str) -> Path:
    """Make an environment with the wheel and a version of torch; return the command that is its Python."""
    root, site = system(folder), folder / "site"
    shutil.rmtree(site, ignore_errors=True)
    install(site, wheel, torch, *PACKAGES)
    cuda = re.search(r"^cuda.*'([\d.]+)'", (site / "torch/version.py").read_text(), re.MULTILINE)
    if cuda:
        install(site, f"nvidia-cuda-runtime=={cuda[1]}.*")
        stand_ins(site, root)
    command = folder / "python"
    command.write_text(
        f'#!/bin/sh\nPYTHONPATH="{site}:$PYTHONPATH" exec {shutil.which(QEMU)} -cpu {PROCESSOR} -L {root} '
        f'{root}/usr/bin/python{PYTHON} "$@"\n'
    )
    command.chmod(0o755)
    return command
