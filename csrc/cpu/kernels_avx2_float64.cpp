// The layer in float64 for AVX2, a part of kernels_avx2.cpp: see body.inl.
#define HNN_FLOAT64_ALONE
#include "kernels_avx2.cpp"
