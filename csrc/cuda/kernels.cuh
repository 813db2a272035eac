// The CUDA kernels: one thread takes one neuron through all steps. For the gradient it goes forward again, leaves the
// values that the adjoint needs of a segment in shared memory, and then goes backward. Threads exchange nothing: a
// thread's column of the shared memory is its own. So there is no synchronisation, and the host shim can run one thread
// after the other.
//
// The values are in shared memory rather than in registers, because a loop may index its rows: the segment is as long
// as the call needs, no unrolled step is wasted, and the registers are free for the loads in flight.
#pragma once

#include <cmath>
#include <cstdint>

#include "arguments.h"

#define HNN_NAMESPACE hnn_cuda
#define HNN_INLINE __device__ __forceinline__

namespace HNN_NAMESPACE {

HNN_INLINE float scalar_of(float x) { return x; }
HNN_INLINE double scalar_of(double x) { return x; }
HNN_INLINE float fma_(float a, float b, float c) { return fmaf(a, b, c); }
HNN_INLINE double fma_(double a, double b, double c) { return fma(a, b, c); }
HNN_INLINE float abs_(float x) { return fabsf(x); }
HNN_INLINE double abs_(double x) { return fabs(x); }
// exp2f, except that results below 2^-126 become 0. That is three instructions less at every step backward.
HNN_INLINE float exp2_(float x) {
#ifdef __CUDA_ARCH__
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return exp2f(x);
#endif
}
HNN_INLINE double exp2_(double x) { return exp2(x); }
HNN_INLINE float erfc_(float x) { return erfcf(x); }
HNN_INLINE double erfc_(double x) { return erfc(x); }
HNN_INLINE float atan_(float x) { return atanf(x); }
HNN_INLINE double atan_(double x) { return atan(x); }

}  // namespace HNN_NAMESPACE

#include "../neuron.h"
#include "filters.cuh"
#include "trains.cuh"

namespace HNN_NAMESPACE {

// -- forms: the options of a layer that are constants of a kernel -----------------------------------------------------

// kUsual: the usual options are constants of the kernel. Where they are not, every step branches on them.
struct Plain {
  static constexpr bool kUsual = true, kGeneral = false;
  static constexpr int kDepth = 0;  // of the histories in registers
  template <class C>
  using Synapse = NoFilter<C>;
  template <class C>
  using Axon = NoFilter<C>;
};
template <class Form>
constexpr bool kIsPlain = Form::kUsual && Form::kDepth == 0;
struct NoFilters : Plain {
  static constexpr bool kUsual = false;
};
template <int kFeedback, int kFeedforward>
struct OnlySynapse : NoFilters {
  static constexpr int kDepth = kFeedback + kFeedforward;
  template <class C>
  using Synapse = Filter<C, InRegisters<C, kFeedback, kFeedforward>>;
};
template <int kFeedback, int kFeedforward>
struct OnlyAxon : NoFilters {
  static constexpr int kDepth = kFeedback + kFeedforward;
  template <class C>
  using Axon = Filter<C, InRegisters<C, kFeedback, kFeedforward>>;
};
// The paper's layer.
struct UsualAxon20 : OnlyAxon<2, 0> {
  static constexpr bool kUsual = true;
};
// Any filters, and the smooth mode, whose functions would make every kernel large.
struct General {
  static constexpr bool kUsual = false, kGeneral = true;
  static constexpr int kDepth = 0;  // none in registers
  template <class C>
  using Synapse = Filter<C, InMemory<C>>;
  template <class C>
  using Axon = Filter<C, InMemory<C>>;
};

// -- operands ---------------------------------------------------------------------------------------------------------

template <class Unsigned, class F>
HNN_INLINE void each_axis(const hnn::cuda::Axes& call, Unsigned m, F f) {
#pragma unroll 1
  for (int axis = call.dims - 1; axis > 0; --axis) {
    const Unsigned size = static_cast<Unsigned>(call.size[axis]), rest = m / size;
    f(axis, static_cast<int64_t>(m - rest * size));
    m = rest;
  }
  f(0, static_cast<int64_t>(m));
}
// Calls f(axis, index of neuron m along it). The 32-bit division is several times as fast as the 64-bit one.
template <class F>
HNN_INLINE void each_axis(const hnn::cuda::Axes& call, int64_t m, F f) {
  if (call.few) {
    each_axis(call, static_cast<uint32_t>(m), f);
  } else {
    each_axis(call, static_cast<uint64_t>(m), f);
  }
}

// The places of a neuron in the operands that forward and backward share, and in their results per neuron.
struct Offsets {
  int64_t current, dense;
#define HNN_DECLARE(name, Name) int64_t name;
  HNN_COEFFICIENTS(HNN_DECLARE)
  HNN_STATES(HNN_DECLARE)
#undef HNN_DECLARE
  FilterOffsets synapse, axon;

