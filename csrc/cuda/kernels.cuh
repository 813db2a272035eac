// The CUDA kernels: one thread takes one neuron, or a few neighbours (Lanes), through all steps. For the gradient it
// goes forward again, leaves the values that the adjoint needs of a segment in shared memory, and then goes backward.
// Threads exchange nothing: a thread's column of the shared memory is its own. So there is no synchronisation, and the
// host shim can run one thread after the other.
//
// The values are in shared memory rather than in registers, because a loop may index its rows: the segment is as long
// as the call needs, no unrolled step is wasted, and the registers are free for the loads in flight.
#pragma once

#include <cmath>
#include <cstdint>

#include "arguments.h"

#define HNN_NAMESPACE hnn_cuda
#define HNN_INLINE __device__ __forceinline__
#define HNN_ALWAYS __attribute__((always_inline))  // of a lambda
#ifndef HNN_CUDA_ON_HOST
// The block's dynamic shared memory as an array of `type`.
#define HNN_SHARED(type, name)                         \
  extern __shared__ __align__(16) double hnn_shared[]; \
  type* const name = reinterpret_cast<type*>(hnn_shared)
#endif

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
HNN_INLINE float round_(float x) { return rintf(x); }
HNN_INLINE double round_(double x) { return rint(x); }

// Two instructions that branch on nothing.
HNN_INLINE bool reaches_(float x, float threshold, bool too) { return x > threshold || (too && x == threshold); }
HNN_INLINE bool reaches_(double x, double threshold, bool too) { return x > threshold || (too && x == threshold); }

}  // namespace HNN_NAMESPACE

#include "../neuron.h"
#include "filters.cuh"
#include "lanes.cuh"
#include "trains.cuh"

namespace HNN_NAMESPACE {

// -- forms: the options of a layer that are constants of a kernel -----------------------------------------------------

// kUsual: options are constants of the kernel, the usual ones but for the reset. Where they are not, every step
// branches on them. kReads: the potential may be a result.
// kBranches: each step branches on the reset; where there are two filters, its code would be large once for each.
struct Plain {
  static constexpr bool kBranches = false;
  static constexpr bool kUsual = true, kAnything = false, kReads = false;
  static constexpr int kReset = Options().reset;  // where kUsual
  static constexpr int kDepth = 0;                // of the histories in registers
  static constexpr int kBack = 0;                 // the steps that the longer of these goes back
  static constexpr int kMost = 0;                 // the orders up to which a filter may be any, in registers
  template <class V>
  using Synapse = NoFilter<V>;
  template <class V>
  using Axon = NoFilter<V>;
};
template <class Form>
constexpr bool kIsPlain = Form::kUsual && Form::kDepth == 0;
struct NoFilters : Plain {
  static constexpr bool kUsual = false;
};
template <int kFeedback, int kFeedforward>
struct OnlySynapse : NoFilters {
  static constexpr int kDepth = kFeedback + kFeedforward;
  static constexpr int kBack = kFeedback > kFeedforward ? kFeedback : kFeedforward;
  template <class V>
  using Synapse = Filter<V, InRegisters<V, kFeedback, kFeedforward>>;
};
template <int kFeedback, int kFeedforward>
struct OnlyAxon : NoFilters {
  static constexpr int kDepth = kFeedback + kFeedforward;
  static constexpr int kBack = kFeedback > kFeedforward ? kFeedback : kFeedforward;
  template <class V>
  using Axon = Filter<V, InRegisters<V, kFeedback, kFeedforward>>;
};
// The paper's layer.
struct UsualAxon20 : OnlyAxon<2, 0> {
  static constexpr bool kUsual = true;
};
// The paper's filter alone.
struct Iir20 : OnlySynapse<2, 0> {
  static constexpr bool kUsual = true;
  static constexpr int kReset = kNoMembrane;
};
struct ReadOut : NoFilters {
  static constexpr bool kReads = true;
};
// Any two filters of orders up to 2, whatever else is asked for.
struct General : ReadOut {
  static constexpr int kMost = hnn::cuda::kMostOrder;
  static constexpr int kDepth = 4 * kMost, kBack = kMost;
  static constexpr bool kBranches = true;
  template <class V>
  using Synapse = Filter<V, InRegistersUpTo<V, kMost, kMost>>;
  template <class V>
  using Axon = Filter<V, InRegistersUpTo<V, kMost, kMost>>;
};
// Any filters, in memory, and the smooth mode, whose functions would make every kernel large.
struct Anything : ReadOut {
  static constexpr bool kAnything = true, kBranches = true;
  template <class V>
  using Synapse = Filter<V, InMemory<V>>;
  template <class V>
  using Axon = Filter<V, InMemory<V>>;
};

// -- operands ---------------------------------------------------------------------------------------------------------

using Sizes = int64_t[hnn::kMaxDims];
template <class Unsigned, class F>
HNN_INLINE void each_axis(const Sizes& sizes, int dims, Unsigned m, F f) {
#pragma unroll 1
  for (int axis = dims - 1; axis > 0; --axis) {
    const Unsigned size = static_cast<Unsigned>(sizes[axis]), rest = m / size;
    f(axis, static_cast<int64_t>(m - rest * size));
    m = rest;
  }
  f(0, static_cast<int64_t>(m));
}
// Calls f(axis, index of neuron m along it). The 32-bit division is several times as fast as the 64-bit one: `few` says
// that 32 bits are enough.
template <class F>
HNN_INLINE void each_axis(const Sizes& sizes, int dims, bool few, int64_t m, F f) {
  if (few) {
    each_axis(sizes, dims, static_cast<uint32_t>(m), f);
  } else {
    each_axis(sizes, dims, static_cast<uint64_t>(m), f);
  }
}
template <class F>
HNN_INLINE void each_axis(const hnn::cuda::Axes& call, int64_t m, F f) {
  each_axis(call.size, call.dims, call.few, m, f);
}

// The places of a thread's first neuron in the operands that forward and backward share, in elements; in trains and in
// results per neuron in elements of all its neurons.
struct Offsets {
  int64_t current, dense;
#define HNN_DECLARE(name, Name) int64_t name;
  HNN_COEFFICIENTS(HNN_DECLARE)
  HNN_STATES(HNN_DECLARE)
#undef HNN_DECLARE
  FilterOffsets synapse, axon;

