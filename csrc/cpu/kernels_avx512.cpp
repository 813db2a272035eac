// The kernels for x86-64 processors with AVX512, chosen at run time.
#include "arguments.h"

#ifdef HNN_X86_VARIANTS

#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma"))), apply_to = function)
#else
// gcc's own header of intrinsics draws it (gcc bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,fma")
#endif

#define HNN_NAMESPACE hnn_avx512
#define HNN_ISA_AVX512
#include "isa.h"

#include "body.inl"

#ifdef __clang__
#pragma clang attribute pop
#endif

#ifndef HNN_FLOAT64_ALONE
const hnn::Kernels hnn::kAvx512Kernels = {"avx512",
                                          hnn_avx512::scratch_bytes,
                                          hnn_avx512::forward,
                                          hnn_avx512::backward,
                                          hnn_avx512::encode_gaussian,
                                          hnn_avx512::gaussian_backward,
                                          hnn_avx512::encode_poisson,
                                          hnn_avx512::kProducts};
#endif

#endif
