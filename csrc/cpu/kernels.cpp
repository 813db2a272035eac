// The choice among the kernels that were built: those that this processor runs.
#include <algorithm>
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

// Those that a build for one machine leaves out (HNN_BUILD=native).
const std::vector<std::string> kLeftOut = {
#ifdef HNN_WITHOUT_AVX512
    "avx512",
#endif
#ifdef HNN_WITHOUT_AVX2
    "avx2",
#endif
#ifdef HNN_WITHOUT_DEFAULT
    "default",
#endif
};

// The usable kernels called `wanted`, which `source` has named.
const Kernels* find(const std::string& wanted, const char* source) {
  for (const Kernels* one : hnn::usable_kernels()) {
    if (wanted == one->name) return one;
  }
  throw std::runtime_error(source + (" " + hnn::why_not(wanted)));
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
  if (wanted && *wanted) {
    chosen = find(wanted, "HNN_CPU_ISA");
  } else if (usable_kernels().empty()) {
    throw std::runtime_error("this module was built for another processor (HNN_BUILD=native)");
  } else {
    chosen = usable_kernels().front();
  }
  return *chosen;
}

std::string hnn::why_not(const std::string& name) {
  std::string names;
  for (const Kernels* one : usable_kernels()) {
    if (name == one->name) return "";
    names += (names.empty() ? "" : ", ") + std::string(one->name);
  }
  const bool left_out = std::find(kLeftOut.begin(), kLeftOut.end(), name) != kLeftOut.end();
  return "must be one of what this processor runs (" + (names.empty() ? "none" : names) + "); got '" + name + "'" +
         (left_out ? ", which this build left out (HNN_BUILD=native); without HNN_BUILD, pip install -v "
                     "--no-build-isolation of the sources builds all"
                   : "");
}

void hnn::choose_kernels(const std::string& name) { chosen = find(name, "the instruction set"); }
