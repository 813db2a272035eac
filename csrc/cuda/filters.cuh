// The filter of one thread. Coefficients and history are in registers where the orders are constants of the kernel, and
// in memory where they may be anything.
#pragma once

#include <cstdint>

#include "arguments.h"
#include "lanes.cuh"

namespace HNN_NAMESPACE {

// Offsets of the neuron in a filter's operands.
struct FilterOffsets {
  int64_t feedback, feedforward, state, grad_after;

  HNN_INLINE void advance(const hnn::cuda::Filter& filter, const hnn::cuda::Axes& axes, int axis, int64_t index) {
    feedback += index * filter.feedback.stride[axis];
    feedforward += index * filter.feedforward.stride[axis];
    if (axes.stateless) return;
    state += index * filter.state.stride[axis];
    grad_after += index * filter.grad_after.stride[axis];
  }
};

// The values of a thread's neurons in an operand; those after the first are further along the innermost axis.
template <class V>
HNN_INLINE V gather(const hnn::cuda::PerNeuron& operand, const hnn::cuda::Axes& axes, int64_t at) {
  const Scalar<V>* const from = static_cast<const Scalar<V>*>(operand.data) + at;
  return make<V>([&](int i) { return __ldg(i ? from + i * operand.stride[axes.dims - 1] : from); });
}

// -- storage: coefficients and their gradients' sums, a[0..P) and b[0..Q]; history and its adjoint, y[P] and x[Q] -----

// Every storage has the orders that it stores, `feedback` and `feedforward`, of which a filter may lack some
// (kMayLack), and goes through its values:
//   each(f)      calls f(i, place, has) for each value of a history: its place among those that the filter has, and
//                whether the filter has it;
//   each_tap(f)  calls f(i, forward, place, has) for each coefficient: whether it is of b, its place in a or b, and
//                whether the filter has it;
//   forget(h)    makes zeros of the values of a history that the filter lacks.

// V: the values of a thread's neurons.
template <class V, int kFeedback, int kFeedforward>
struct InRegisters {
  static constexpr bool kMayLack = false;
  static constexpr int feedback = kFeedback, feedforward = kFeedforward;
  static constexpr bool present = true;
  V taps[kFeedback + kFeedforward + 1], sum[kFeedback + kFeedforward + 1];
  V history[kFeedback + kFeedforward], adjoint[kFeedback + kFeedforward];

  HNN_INLINE InRegisters(const hnn::cuda::Filter&, int64_t, int64_t) {}
  HNN_INLINE int depth() const { return kFeedback + kFeedforward; }
  template <class F>
  HNN_INLINE void each(F f) const {
    for (int i = 0; i < kFeedback + kFeedforward; ++i) f(i, i, true);
  }
  template <class F>
  HNN_INLINE void each_tap(F f) const {
    for (int i = 0; i < kFeedback; ++i) f(i, false, i, true);
    for (int i = 0; i <= kFeedforward; ++i) f(kFeedback + i, true, i, true);
  }
  HNN_INLINE void forget(V*) const {}
};

// A filter that may be absent, of orders up to those given. What it lacks has coefficients of -0 and a history of +0:
// their product, -0, changes no sum.
template <class V, int kFeedback, int kFeedforward>
struct InRegistersUpTo : InRegisters<V, kFeedback, kFeedforward> {
  static constexpr bool kMayLack = true;
  bool present;

