// The CUDA backend's host part of the layer, with the shim's launch.
#include "cuda_on_host.h"
// This include must follow, since it uses the definitions of that header.
#include "../cuda/lif.cu"
