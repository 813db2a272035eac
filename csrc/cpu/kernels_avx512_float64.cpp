// The layer in float64 for AVX-512, a part of kernels_avx512.cpp: see body.inl.
#define HNN_FLOAT64_ALONE
#include "kernels_avx512.cpp"
