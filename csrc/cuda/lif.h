// The compiled kernels, for whoever asks what they cost.
#pragma once

#include <string>
#include <vector>

namespace hnn::cuda {

struct Kernel {
  std::string name;
  const void* function;
};
std::vector<Kernel> kernels();

}  // namespace hnn::cuda
