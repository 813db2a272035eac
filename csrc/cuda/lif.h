// The list of compiled kernels, from which their cost is reported.
#pragma once

#include <string>
#include <vector>

namespace hnn::cuda {

struct Kernel {
  std::string name;
  const void* function;
};
std::vector<Kernel> kernels();  // of the layer
std::vector<Kernel> coding_kernels();

}  // namespace hnn::cuda
