// The kernels for any processor: 16-byte vectors, which the compiler maps on what the target has.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>

#include "arguments.h"

#ifdef __x86_64__
#include <emmintrin.h>
#define HNN_STREAM(p, v) _mm_stream_si128((__m128i*)(p), (__m128i)(v))
#define HNN_INTRINSIC(name) _mm_##name
#endif

#define HNN_NAMESPACE hnn_default
#define HNN_VECTOR_BYTES 16
#include "body.inl"

const hnn::Kernels hnn::kDefaultKernels = {"default",
                                           hnn_default::scratch_bytes,
                                           hnn_default::forward,
                                           hnn_default::backward,
                                           hnn_default::encode_gaussian,
                                           hnn_default::gaussian_backward,
                                           hnn_default::encode_poisson};

const hnn::Kernels& hnn::kernels() {
  static const Kernels* const chosen = [] {
    const Kernels* usable[3] = {};
    int count = 0;
#ifdef HNN_X86_VARIANTS
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl")) {
      usable[count++] = &kAvx512Kernels;
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) usable[count++] = &kAvx2Kernels;
#endif
    usable[count++] = &kDefaultKernels;
    if (const char* wanted = std::getenv("HNN_CPU_ISA"); wanted && *wanted) {
      for (int i = 0; i < count; ++i) {
        if (!std::strcmp(wanted, usable[i]->name)) return usable[i];
      }
      std::string names = usable[0]->name;
      for (int i = 1; i < count; ++i) names += std::string(", ") + usable[i]->name;
      throw std::runtime_error("HNN_CPU_ISA must be one of what this processor runs (" + names + "); got " + wanted);
    }
    return usable[0];
  }();
  return *chosen;
}
