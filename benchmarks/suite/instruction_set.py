"""The instruction set of a run on a CPU, for all that computes in it: our kernels, torch, its compiler, its libraries.

Each of these settles its choice when it is loaded. So a run with another set than the processor's best begins again,
with the variables that all of them read.
"""

import os
import subprocess
import sys
from collections.abc import Mapping

from hnn_kernels import _extensions

# The variables of our kernels, torch (and its compiler's vectors), its compiler's other code, MKL and oneDNN. Without
# them all take the best set that the processor has.
SETS: Mapping[str, Mapping[str, str]] = {
    "avx512": {"HNN_CPU_ISA": "avx512"},
    "avx2": {
        "HNN_CPU_ISA": "avx2", "ATEN_CPU_CAPABILITY": "avx2", "TORCHINDUCTOR_CPP_MARCH": "haswell",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2",
    },
    "default": {
        "HNN_CPU_ISA": "default", "ATEN_CPU_CAPABILITY": "default", "TORCHINDUCTOR_CPP_MARCH": "x86-64",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2", "ONEDNN_MAX_CPU_ISA": "SSE41",
    },
}  # fmt: skip
EVERY = "every"  # in place of a set: all that this processor runs, in turn
_NAMES = tuple(dict.fromkeys(name for variables in SETS.values() for name in variables))


def hold(name: str | None) -> None:
    """Begin the program again with an instruction set, unless this process has it already.

    Args:
        name: the set; None for the best one, which needs no variable.

    Raises:
        ValueError: this processor, or what was built, has no such set; without a name, our kernels alone are held to
            one, and would be measured beside others that are not.
    """
    environment = {key: value for key, value in os.environ.items() if value}
    if name is None:
        given = environment.get("HNN_CPU_ISA")
        if given and not _held(given, environment):
            raise ValueError(f"HNN_CPU_ISA={given} holds our kernels alone; --isa {given} holds torch to it, too")
        return
    if reason := _why_not(name):
        raise ValueError(f"--isa {reason}")
    if _held(name, environment):
        return
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], _environment(name))


def in_turn() -> int:
    """Run the program, whose arguments ask for every set, with each set that this processor has and that was built.

    Returns:
        the exit code of the first run that failed, behind which there is none; 0 if all succeeded.

    Raises:
        ValueError: there are no CPU kernels.
    """
    for name in [name for name in SETS if not _why_not(name)]:
        print(f"instruction set {name}", file=sys.stderr, flush=True)
        arguments = _asking_for(name, sys.orig_argv[1:])
        with subprocess.Popen([sys.executable, *arguments], env=_environment(name)) as process:
            try:
                code = process.wait()
            except SystemExit:  # a signal that this process alone was sent
                process.terminate()
                raise
        if code:
            return code if code > 0 else 128 - code
    return 0


def _asking_for(name: str, arguments: list[str]) -> list[str]:
    """The arguments of the program with the set ``name`` in place of every one."""
    words = [f"--isa={name}" if word == f"--isa={EVERY}" else word for word in arguments]
    return [name if before == "--isa" else word for before, word in zip(["", *words], words, strict=False)]


def _why_not(name: str) -> str:
    """The reason why the CPU kernels cannot run with a set; empty if they can."""
    if _extensions.cpu is None:
        raise ValueError(f"--isa needs the CPU kernels; got {name!r}, and {_extensions.cpu_error}")
    return _extensions.cpu.why_not(name)


def _environment(name: str) -> dict[str, str]:
    """The environment of a program that is held to a set."""
    return {key: value for key, value in os.environ.items() if value and key not in _NAMES} | SETS[name]


def _held(name: str, environment: Mapping[str, str]) -> bool:
    return {key: environment[key] for key in _NAMES if key in environment} == SETS.get(name)
