// The layer's kernels in float32.
#include "instances.cuh"

template const hnn::cuda::Kernels& hnn::cuda::kernels_of<float>(hnn::cuda::Form);
