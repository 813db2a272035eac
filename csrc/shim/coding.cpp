// The codings of the CUDA backend, kernels and host part, compiled for the host.
#include "cuda_on_host.h"
// This include must follow, since it uses the definitions of that header.
#include "../cuda/coding.cu"
