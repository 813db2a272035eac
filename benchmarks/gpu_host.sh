#!/usr/bin/env bash
# On a host with a GPU and torch, offline: build in place, prove every GPU backend, time the kernels, and look for bad memory
# accesses and races. What it finds is left in $OUT.
#
#   benchmarks/gpu_host.sh                  on the GPU
#   benchmarks/gpu_host.sh --device cpu     the same steps rehearsed on the CPU: fewer tests, no sanitizer
#
#   PYTHON      the interpreter that has torch (default: python3)
#   OUT         where logs and records go (default: benchmarks/results)
#   JOBS        processes of the tests (default: two less than there are cores, 14 at most)
#   HNN_COMMIT  the commit that the record names, where there is no .git
#
# Step         estimate with 16 cores                                                                  ends after
# build        80 s: one architecture takes 60 s of one core, the CPU kernels 60 s beside it              180 s
# info         20 s: attributes of all kernels included                                                    60 s
# tests        240 s: 6900 tests of 0.1 s, and 1500 compilations by Triton of 1.5 s, in 14 processes      300 s
# benchmarks   120 s                                                                                      180 s
# memcheck     45 s: 94 tests, Triton's kernels compiled before                                            90 s
# racecheck    45 s                                                                                        90 s
# The estimates add up to 550 s; not yet measured on a GPU. The script prints how long each step took.
# The rehearsal took 115 s on two shared cores, with the CUDA source built for the host before.
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

# step NAME SECONDS COMMAND...: the command, its output in $OUT/gpu_host_NAME.log and the end of it here. What waits for
# a kernel that never ends does not hear the first signal.
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

# The one line that says what is timed.
benchmarks() {
  if [ $device = cuda ]; then
    step benchmarks 180 $PYTHON -m benchmarks --quick --device cuda --no-progress --out "$OUT/bench_gpu.csv"
  else
    step benchmarks 180 $PYTHON -m benchmarks --quick --op lif --device cpu --no-progress --out "$OUT/rehearsal.csv"
  fi
}

# -- build: only the architecture that is here ------------------------------------------------------------------------
backends=triton
if [ $device = cpu ]; then
  HNN_BUILD=cpu HNN_REQUIRE=cpu,shim HNN_BUILD_SHIM=1 step build 1800 $PYTHON setup.py -q build_ext --inplace || exit 1
  backends=$backends,cuda
elif command -v nvcc >/dev/null || [ -x "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc" ]; then
  TORCH_CUDA_ARCH_LIST=$($PYTHON -c 'import torch; print("%d.%d" % torch.cuda.get_device_capability())') || exit 1
  export TORCH_CUDA_ARCH_LIST
  step build 180 $PYTHON setup.py -q build_ext --inplace
  # Without the CUDA kernels there is still Triton to prove and to time.
  if $PYTHON -c 'import sys, hnn_kernels._extensions as e; sys.exit(e.cuda_error or 0)'; then
    backends=$backends,cuda
  else
    failed+=("CUDA kernels")
  fi
else
  echo "== there is no nvcc here: the CUDA kernels are not built, and only Triton's are proved and timed"
  HNN_BUILD=cpu step build 180 $PYTHON setup.py -q build_ext --inplace
fi
LINES_SHOWN=40 step info 60 $PYTHON -m hnn_kernels
if [ $device = cuda ] && [[ $backends = *cuda* ]]; then
  LINES_SHOWN=2 step attributes 60 $PYTHON -c 'import hnn_kernels._cuda as m
for name, a in m.kernel_attributes().items(): print(name, a)'
fi

# -- tests: on the GPU all of Triton and CUDA; the rehearsal takes a few of each -----------------------------------------
pytest=($PYTHON -m pytest -q -p no:cacheprovider --tb=short --maxfail=100 tests
  --ignore=tests/models --ignore=tests/builds)
if ! has pytest; then
  echo "== there is no pytest here: nothing can be proved"
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

# -- compute-sanitizer over the gradients of every form: bad accesses, and shared memory that two threads touch ------------
sanitizer=$(command -v compute-sanitizer || ls "${CUDA_HOME:-/usr/local/cuda}"/bin/compute-sanitizer 2>/dev/null)
few="(triton-cuda or cuda-cuda) and every_gradient and float32 or cuda-cuda and gradients_of_every_kind"
if [ $device = cpu ]; then
  echo "== memcheck, racecheck: skipped, compute-sanitizer needs a GPU"
elif [ -z "$sanitizer" ]; then
  echo "== memcheck, racecheck: skipped, there is no compute-sanitizer here"
elif has pytest; then
  # Every tensor its own allocation, so that nothing beyond its end is another's.
  export PYTORCH_NO_CUDA_MEMORY_CACHING=1
  # Calls of the runtime that fail are torch's to judge: it asks for functions that a driver may not have.
  for kind in memcheck racecheck; do
    step $kind 90 "$sanitizer" --tool $kind --report-api-errors no --error-exitcode 9 "${pytest[@]}" -k "$few"
  done
  unset PYTORCH_NO_CUDA_MEMORY_CACHING
fi
echo "== $SECONDS s; ${#failed[@]} steps failed: ${failed[*]:-none}"
exit ${#failed[@]}
