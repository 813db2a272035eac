// The calls that the host (defined.cpp) hands to the kernels of a defined neuron, which are compiled apart from it:
// the source that hnn_kernels/_define/cpp.py writes includes this header, too.
#pragma once

#include <cstdint>

#include "operands.h"

namespace hnn {

struct DefinedCall {
  int64_t steps, neurons;
  Train x;
  const PerNeuron *coefficients, *states;
  // As in Call (arguments.h).
  void* checkpoints;
  int64_t window;
  // Forward.
  const Train* outputs;
  const PerNeuron* last_states;
  // Backward. `segment` is set by scratch_bytes.
  bool learns;
  int64_t segment;
  const Train* grad_outputs;
  const PerNeuron* grad_last_states;
  Train grad_x;
  const PerNeuron *grad_states, *partials;  // partials are of the coefficients, per neuron
};

// What a compiled neuron has: an object of this type by the name hnn_defined.
struct DefinedKernels {
  int64_t call_bytes;  // sizeof(DefinedCall) where it was compiled
  int states, coefficients, outputs;
  int64_t (*scratch_bytes)(DefinedCall&, bool backward);
  void (*forward)(const DefinedCall&, void* scratch, int64_t begin, int64_t end);
  void (*backward)(const DefinedCall&, void* scratch, int64_t begin, int64_t end);
};

}  // namespace hnn
