// What the host side hands to the CUDA kernels, as one kernel parameter: plain pointers and strides, no torch.
#pragma once

#include <cstdint>

#include "../layout.h"

namespace hnn::cuda {

// A tensor over time and neurons; null where it is absent. All strides are in elements; `step` is that of time.
struct Train {
  void* data = nullptr;
  int64_t step = 0;
  int64_t stride[kMaxDims] = {};
  bool constant = false;   // no time axis: read once, or summed over time and written once
  bool streaming = false;  // larger than the L2 cache: written so that it is evicted first
};

// A coefficient or a state, in the state dtype; null where it is absent (a state of zeros, a coefficient in `value`).
struct PerNeuron {
  void* data = nullptr;
  int64_t stride[kMaxDims] = {};
  double value = 0;
};

struct Call {
  int64_t neurons = 0;
  // The axes of the numbering, outermost first, merged where all operands allow it: a division each but the first.
  int64_t size[kMaxDims] = {};
  int dims = 0;
  bool few = false;  // the neurons can be counted in 32 bits
  int steps = 0;
  double inverse_width = 0;
  Train current;
  PerNeuron decay, reset_decay, threshold, v, r;
};

struct ForwardCall : Call {
  Train out;
  PerNeuron last_v, last_r;  // of equal strides
};

struct BackwardCall : Call {
  // The steps are cut into segments from the end, so that only the first may be shorter than `segment`: the last one's
  // current is read once, all others' twice.
  int segment = 0, segments = 0;
  void* starts = nullptr;  // v and r at the start of every segment but the last: [segments - 1, 2, neurons]
  Train grad_out, grad_current;
  PerNeuron grad_last_v, grad_last_r;
  PerNeuron grad_v, grad_r;  // of equal strides
  // Sums over time per neuron, in the numbering's order; null where not needed.
  void *partial_decay = nullptr, *partial_reset_decay = nullptr, *partial_threshold = nullptr;
};

// Threads per block. Small ones spread a small layer over all multiprocessors; 64 still allow 2048 threads on each.
constexpr int kForwardBlock = 128;
constexpr int kBackwardBlock = 64;

// Shared memory per block of the backward kernel: V (and R where coefficients are learnt) of one segment, 96 (48) steps
// in float32. Nine such blocks, 576 threads, fit an H100 multiprocessor; with 8 to 16 loads of each in flight that
// covers the latency of the memory. Below 48 KiB, so that no kernel attribute has to be set.
constexpr int64_t kSharedBytes = 24 << 10;

}  // namespace hnn::cuda
