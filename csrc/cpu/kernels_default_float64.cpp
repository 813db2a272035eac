// The layer in float64 for any processor, a part of kernels_default.cpp: see body.inl.
#define HNN_FLOAT64_ALONE
#include "kernels_default.cpp"
