// The kernels for any processor: 16-byte vectors, which the compiler maps on what the target has.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "arguments.h"

#ifdef __x86_64__
#include <emmintrin.h>
#endif

#define HNN_NAMESPACE hnn_default
#include "isa.h"

#include "body.inl"

const hnn::Kernels hnn::kDefaultKernels = {"default",
                                           hnn_default::scratch_bytes,
                                           hnn_default::forward,
                                           hnn_default::backward,
                                           hnn_default::encode_gaussian,
                                           hnn_default::gaussian_backward,
                                           hnn_default::encode_poisson,
                                           hnn_default::kProducts};

namespace {

using hnn::Kernels;

// The kernels that this processor runs, the best first.
std::vector<const Kernels*> find_usable() {
  std::vector<const Kernels*> usable;
#ifdef HNN_X86_VARIANTS
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl")) {
    usable.push_back(&hnn::kAvx512Kernels);
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) usable.push_back(&hnn::kAvx2Kernels);
#endif
  usable.push_back(&hnn::kDefaultKernels);
  return usable;
}

// The usable kernels called `wanted`, which `source` has named.
const Kernels* find(const std::string& wanted, const char* source) {
  std::string names;
  for (const Kernels* one : hnn::usable_kernels()) {
    if (wanted == one->name) return one;
    names += (names.empty() ? "" : ", ") + std::string(one->name);
  }
  throw std::runtime_error(source + (" must be one of what this processor runs (" + names + "); got " + wanted));
}

std::atomic<const Kernels*> chosen{nullptr};

}  // namespace

const std::vector<const hnn::Kernels*>& hnn::usable_kernels() {
  static const std::vector<const Kernels*> usable = find_usable();
  return usable;
}

const hnn::Kernels& hnn::kernels() {
  if (const Kernels* there = chosen.load(std::memory_order_relaxed)) return *there;
  const char* wanted = std::getenv("HNN_CPU_ISA");
  chosen = wanted && *wanted ? find(wanted, "HNN_CPU_ISA") : usable_kernels().front();
  return *chosen;
}

void hnn::choose_kernels(const std::string& name) { chosen = find(name, "the instruction set"); }
