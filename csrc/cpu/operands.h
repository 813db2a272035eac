// What the tile kernels read and write: plain pointers and layouts, without torch.
#pragma once

#include <cstdint>

#include "../layout.h"

namespace hnn {

enum DType { kFloat64, kFloat32, kBFloat16, kFloat16 };

constexpr int kTile = 128;  // neurons that a kernel takes through time together
constexpr int kBlock = 32;  // most steps that one stage hands to the next; their rows stay in the L1 cache

// A tensor over time and neurons; null where it is absent. `step` is the time stride in elements.
struct Train {
  void* data = nullptr;
  int64_t step = 0;
  Layout layout;
  bool constant = false;  // no time axis: read once, or summed over time and written once
  bool fetched = false;   // does not stay in the L2 caches: fetched ahead where backward reads it
  bool large = false;     // nor in the last level: fetched ahead where it is read, and written past it
};

// A coefficient or a state, in the state dtype; null where it is absent (a state of zeros, a coefficient in `value`).
struct PerNeuron {
  void* data = nullptr;
  Layout layout;
  double value = 0;

  // An array in the numbering's order.
  static PerNeuron dense(void* data, int64_t neurons) {
    PerNeuron result;
    result.data = data;
    result.layout.dims = 1;
    result.layout.size[0] = neurons;
    result.layout.stride[0] = 1;
    return result;
  }
};

}  // namespace hnn
