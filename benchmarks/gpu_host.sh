#!/usr/bin/env bash
# Prove and time the kernels on a host with a GPU and torch, without a network. What tells most comes first: a line is
# printed for each fact when it is known, so a run that is ended early has told something.
#
#   benchmarks/gpu_host.sh                    on the GPU
#   benchmarks/gpu_host.sh                    once more: what the first call did not reach, then what was cut off
#   benchmarks/gpu_host.sh --continue FOLDER  the same, where the first call's files are in another folder
#   benchmarks/gpu_host.sh --device cpu       a rehearsal of the steps on the CPU
#
# The whole takes 8 minutes at most. Each step is a process with a limit of its own; one that hangs is ended. In --out
# are gpu_host.csv (the facts), bench_gpu.csv (the times), gpu_host.log (all that the programs said) and gpu_host.json
# (what is done; the next call reads it).
#
# The module of CUDA kernels can come along. Then nothing is compiled before the first fact. It fits if it was built
# with torch 2.11 or newer of the same major version of CUDA, with an older C library, from these very sources. In a
# clone with a CUDA toolkit, for a GPU of compute capability 9.0:
#
#   TORCH_CUDA_ARCH_LIST=9.0 HNN_BUILD=only-cuda python3 setup.py build_ext --inplace
#
# and then copy hnn_kernels/_cuda13.abi3.so to the same place there. git ignores this file, so a copy of the
# repository lacks it unless it is named. Where none fits, Triton's kernels come first, and then one is compiled for this
# GPU alone. The last step compiles everything from source, and leaves the module in --out. Nothing loads it from there: copy
# it to hnn_kernels/, and the next call compiles nothing.
#
#   PYTHON      the interpreter that has torch (default: python3)
#   OUT         the folder of the record, as --out (default: benchmarks/results)
#   JOBS        the number of test processes (default: 4, or 1 with fewer cores)
#   HNN_COMMIT  the commit that the record names if there is no .git
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
exec "$PYTHON" -m benchmarks.gpu.host --out "${OUT:-benchmarks/results}" "$@"
