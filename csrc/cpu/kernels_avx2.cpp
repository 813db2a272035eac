// The kernels for x86-64 processors with AVX2, chosen at run time.
#include "arguments.h"

#ifdef HNN_X86_VARIANTS

#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif

#define HNN_NAMESPACE hnn_avx2
#define HNN_ISA_AVX2
#include "isa.h"

#include "body.inl"

#ifdef __clang__
#pragma clang attribute pop
#endif

#ifndef HNN_FLOAT64_ALONE
const hnn::Kernels hnn::kAvx2Kernels = {"avx2",
                                        hnn_avx2::scratch_bytes,
                                        hnn_avx2::forward,
                                        hnn_avx2::backward,
                                        hnn_avx2::encode_gaussian,
                                        hnn_avx2::gaussian_backward,
                                        hnn_avx2::encode_poisson,
                                        hnn_avx2::kProducts};
#endif

#endif
