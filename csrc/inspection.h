// What the CUDA module hands to the inspection module, in a capsule of this name.
#pragma once

#include <string>
#include <vector>

namespace hnn {

constexpr char kInspection[] = "hnn_kernels.inspection";

struct KernelAttributes {
  std::string name;
  int registers, local_bytes, shared_bytes, max_threads, binary;
};
// Asks the GPU; throws where it does not answer. Both modules are of one compiler and one build.
using AttributesOfKernels = std::vector<KernelAttributes> (*)();

}  // namespace hnn