  template <class Form>
  HNN_INLINE void advance(const hnn::cuda::Call& call, int axis, int64_t index) {
#define HNN_ADVANCE(name, Name) name += index * call.name.stride[axis];
    HNN_COEFFICIENTS(HNN_ADVANCE)
    if (!call.stateless) {
      HNN_STATES(HNN_ADVANCE)
    }
#undef HNN_ADVANCE
    if constexpr (Form::template Synapse<float>::kPossible) synapse.advance(call.synapse, call, axis, index);
    if constexpr (Form::template Axon<float>::kPossible) axon.advance(call.axon, call, axis, index);
  }
};

template <class V>
HNN_INLINE void write(void* data, int64_t at, V x) {
  if (data) static_cast<V*>(data)[at] = x;
}

// -- the layer, of the neurons of one thread --------------------------------------------------------------------------

// The intermediate results of one step.
template <class V>
struct Trace {
  V filtered, potential, spike, out;  // behind the synapse, in the membrane, behind it, behind the axon
};

// kAxonRuns: forward steps compute the axon. In backward only the gradients of its coefficients need that.
template <class V, class Form, bool kAxonRuns>
struct Layer {
  Options options;
  Coefficients<V> c;
  Extent<V> extent;
  State<V> s;
  typename Form::template Synapse<V> synapse;
  typename Form::template Axon<V> axon;

  // The thread is the m-th of n.
  HNN_INLINE Layer(const hnn::cuda::Call& call, const Offsets& at, int64_t n, int64_t m)
#define HNN_VALUE(name, Name) same<V>(static_cast<Scalar<V>>(call.name.value)),
      : c{HNN_COEFFICIENTS(HNN_VALUE)},
#undef HNN_VALUE
        extent{same<V>(static_cast<Scalar<V>>(call.inverse_width)), same<V>(static_cast<Scalar<V>>(call.scale))},
        s{},
        synapse(call.synapse, call, at.synapse, n, m),
        axon(call.axon, call, at.axon, n, m) {
    if (!call.simple) {
#define HNN_READ(name, Name) \
  if (call.name.data) c.name = gather<V>(call.name, call, at.name);
      HNN_COEFFICIENTS(HNN_READ)
#undef HNN_READ
    }
    if (!call.stateless) {
#define HNN_READ(name, Name) \
  if (call.name.data) s.name = gather<V>(call.name, call, at.name);
      HNN_STATES(HNN_READ)
#undef HNN_READ
    }
    if constexpr (Form::kUsual) {
      options.reset = Form::kReset;
    } else {
      options = call;
    }
    if constexpr (!Form::kAnything) options.smooth = false;
    if constexpr (!Form::kReads) options.potential = kPotentialNone;
  }