  template <class Form>
  HNN_INLINE void advance(const hnn::cuda::Call& call, int axis, int64_t index) {
    current += index * call.current.stride[axis];
#define HNN_ADVANCE(name, Name) name += index * call.name.stride[axis];
    HNN_COEFFICIENTS(HNN_ADVANCE)
    HNN_STATES(HNN_ADVANCE)
#undef HNN_ADVANCE
    dense += index * call.dense[axis];
    if constexpr (Form::template Synapse<float>::kPossible) synapse.advance(call.synapse, axis, index);
    if constexpr (Form::template Axon<float>::kPossible) axon.advance(call.axon, axis, index);
  }
};

template <class C>
HNN_INLINE C read(const hnn::cuda::PerNeuron& operand, int64_t at) {
  return operand.data ? __ldg(static_cast<const C*>(operand.data) + at) : C(0);
}
template <class C>
HNN_INLINE C read(const hnn::cuda::Coefficient& operand, int64_t at) {
  return operand.data ? __ldg(static_cast<const C*>(operand.data) + at) : static_cast<C>(operand.value);
}
template <class C>
HNN_INLINE void write(void* data, int64_t at, C x) {
  if (data) static_cast<C*>(data)[at] = x;
}

// -- the layer, of one neuron -----------------------------------------------------------------------------------------

// The intermediate results of one step.
template <class C>
struct Trace {
  C filtered, potential, spike, out;  // behind the synapse, in the membrane, behind it, behind the axon
};

// kAxonRuns: forward steps compute the axon. In backward only the gradients of its coefficients need that.
template <class C, class Form, bool kAxonRuns>
struct Layer {
  Options options;
  Coefficients<C> c;
  C inverse_width;
  State<C> s;
  typename Form::template Synapse<C> synapse;
  typename Form::template Axon<C> axon;

  HNN_INLINE Layer(const hnn::cuda::Call& call, const Offsets& at, int64_t m)
#define HNN_READ(name, Name) read<C>(call.name, at.name),
      : c{HNN_COEFFICIENTS(HNN_READ)},
        inverse_width(static_cast<C>(call.inverse_width)),
        s{HNN_STATES(HNN_READ)},
#undef HNN_READ
        synapse(call.synapse, at.synapse, call.neurons, m),
        axon(call.axon, at.axon, call.neurons, m) {
    if constexpr (!Form::kUsual) options = call;
    if constexpr (!Form::kGeneral) options.smooth = false;
  }

  HNN_INLINE Trace<C> step(C x) {
    Trace<C> t;
    t.filtered = synapse.step(x);
    t.spike = forward_step(options, s, t.filtered, c, inverse_width, t.potential);
    t.out = kAxonRuns ? axon.step(t.spike) : t.spike;
    return t;
  }
  // The spike at a potential; `after` is what then decays into the next step.
  HNN_INLINE C replay(C potential, C& after) const {
    if constexpr (Form::kUsual) return after = potential, potential >= c.threshold ? C(1) : C(0);
    State<C> state = {};
    Coefficients<C> only = {};
    only.threshold = c.threshold;
    C same;
    Options without_r = options;
    if (options.reset == kFilter) without_r.reset = kNone;
    const C spike = forward_step(without_r, state, potential, only, inverse_width, same);
    after = state.v;
    return spike;
  }

  // Store the whole state, and load it.
  HNN_INLINE void keep(C* to, int64_t step) const {
    int i = 0;
#define HNN_KEEP(name, Name) to[i++ * step] = s.name;
    HNN_STATES(HNN_KEEP)
#undef HNN_KEEP
    synapse.keep(to + kStates * step, step);
    if constexpr (kAxonRuns) axon.keep(to + (kStates + synapse.depth()) * step, step);
  }
  HNN_INLINE void recall(const C* from, int64_t step) {
    int i = 0;
#define HNN_RECALL(name, Name) s.name = from[i++ * step];
    HNN_STATES(HNN_RECALL)
#undef HNN_RECALL
    synapse.recall(from + kStates * step, step);
    if constexpr (kAxonRuns) axon.recall(from + (kStates + synapse.depth()) * step, step);
  }
};

HNN_INLINE int64_t this_neuron() { return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; }
HNN_INLINE int least(int a, int b) { return a < b ? a : b; }

}  // namespace HNN_NAMESPACE
