// The CUDA backend's own source, kernels and host part, compiled for the host.
#include "cuda_on_host.h"
// Right after it, since it is written against what the header defines.
#include "../cuda/lif.cu"
