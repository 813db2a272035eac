// What the host side hands to the tile kernels: plain pointers and layouts, no torch, so that the kernels can be
// compiled once per instruction set.
#pragma once

#include <cstdint>

#include "../layout.h"

namespace hnn {

enum DType { kFloat64, kFloat32, kBFloat16, kFloat16 };

// A tensor over time and neurons; null where it is absent. `step` is the time stride in elements.
struct Train {
  void* data = nullptr;
  int64_t step = 0;
  Layout layout;
  bool constant = false;   // no time axis: read once, or summed over time and written once
  bool streaming = false;  // written past the cache
};

// A coefficient or a state, in the state dtype; null where it is absent (a state of zeros, a coefficient in `value`).
struct PerNeuron {
  void* data = nullptr;
  Layout layout;
  double value = 0;
};

struct Call {
  DType dtype;
  int64_t steps, neurons;
  double inverse_width;
  int surrogate;
  bool smooth;
  Train current;
  PerNeuron decay, reset_decay, threshold, v, r;
};

struct ForwardCall : Call {
  Train out;
  PerNeuron last_v, last_r;
};

struct BackwardCall : Call {
  int reset_grad;
  int64_t segment;        // steps whose potentials are kept at once
  int64_t scratch_bytes;  // per thread: the layout is backward_tile's
  Train grad_out, grad_current;
  PerNeuron grad_last_v, grad_last_r, grad_v, grad_r;
  // Sums over time per neuron, in the numbering's order; null where not needed.
  void *partial_decay, *partial_reset_decay, *partial_threshold;

  bool learns() const { return partial_decay || partial_reset_decay || partial_threshold; }
};

constexpr int kTile = 64;  // neurons that a kernel takes through time together

// The tile kernels of one instruction set; `begin` and `end` count tiles.
struct Kernels {
  const char* name;
  void (*forward)(const ForwardCall&, int64_t begin, int64_t end);
  void (*backward)(const BackwardCall&, void* scratch, int64_t begin, int64_t end);
};

extern const Kernels kDefaultKernels;
#if defined(__x86_64__) && !defined(HNN_NO_X86_VARIANTS)
#define HNN_X86_VARIANTS
extern const Kernels kAvx2Kernels, kAvx512Kernels;
#endif

// The best this processor runs, or the one that the environment variable HNN_CPU_ISA names; throws where it runs none
// of that name.
const Kernels& kernels();

}  // namespace hnn
