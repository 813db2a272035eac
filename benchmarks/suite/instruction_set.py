"""The instruction set of a run on a CPU, for all that computes in it: our kernels, torch, its compiler, its libraries.

Each of these settles its choice when it is loaded. So a run with another set than the processor's best begins again,
with the variables that all of them read.
"""

import os
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
    if _extensions.cpu is None:
        raise ValueError(f"--isa needs the CPU kernels; got {name!r}, and {_extensions.cpu_error}")
    if reason := _extensions.cpu.why_not(name):
        raise ValueError(f"--isa {reason}")
    if _held(name, environment):
        return
    others = {key: value for key, value in environment.items() if key not in _NAMES}
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], others | SETS[name])


def _held(name: str, environment: Mapping[str, str]) -> bool:
    return {key: environment[key] for key in _NAMES if key in environment} == SETS.get(name)