  HNN_INLINE InRegistersUpTo(const hnn::cuda::Filter& filter, int64_t n, int64_t m)
      : InRegisters<V, kFeedback, kFeedforward>(filter, n, m),
        present(filter.present),
        feedback_(filter.feedback.count),
        feedforward_(filter.feedforward.count - 1) {
    each([&](int i, int, bool has) {
      has_[i] = has ? -1 : 0;
#ifdef __CUDA_ARCH__
      asm("" : "+r"(has_[i]));  // else the compiler compares the orders at every step
#endif
    });
  }
  HNN_INLINE int depth() const { return present ? feedback_ + feedforward_ : 0; }
  template <class F>
  HNN_INLINE void each(F f) const {
#pragma unroll
    for (int i = 0; i < kFeedback; ++i) f(i, i, i < feedback_);
#pragma unroll
    for (int i = 0; i < kFeedforward; ++i) f(kFeedback + i, feedback_ + i, i < feedforward_);
  }
  template <class F>
  HNN_INLINE void each_tap(F f) const {
#pragma unroll
    for (int i = 0; i < kFeedback; ++i) f(i, false, i, i < feedback_);
#pragma unroll
    for (int i = 0; i <= kFeedforward; ++i) f(kFeedback + i, true, i, i <= feedforward_);
  }
  HNN_INLINE void forget(V* history) const {
#pragma unroll
    for (int i = 0; i < kFeedback + kFeedforward; ++i) {
      history[i] = __int_as_float(__float_as_int(history[i]) & has_[i]);
    }
  }

 private:
  int feedback_, feedforward_;
  int has_[kFeedback + kFeedforward];  // the bits that a value of the history keeps: all or none
};

template <class C>
struct Strided {
  C* data;
  int64_t step;
  HNN_INLINE C& operator[](int i) const { return data[i * step]; }
};
template <class C>
struct InMemory {
  static constexpr bool kMayLack = false;
  int feedback, feedforward;
  bool present;
  Strided<C> taps = {}, history = {}, adjoint = {}, sum = {};

  HNN_INLINE InMemory(const hnn::cuda::Filter& filter, int64_t neurons, int64_t m)
      : feedback(filter.feedback.count), feedforward(filter.feedforward.count - 1), present(filter.present) {
    if (!present) return;
    C* at = static_cast<C*>(filter.workspace) + m;
    const int64_t deep = feedback + feedforward;
    taps = {at, neurons};
    history = {at += (deep + 1) * neurons, neurons};
    adjoint = {at += deep * neurons, neurons};
    sum = {at + deep * neurons, neurons};
  }
  HNN_INLINE int depth() const { return present ? feedback + feedforward : 0; }
  template <class F>
  HNN_INLINE void each(F f) const {
    for (int i = 0; i < depth(); ++i) f(i, i, true);
  }
  template <class F>
  HNN_INLINE void each_tap(F f) const {
    for (int i = 0; i < feedback; ++i) f(i, false, i, true);
    for (int i = 0; i <= feedforward; ++i) f(feedback + i, true, i, true);
  }
  HNN_INLINE void forget(Strided<C>) const {}
};
// Values of the workspace per neuron.
inline int64_t workspace_slots(int64_t feedback, int64_t feedforward, bool backward) {
  return (2 * (feedback + feedforward) + 1) * (backward ? 2 : 1);
}

// -- the filter -----------------------------------------------------------------------------------------------------

template <class V, class Storage>
class Filter : public Storage {
  using C = Scalar<V>;

 public:
  static constexpr bool kPossible = true;
  using Storage::adjoint, Storage::each, Storage::each_tap, Storage::feedback, Storage::feedforward, Storage::history,
      Storage::present, Storage::sum, Storage::taps;

  // The thread is the m-th of n.
  HNN_INLINE Filter(const hnn::cuda::Filter& filter, const hnn::cuda::Axes& axes, const FilterOffsets& at, int64_t n,
                    int64_t m)
      : Storage(filter, n, m) {
    if (!Storage::kMayLack && !present) return;
    const auto tap = [&](const hnn::cuda::Taps& from, int place, int64_t at) {
      return axes.simple || !from.data ? same<V>(static_cast<C>(from.values[place]))
                                       : gather<V>(from, axes, at + place * from.step);
    };
    each_tap([&](int i, bool forward, int place, bool has) {
      taps[i] = !has      ? same<V>(C(-0.0))
                : forward ? tap(filter.feedforward, place, at.feedforward)
                          : tap(filter.feedback, place, at.feedback);
    });
    read_state(history, filter.state, axes, at.state);
  }

