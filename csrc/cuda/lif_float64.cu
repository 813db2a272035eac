// The layer's kernels in float64.
#include "instances.cuh"

template const hnn::cuda::Kernels& hnn::cuda::kernels_of<double>(hnn::cuda::Form);
