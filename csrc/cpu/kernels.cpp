// The choice among the kernels that were built: those that this processor runs.
#include <atomic>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

#include "arguments.h"

namespace {

using hnn::Kernels;

// The kernels that this processor runs, the best first.
std::vector<const Kernels*> find_usable() {
  std::vector<const Kernels*> usable;
#ifdef HNN_X86_VARIANTS
  __builtin_cpu_init();
#ifndef HNN_WITHOUT_AVX512
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl")) {
    usable.push_back(&hnn::kAvx512Kernels);
  }
#endif
#ifndef HNN_WITHOUT_AVX2
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) usable.push_back(&hnn::kAvx2Kernels);
#endif
#endif
#ifndef HNN_WITHOUT_DEFAULT
  usable.push_back(&hnn::kDefaultKernels);
#endif
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
