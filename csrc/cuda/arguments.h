// The calls that the host hands to the CUDA kernels, a kernel parameter each: plain pointers and strides, no torch.
#pragma once

#include <cstdint>

#include "../layer.h"
#include "../layout.h"

namespace hnn::cuda {

// A tensor over time and neurons; null where it is absent. All strides are in elements; `step` is that of time.
struct Train {
  void* data = nullptr;
  int64_t step = 0;
  int64_t stride[kMaxDims] = {};
  bool constant = false;  // no time axis: read once, or summed over time and written once
  int element_bytes = 1;
  int32_t one = 1;  // see Walk in trains.cuh
};

// A state, in the state dtype; null where it is absent. `step` is the stride of a filter state's first axis.
struct PerNeuron {
  void* data = nullptr;
  int64_t step = 0;
  int64_t stride[kMaxDims] = {};
};
struct Coefficient : PerNeuron {
  double value = 0;  // where there is no tensor
};
// Longer lists of floats become a tensor, so that the kernel's parameter has a fixed size.
constexpr int kListed = 8;
struct Taps : PerNeuron {
  int count = 0;
  double values[kListed] = {};  // where there is no tensor
};

struct Filter {
  bool present = false;
  Taps feedback, feedforward;
  PerNeuron state;
  void* after = nullptr;      // the state after the last step; backward, the gradient of `state`: dense
  void* workspace = nullptr;  // [slots, neurons], where the orders are no constants of the kernel
  // Backward only. Sums over time per neuron in the numbering's order, [P, neurons] and [Q + 1, neurons].
  PerNeuron grad_after;
  bool learns = false;
  void *partial_feedback = nullptr, *partial_feedforward = nullptr;
};

// The axes of the numbering, outermost first, merged where all operands allow it. Each axis but the first costs a
// division.
struct Axes {
  int64_t neurons = 0;
  int64_t size[kMaxDims] = {};
  int dims = 0;
  bool few = false;  // the neurons can be counted in 32 bits
  // The neurons lie one behind the other in all trains and results, and no other operand differs between them.
  bool simple = false;
  bool stateless = false;  // there is no state, nor the gradient of one
};

struct Call : Axes, Options {
  int steps = 0;
  // A window is the steps from one checkpoint to the next. checkpoints: [windows - 1, depth, neurons], where depth is
  // that of a whole state: the membrane's, and the histories of the filters.
  int window = 0, windows = 1, depth = kStates;
  void* checkpoints = nullptr;
  double inverse_width = 0, scale = 1;
  Train current;
#define HNN_DECLARE(name, Name) Coefficient name;
  HNN_COEFFICIENTS(HNN_DECLARE)
#undef HNN_DECLARE
#define HNN_DECLARE(name, Name) PerNeuron name;
  HNN_STATES(HNN_DECLARE)
#undef HNN_DECLARE
#define HNN_DECLARE(name, Name) Filter name;
  HNN_FILTERS(HNN_DECLARE)
#undef HNN_DECLARE
  // The kernels' results per neuron (the state after the last step, the gradient of the first state) are dense.
  int64_t dense[kMaxDims] = {};
#define HNN_DECLARE(name, Name) void* after_##name = nullptr;
  HNN_STATES(HNN_DECLARE)
#undef HNN_DECLARE
};

struct ForwardCall : Call {
  Train out, potential_out;
  void* peak = nullptr;  // the step of the potential's maximum, dense
};

struct BackwardCall : Call {
  // A window is cut into segments from its end, so that only its first may be shorter than `segment`. The current of
  // the last segment is read once, that of all others twice.
  int segment = 1, segments = 0, last_segments = 0;  // the latter two in a whole window, and in the last one
  // States [slots, depth, neurons] at the segments' starts in a window; where there are several windows, the initial
  // state is in the last slot.
  void* starts = nullptr;
  int slots = 0;
  // Rows of shared memory for each step of a segment: V always comes first (but for a layer without a membrane), the
  // others lie this many elements behind it, or are not kept (-1). Before those of a filter in registers is its
  // history.
  int rows = 0;
#define HNN_DECLARE(name, Name) int row_##name = -1;
  HNN_LATER_STATES(HNN_DECLARE)
#undef HNN_DECLARE
  int row_x = -1, row_y = -1, row_f = -1;  // what goes into the synapse, out of it and out of the axon
  Train grad_out, grad_potential, grad_current;
  const void* peak = nullptr;
#define HNN_DECLARE(name, Name) PerNeuron grad_after_##name;
  HNN_STATES(HNN_DECLARE)
#undef HNN_DECLARE
  // Sums over time per neuron, in the numbering's order; null where not needed.
#define HNN_DECLARE(name, Name) void* partial_##name = nullptr;
  HNN_COEFFICIENTS(HNN_DECLARE)
#undef HNN_DECLARE
};

// The gradients of a coefficient: results [taps, ...], each the sum of `values` numbers.
struct Sum {
  const void* from = nullptr;
  void* to = nullptr;
  int64_t from_step = 0, to_step = 0;  // from tap to tap
  uint32_t taps = 1;
  int64_t results = 1, values = 1;  // of a tap
  Layout place, shared;             // of the results in `from`, and of a result's values behind its place
  int64_t to_stride[kMaxDims] = {};
  // A block takes `width` results, and of each a chunk of its values: a row of threads for each number at once.
  int width = 1;
  int64_t chunk = 1;
  uint32_t tiles = 1, chunks = 1;  // blocks for a tap's results, and for a result's values

  HNN_HOST_DEVICE uint32_t blocks() const { return taps * tiles * chunks; }
};
#define HNN_ADD(name, Name) +1
#define HNN_ADD_BOTH(name, Name) +2
// Those of a call, by one launch.
struct SumCall {
  bool few = false;  // 32 bits hold all numbers of results and values
  int count = 0;
  Sum sums[HNN_COEFFICIENTS(HNN_ADD) HNN_FILTERS(HNN_ADD_BOTH)];
};
#undef HNN_ADD_BOTH
#undef HNN_ADD
static_assert(sizeof(SumCall) <= 4096, "the most that a kernel's parameters may take");

// A tensor of the shape of a step, in the dtype of the call.
struct Operand {
  void* data = nullptr;
  int64_t stride[kMaxDims] = {};
};

// A coding, forward or backward. Operands that a kernel does not use are null.
struct CodingCall : Axes {
  int64_t steps = 0;
  // The noise of the call: `element` has the strides of a row-major tensor.
  const int64_t* seed = nullptr;
  int64_t first_step = 0, first_element = 0;
  int64_t element[kMaxDims] = {};
  Operand value, log_std;  // the mean, or the probability
  Train out, grad_out;
  Operand grad_mean, grad_log_std;
};

// Threads per block. Small blocks spread a small layer over all multiprocessors; 64 still allow 2048 threads on each.
constexpr int kForwardBlock = 64;
constexpr int kBackwardBlock = 64;

// Threads with several neurons take over where there are this many for each multiprocessor. With fewer, one neuron per
// thread is faster, because more threads hide more of the latency.
constexpr int kWideThreads = 256;

// The orders up to which the general form has a filter in registers.
constexpr int kMostOrder = 2;

// Sums: the threads of a block; neighbouring results that a block reads at once at least, where there are so many, 128
// bytes of float32; numbers that a thread adds up at most.
constexpr int kSumBlock = 256;
constexpr int kSumTogether = 32;
constexpr int kSumMost = 32;

}  // namespace hnn::cuda
