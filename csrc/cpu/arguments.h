// The calls that the host hands to the tile kernels: plain pointers and layouts, without torch, so that the kernels can
// be compiled once per instruction set.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "../layer.h"
#include "operands.h"
#include "products.h"

namespace hnn {

// A filter: arrays of `taps` coefficients (feedback, then feedforward) and of `depth` values of history (outputs, then
// inputs, newest first). `last_history` goes out of forward, its gradient `grad_last_history` comes into backward.
struct FilterCall {
  bool present = false;
  bool learns = false;                // a coefficient's gradient is wanted: `partials` has a place for each
  int feedback = 0, feedforward = 0;  // P and Q
  const PerNeuron *coefficients = nullptr, *history = nullptr, *last_history = nullptr;
  const PerNeuron *grad_last_history = nullptr, *grad_history = nullptr, *partials = nullptr;

  int taps() const { return feedback + feedforward + 1; }
  int depth() const { return feedback + feedforward; }
};

struct Call : Options {
  DType dtype;
  int64_t steps, neurons;
  double inverse_width, scale;
  Train current;
#define HNN_DECLARE(name, Name) PerNeuron name;
  HNN_COEFFICIENTS(HNN_DECLARE)
  HNN_STATES(HNN_DECLARE)
#undef HNN_DECLARE
#define HNN_DECLARE(name, Name) FilterCall name;
  HNN_FILTERS(HNN_DECLARE)
#undef HNN_DECLARE
  // The state before each window of `window` steps but the first, [windows - 1, its depth, neurons] in the numbering's
  // order. Null where the window is the whole call.
  void* checkpoints = nullptr;
  int64_t window = 0;
  // The step of the potential's maximum, which forward keeps for backward.
  PerNeuron peak;
  // Forward. A train that is constant is a sum over time, or another read-out of the potential.
  Train out, potential_out;
#define HNN_DECLARE(name, Name) PerNeuron last_##name;
  HNN_STATES(HNN_DECLARE)
#undef HNN_DECLARE
  // Backward. The rows of a segment stay in scratch. A window is cut into segments from its beginning.
  int64_t segment = 0;
  Train grad_out, grad_potential, grad_current;
#define HNN_DECLARE(name, Name) PerNeuron grad_last_##name, grad_##name;
  HNN_STATES(HNN_DECLARE)
#undef HNN_DECLARE
#define HNN_DECLARE(name, Name) PerNeuron partial_##name;  // sums over time per neuron
  HNN_COEFFICIENTS(HNN_DECLARE)
#undef HNN_DECLARE

  bool learns() const {  // a coefficient of the membrane
    bool any = false;
#define HNN_ADD(name, Name) any |= partial_##name.data != nullptr;
    HNN_COEFFICIENTS(HNN_ADD)
#undef HNN_ADD
    return any;
  }
  int state_depth() const {
    int depth = kStates;
#define HNN_ADD(name, Name) depth += name.present ? name.depth() : 0;
    HNN_FILTERS(HNN_ADD)
#undef HNN_ADD
    return depth;
  }
};

// A coding. `mean`, `log_std`, `probability` and their gradients are constant trains, in the dtype of the call.
struct CodingCall {
  DType dtype;
  int64_t steps, neurons;
  // The noise of the call: element(m) is the number of neuron m in row-major order.
  uint64_t seed;
  int64_t first_step, first_element;
  Layout element;
  Train mean, log_std, probability, out;
  // Backward; a gradient is null where it is not needed.
  Train grad_out, grad_mean, grad_log_std;
};

// The tile kernels of one instruction set; `begin` and `end` count tiles. `scratch_bytes` sets the call's segment.
struct Kernels {
  const char* name;
  int64_t (*scratch_bytes)(Call&, bool backward);
  void (*forward)(const Call&, void* scratch, int64_t begin, int64_t end);
  void (*backward)(const Call&, void* scratch, int64_t begin, int64_t end);
  void (*encode_gaussian)(const CodingCall&, int64_t begin, int64_t end);
  void (*gaussian_backward)(const CodingCall&, int64_t begin, int64_t end);
  // Returns true if all probabilities are in [0, 1].
  bool (*encode_poisson)(const CodingCall&, int64_t begin, int64_t end);
  ProductKernels products;
};

extern const Kernels kDefaultKernels;
#if defined(__x86_64__) && !defined(HNN_NO_X86_VARIANTS)
#define HNN_X86_VARIANTS
extern const Kernels kAvx2Kernels, kAvx512Kernels;
#endif

// The kernels of the instruction sets that this processor runs, the best first.
const std::vector<const Kernels*>& usable_kernels();
// The kernels that calls take: the best ones, or those of the instruction set that the environment variable HNN_CPU_ISA
// names. Throws where the processor does not run it.
const Kernels& kernels();
// Why calls cannot take the instruction set of this name, as the end of a sentence; nothing if they can.
std::string why_not(const std::string& name);
// Lets the calls from now on take those of another instruction set. Throws where the processor does not run it.
void choose_kernels(const std::string& name);

}  // namespace hnn
