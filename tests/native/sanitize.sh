#!/usr/bin/env bash
# The suite with the compiled backends (the CPU kernels, and the CUDA source on the host) under AddressSanitizer and
# UndefinedBehaviorSanitizer: an access out of bounds, or an overflow, ends the process. Builds in a copy of the tree.
#
#     tests/native/sanitize.sh [arguments of pytest]
set -euo pipefail
cd "$(dirname "$0")/../.."

python=$PWD/${VENV:-.venv}/bin/python
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
git ls-files -z --cached --others --exclude-standard | tar --null --files-from=- --create | tar --extract --directory "$copy"
cd "$copy"

echo "building with sanitizers in $copy"
HNN_SANITIZE=address,undefined HNN_BUILD=cpu HNN_BUILD_SHIM=1 HNN_REQUIRE=cpu,shim \
  "$python" setup.py build_ext --inplace >build.log 2>&1 || { tail -30 build.log; exit 1; }

compiler=${CXX:-c++}
export LD_PRELOAD="$("$compiler" -print-file-name=libasan.so) $("$compiler" -print-file-name=libubsan.so)"
# Python itself leaks by design, and maps memory that looks like an overlap to a preloaded sanitizer.
export ASAN_OPTIONS=detect_leaks=0:verify_asan_link_order=0:allocator_may_return_null=1
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
export PYTHONPATH=$PWD TRITON_INTERPRET=1
# Not the tests that build or compile anew, nor Triton's interpreter: none of them runs the code under test. Nor speed,
# nor the tests of glibc's allocator, whose place the sanitizer's takes.
"$python" -m pytest -p no:cacheprovider -n "${JOBS:-2}" -k "not triton and not compile and not speed" \
  --ignore tests/models --ignore tests/builds --ignore tests/emulated --ignore tests/kernels/test_allocator.py "$@"
