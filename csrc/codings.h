// The parts that the codings' hosts for CPU and CUDA share. The schemas are in hnn_kernels/_ops/coding.py.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "tensors.h"

namespace hnn {

// The noise of a call. `seed` is on the device of the values, so that a CUDA graph that is replayed reads a new one.
struct Noise {
  const Tensor& seed;
  int64_t first_step, first_element;
};

// A macro, since device code takes literals only.
#define HNN_NO_PROBABILITY "probability must lie in [0, 1]"

// The gradients of the mean (bit 0 of `needs`) and of log_std (bit 1); null where not needed.
struct GaussianGradients {
  Optional mean, log_std;

  GaussianGradients(const Tensor& like, int64_t needs) {
    if (needs & 1) mean = torch::stable::empty_like(like);
    if (needs & 2) log_std = torch::stable::empty_like(like);
  }
  std::vector<Tensor> needed() const {
    std::vector<Tensor> result;
    for (const Optional* gradient : {&mean, &log_std}) {
      if (*gradient) result.push_back(**gradient);
    }
    return result;
  }
};

}  // namespace hnn
