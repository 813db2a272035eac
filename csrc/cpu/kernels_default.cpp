// The kernels for any processor: 16-byte vectors, which the compiler maps on what the target has.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "arguments.h"

#ifdef __x86_64__
#include <emmintrin.h>
#endif

#define HNN_NAMESPACE hnn_default
#include "isa.h"

#include "body.inl"

#ifndef HNN_FLOAT64_ALONE
const hnn::Kernels hnn::kDefaultKernels = {"default",
                                           hnn_default::scratch_bytes,
                                           hnn_default::forward,
                                           hnn_default::backward,
                                           hnn_default::encode_gaussian,
                                           hnn_default::gaussian_backward,
                                           hnn_default::encode_poisson,
                                           hnn_default::kProducts};
#endif
