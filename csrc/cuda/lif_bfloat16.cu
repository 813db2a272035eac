// The layer's kernels in bfloat16.
#include "instances.cuh"

template const hnn::cuda::Kernels& hnn::cuda::kernels_of<hnn_cuda::BFloat16>(hnn::cuda::Form);