  HNN_INLINE V step(V x) {
    if (!present) return x;
    const V y = filter_step(feedback, feedforward, data(history), x, data(taps));
    Storage::forget(data(history));
    return y;
  }
  // Loads the history from dense memory, and stores it.
  HNN_INLINE void recall(const V* from, int64_t step) {
    each([&](int i, int place, bool has) { history[i] = has ? from[place * step] : V{}; });
  }
  HNN_INLINE void keep(V* to, int64_t step) const { store(to, step, history); }

  HNN_INLINE void begin_backward(const hnn::cuda::Filter& filter, const hnn::cuda::Axes& axes,
                                 const FilterOffsets& at) {
    read_state(adjoint, filter.grad_after, axes, at.grad_after);
    each_tap([&](int i, bool, int, bool) { sum[i] = V{}; });
  }
  // Takes dL/dy from outside, replaces it by the whole dL/dy, and returns dL/dx.
  HNN_INLINE V backward_step(V& grad_y) {
    return present ? filter_backward_step(feedback, feedforward, data(adjoint), grad_y, data(taps)) : grad_y;
  }
  // Moves the history a step back: the newest values leave, `y` and `x` come in as the oldest. Values that the filter
  // lacks need not stay zero: no step forward follows, and the sums of their coefficients are dropped.
  HNN_INLINE void rewind(V y, V x) {
    for (int p = 0; p + 1 < feedback; ++p) history[p] = history[p + 1];
    if (feedback) history[feedback - 1] = y;
    for (int q = 0; q + 1 < feedforward; ++q) history[feedback + q] = history[feedback + q + 1];
    if (feedforward) history[feedback + feedforward - 1] = x;
  }
  HNN_INLINE void accumulate(V grad_y, V x) {
    filter_accumulate(feedback, feedforward, data(sum), grad_y, x, data(history));
  }
  // The gradients: of the first state, at the place `dense`, and of the coefficients.
  HNN_INLINE void end_backward(const hnn::cuda::Filter& filter, int64_t dense, int64_t n, int64_t m,
                               bool learns) const {
    if (filter.after) store(static_cast<V*>(filter.after) + dense, n, adjoint);
    if (!learns) return;
    each_tap([&](int i, bool forward, int place, bool has) {
      V* const to = static_cast<V*>(forward ? filter.partial_feedforward : filter.partial_feedback);
      if (has && to) to[m + place * n] = sum[i];
    });
  }

 private:
  // An array as an argument of neuron.h, which takes pointers or anything with [].
  static HNN_INLINE V* data(V* array) { return array; }
  static HNN_INLINE Strided<V> data(Strided<V> array) { return array; }

  // The values of a state; zeros where it is absent.
  template <class Array>
  HNN_INLINE void read_state(Array& array, const hnn::cuda::PerNeuron& state, const hnn::cuda::Axes& axes, int64_t at) {
    const bool absent = axes.stateless || !state.data;
    each([&](int i, int place, bool has) {
      array[i] = absent || !has ? V{} : gather<V>(state, axes, at + place * state.step);
    });
  }
  template <class Array>
  HNN_INLINE void store(V* to, int64_t step, const Array& array) const {
    each([&](int i, int place, bool has) {
      if (has) to[place * step] = array[i];
    });
  }
};

// Stands for a filter that the kernel never has.
template <class V>
struct NoFilter {
  static constexpr bool kPossible = false;
  HNN_INLINE NoFilter(const hnn::cuda::Filter&, const hnn::cuda::Axes&, const FilterOffsets&, int64_t, int64_t) {}
  HNN_INLINE int depth() const { return 0; }
  HNN_INLINE V step(V x) { return x; }
  HNN_INLINE void recall(const V*, int64_t) {}
  HNN_INLINE void keep(V*, int64_t) const {}
  HNN_INLINE void begin_backward(const hnn::cuda::Filter&, const hnn::cuda::Axes&, const FilterOffsets&) {}
  HNN_INLINE V backward_step(V& grad_y) { return grad_y; }
  HNN_INLINE void end_backward(const hnn::cuda::Filter&, int64_t, int64_t, int64_t, bool) const {}
};

}  // namespace HNN_NAMESPACE
