// The layer's CUDA kernels of every dtype, compiled for the host.
#include "cuda_on_host.h"
// These includes must follow, since they use the definitions of that header.
#include "../cuda/lif_bfloat16.cu"
#include "../cuda/lif_float16.cu"
#include "../cuda/lif_float32.cu"
#include "../cuda/lif_float64.cu"