  HNN_INLINE Trace<V> step(V x, const Options& options) {
    Trace<V> t;
    t.filtered = synapse.step(x);
    t.spike = forward_step(options, s, t.filtered, c, extent, t.potential);
    t.out = kAxonRuns ? axon.step(t.spike) : t.spike;
    return t;
  }
  // The spike at a potential; `after` is what then decays into the next step.
  HNN_INLINE V replay(V potential, V& after, const Options& options) const {
    return fire(options, potential, c, extent, after);
  }

  // Store the whole state, and load it.
  HNN_INLINE void keep(V* to, int64_t step) const {
    int i = 0;
#define HNN_KEEP(name, Name) to[i++ * step] = s.name;
    HNN_STATES(HNN_KEEP)
#undef HNN_KEEP
    keep_filters(to, step);
  }
  HNN_INLINE void keep_filters(V* to, int64_t step) const {
    synapse.keep(to + kStates * step, step);
    if constexpr (kAxonRuns) axon.keep(to + (kStates + synapse.depth()) * step, step);
  }
  HNN_INLINE void recall(const V* from, int64_t step) {
    int i = 0;
#define HNN_RECALL(name, Name) s.name = from[i++ * step];
    HNN_STATES(HNN_RECALL)
#undef HNN_RECALL
    synapse.recall(from + kStates * step, step);
    if constexpr (kAxonRuns) axon.recall(from + (kStates + synapse.depth()) * step, step);
  }
};

// Calls f with a number as a constant: it is one of kFirst .. kEnd - 1.
template <int kFirst, int kEnd, class F>
HNN_INLINE void with_constant(int number, F f) {
  if constexpr (kEnd - kFirst == 1) {
    f(kFirst);
  } else {
    constexpr int kMiddle = (kFirst + kEnd) / 2;
    if (number < kMiddle) {
      with_constant<kFirst, kMiddle>(number, f);
    } else {
      with_constant<kMiddle, kEnd>(number, f);
    }
  }
}

// Calls f(options), of which the reset is a constant (kHere; otherwise as they are): a loop over steps branches on it
// once.
template <class Form, bool kHere = true, class F>
HNN_INLINE void with_constants(Options o, F f) {
  if constexpr (!kHere || Form::kUsual || Form::kBranches) {
    f(o);
  } else {
    constexpr bool kAlone = Form::template Synapse<float>::kPossible;  // without a membrane
    with_constant<kAlone ? kNoMembrane : 0, kResets>(o.reset, [&](int reset) HNN_ALWAYS {
      Options with_reset = o;
      with_reset.reset = reset;
      f(with_reset);
    });
  }
}

// The slopes of the surrogate at the distances to the threshold, in their place.
template <class V, int n>
HNN_INLINE void slopes(const Options& o, V (&distance)[n], const Extent<V>& e, V threshold) {
  with_constant<0, kSurrogates>(o.surrogate, [&](int surrogate) HNN_ALWAYS {
    Options with_surrogate = o;
    with_surrogate.surrogate = surrogate;
#pragma unroll
    for (V& x : distance) x = slope(with_surrogate, x, e, threshold);
  });
}

HNN_INLINE int64_t this_thread() { return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; }
template <int kLanes>
HNN_INLINE int64_t threads(const hnn::cuda::Axes& call) {
  return static_cast<int64_t>(static_cast<uint64_t>(call.neurons) / kLanes);  // a shift
}
HNN_INLINE int least(int a, int b) { return a < b ? a : b; }

// Sets the places of a thread's neurons. place(m) sets those in trains and results where they are the number of the
// thread; advance(axis, index) adds the steps along an axis to the places in all other operands, and elsewhere() to
// those in trains and results.
template <int kLanes, class Place, class Advance, class Elsewhere>
HNN_INLINE void find(const hnn::cuda::Call& call, int64_t m, Place place, Advance advance, Elsewhere elsewhere) {
  if (kLanes > 1 || call.simple) place(m);
  if (call.simple) return;
  const auto step = [&](int axis, int64_t index) {
    advance(axis, index);
    if (kLanes == 1) elsewhere(axis, index);
  };
  if constexpr (kLanes > 1) {
    each_axis(call.size, call.dims, static_cast<uint32_t>(m * kLanes), step);
  } else {
    each_axis(call, m, step);
  }
}

}  // namespace HNN_NAMESPACE
