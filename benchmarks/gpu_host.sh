#!/usr/bin/env bash
# On a host with a GPU, a CUDA toolkit and torch, offline: build in place, test every backend on the GPU and the CPU, time
# the kernels, and leave the records in $OUT (default: benchmarks/results). Meant to end well within 10 minutes.
#   PYTHON   the interpreter that has torch (default: python3)
set -uo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
OUT=${OUT:-benchmarks/results}
mkdir -p "$OUT"
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}

step() { echo "== $1 ($(date +%T))"; shift; "$@"; local code=$?; echo "== exit $code"; return $code; }

# Only the architecture that is here, to build in a minute.
TORCH_CUDA_ARCH_LIST=$($PYTHON -c 'import torch; print("%d.%d" % torch.cuda.get_device_capability())') || exit 1
export TORCH_CUDA_ARCH_LIST
failures=0
HNN_REQUIRE=cpu,cuda step build timeout 240 $PYTHON setup.py -q build_ext --inplace >"$OUT/build.log" 2>&1 || {
  tail -40 "$OUT/build.log"
  exit 1
}
step info $PYTHON -m hnn_kernels | tee "$OUT/info.txt"
step attributes $PYTHON -c 'import hnn_kernels._cuda as m
for name, a in m.kernel_attributes().items(): print(name, a)' >"$OUT/kernel_attributes.txt" || failures=$((failures + 1))
HNN_REQUIRE_BACKENDS=cpu,triton,cuda step tests timeout 300 $PYTHON -m pytest -q -x --maxfail=20 -p no:cacheprovider \
  tests --ignore=tests/models --ignore=tests/test_packaging.py --ignore=tests/test_triton_aot.py \
  --ignore=tests/test_cuda_build.py 2>&1 | tee "$OUT/tests.log" | tail -40
[ "${PIPESTATUS[0]}" -eq 0 ] || failures=$((failures + 1))
step timing timeout 150 $PYTHON -m benchmarks.lif_gpu --csv "$OUT/lif_gpu.csv" || failures=$((failures + 1))
echo "== $failures steps failed"
exit "$failures"
