#!/usr/bin/env bash
# Build in place, test every GPU backend, time the kernels, and look for bad memory accesses and races. The script runs on a
# host with a GPU and torch, and needs no network. It leaves its logs and records in $OUT.
#
#   benchmarks/gpu_host.sh                  on the GPU
#   benchmarks/gpu_host.sh --device cpu     a rehearsal of the same steps on the CPU: fewer tests, no sanitizer
#
#   PYTHON      the interpreter that has torch (default: python3)
#   OUT         the folder for logs and records (default: benchmarks/results)
#   JOBS        the number of test processes (default: two less than there are cores, 14 at most)
#   HNN_COMMIT  the commit that the record names if there is no .git
#
# Step         estimate with 16 cores                                                                  ends after
# build        80 s: one architecture takes 60 s of one core, the CPU kernels 60 s beside it              180 s
# info         20 s: attributes of all kernels included                                                    60 s
# tests        240 s: 6900 tests of 0.1 s, and 1500 compilations by Triton of 1.5 s, in 14 processes      300 s
# benchmarks   120 s                                                                                      180 s
# memcheck     45 s: 94 tests; Triton's kernels are compiled by then                                       90 s
# racecheck    45 s                                                                                        90 s
# The estimates add up to 550 s. They are not yet measured on a GPU. The script prints the time of each step.
# The rehearsal took 115 s on two shared cores, after the CUDA source had been built for the host.
set -uo pipefail
cd "$(dirname "$0")/.."
device=cuda
[ "${1:-}" = --device ] && { device=${2:-}; shift 2; }
if [ $# -gt 0 ] || [[ ! $device =~ ^(cpu|cuda)$ ]]; then
  echo "usage: benchmarks/gpu_host.sh [--device cuda|cpu]" >&2
  exit 2
fi
PYTHON=${PYTHON:-python3}
OUT=${OUT:-benchmarks/results}
cores=$(nproc)
JOBS=${JOBS:-$((cores < 4 ? 1 : cores > 16 ? 14 : cores - 2))}
mkdir -p "$OUT"
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
failed=()

# step NAME SECONDS COMMAND...: run the command, write its output to $OUT/gpu_host_NAME.log, and show the end of it. A process
# that waits for a kernel that never ends ignores the first signal, hence the second one (-k).
step() {
  local name=$1 limit=$2 start=$SECONDS code
  shift 2
  echo "== $name"
  timeout -k 10 "$limit" "$@" >"$OUT/gpu_host_$name.log" 2>&1
  code=$?
  tail -n "${LINES_SHOWN:-8}" "$OUT/gpu_host_$name.log"
  [ $code -eq 124 ] || [ $code -eq 137 ] && echo "== $name: ended after $limit s"
  echo "== $name: exit $code, $((SECONDS - start)) s"
  [ $code -eq 0 ] || failed+=("$name")
  return $code
}
has() { $PYTHON -c "import $1" 2>/dev/null; }

# The only place that chooses what is timed.
benchmarks() {
  if [ $device = cuda ]; then
    step benchmarks 180 $PYTHON -m benchmarks --quick --device cuda --no-progress --out "$OUT/bench_gpu.csv"
  else
    step benchmarks 180 $PYTHON -m benchmarks --quick --op lif --device cpu --no-progress --out "$OUT/rehearsal.csv"
  fi
}

# -- build: only the architecture of this GPU -------------------------------------------------------------------------
backends=triton
if [ $device = cpu ]; then
  HNN_BUILD=cpu HNN_REQUIRE=cpu,shim HNN_BUILD_SHIM=1 step build 1800 $PYTHON setup.py -q build_ext --inplace || exit 1
  backends=$backends,cuda
elif command -v nvcc >/dev/null || [ -x "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc" ]; then
  TORCH_CUDA_ARCH_LIST=$($PYTHON -c 'import torch; print("%d.%d" % torch.cuda.get_device_capability())') || exit 1
  export TORCH_CUDA_ARCH_LIST
  step build 180 $PYTHON setup.py -q build_ext --inplace
  # Without the CUDA kernels, Triton's can still be tested and timed.
  if $PYTHON -c 'import sys, hnn_kernels._extensions as e; sys.exit(e.cuda_error or 0)'; then
    backends=$backends,cuda
  else
    failed+=("CUDA kernels")
  fi
else
  echo "== there is no nvcc here: the CUDA kernels are not built, and only Triton's are tested and timed"
  HNN_BUILD=cpu step build 180 $PYTHON setup.py -q build_ext --inplace
fi
LINES_SHOWN=40 step info 60 $PYTHON -m hnn_kernels
if [ $device = cuda ] && [[ $backends = *cuda* ]]; then
  LINES_SHOWN=2 step attributes 60 $PYTHON -c 'import hnn_kernels._cuda as m
for name, a in m.kernel_attributes().items(): print(name, a)'
fi

# -- tests: on the GPU all of Triton and CUDA; the rehearsal runs a few of each ------------------------------------------
pytest=($PYTHON -m pytest -q -p no:cacheprovider --tb=short --maxfail=100 tests
  --ignore=tests/models --ignore=tests/builds)
if ! has pytest; then
  echo "== there is no pytest here: nothing can be tested"
  failed+=(tests)
else
  parallel=()
  has xdist && parallel=(-n "$JOBS")
  if [ $device = cuda ]; then
    chosen="triton-cuda or cuda-cuda"
  else
    chosen="every_gradient and (triton-cpu or cuda-cpu and float32)"
  fi
  HNN_REQUIRE_BACKENDS=$backends step tests 300 "${pytest[@]}" "${parallel[@]}" -k "$chosen"
fi

benchmarks

# -- compute-sanitizer over the gradients of every form: bad accesses, and races in shared memory --------------------------
sanitizer=$(command -v compute-sanitizer || ls "${CUDA_HOME:-/usr/local/cuda}"/bin/compute-sanitizer 2>/dev/null)
few="(triton-cuda or cuda-cuda) and every_gradient and float32 or cuda-cuda and gradients_of_every_kind"
if [ $device = cpu ]; then
  echo "== memcheck, racecheck: skipped, compute-sanitizer needs a GPU"
elif [ -z "$sanitizer" ]; then
  echo "== memcheck, racecheck: skipped, there is no compute-sanitizer here"
elif has pytest; then
  # Every tensor has its own allocation, so that an access beyond its end never falls into another tensor.
  export PYTORCH_NO_CUDA_MEMORY_CACHING=1
  # Failing calls of the runtime are not reported: torch asks for functions that a driver may not have, and handles it.
  for kind in memcheck racecheck; do
    step $kind 90 "$sanitizer" --tool $kind --report-api-errors no --error-exitcode 9 "${pytest[@]}" -k "$few"
  done
  unset PYTORCH_NO_CUDA_MEMORY_CACHING
fi
echo "== $SECONDS s; ${#failed[@]} steps failed: ${failed[*]:-none}"
exit ${#failed[@]}
