// The layer's kernels in float16.
#include "instances.cuh"

template const hnn::cuda::Kernels& hnn::cuda::kernels_of<hnn_cuda::Half>(hnn::cuda::Form);
