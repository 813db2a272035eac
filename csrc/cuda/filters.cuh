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

// V: the values of a thread's neurons.
template <class V, int kFeedback, int kFeedforward>
struct InRegisters {
  static constexpr int feedback = kFeedback, feedforward = kFeedforward;
  static constexpr bool present = true;
  V taps[kFeedback + kFeedforward + 1], sum[kFeedback + kFeedforward + 1];
  V history[kFeedback + kFeedforward], adjoint[kFeedback + kFeedforward];

  HNN_INLINE InRegisters(const hnn::cuda::Filter&, int64_t, int64_t) {}
};

template <class C>
struct Strided {
  C* data;
  int64_t step;
  HNN_INLINE C& operator[](int i) const { return data[i * step]; }
};
template <class C>
struct InMemory {
  int feedback, feedforward;
  bool present;
  Strided<C> taps = {}, history = {}, adjoint = {}, sum = {};

  HNN_INLINE InMemory(const hnn::cuda::Filter& filter, int64_t neurons, int64_t m)
      : feedback(filter.feedback.count), feedforward(filter.feedforward.count - 1), present(filter.present) {
    if (!present) return;
    C* at = static_cast<C*>(filter.workspace) + m;
    const int64_t depth = feedback + feedforward;
    taps = {at, neurons};
    history = {at += (depth + 1) * neurons, neurons};
    adjoint = {at += depth * neurons, neurons};
    sum = {at + depth * neurons, neurons};
  }
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
  using Storage::adjoint, Storage::feedback, Storage::feedforward, Storage::history, Storage::present, Storage::sum,
      Storage::taps;

  // The thread is the m-th of n.
  HNN_INLINE Filter(const hnn::cuda::Filter& filter, const hnn::cuda::Axes& axes, const FilterOffsets& at, int64_t n,
                    int64_t m)
      : Storage(filter, n, m) {
    if (!present) return;
    read_taps(0, feedback, filter.feedback, axes, at.feedback);
    read_taps(feedback, feedforward + 1, filter.feedforward, axes, at.feedforward);
    read_state(history, filter.state, axes, at.state);
  }
  HNN_INLINE int depth() const { return present ? feedback + feedforward : 0; }

  HNN_INLINE V step(V x) { return present ? filter_step(feedback, feedforward, data(history), x, data(taps)) : x; }
  // Loads the history from dense memory, and stores it.
  HNN_INLINE void recall(const V* from, int64_t step) {
    for (int i = 0; i < depth(); ++i) history[i] = from[i * step];
  }
  HNN_INLINE void keep(V* to, int64_t step) const { store(to, step, history, 0, depth()); }

  HNN_INLINE void begin_backward(const hnn::cuda::Filter& filter, const hnn::cuda::Axes& axes,
                                 const FilterOffsets& at) {
    if (!present) return;
    read_state(adjoint, filter.grad_after, axes, at.grad_after);
    for (int i = 0; i <= depth(); ++i) sum[i] = V{};
  }
  // Takes dL/dy from outside, replaces it by the whole dL/dy, and returns dL/dx.
  HNN_INLINE V backward_step(V& grad_y) {
    return present ? filter_backward_step(feedback, feedforward, data(adjoint), grad_y, data(taps)) : grad_y;
  }
  // Moves the history a step back: the newest values leave, `y` and `x` come in as the oldest.
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
    if (!present) return;
    if (filter.after) store(static_cast<V*>(filter.after) + dense, n, adjoint, 0, depth());
    if (!learns) return;
    V* const to_feedback = static_cast<V*>(filter.partial_feedback);
    V* const to_feedforward = static_cast<V*>(filter.partial_feedforward);
    if (to_feedback) store(to_feedback + m, n, sum, 0, feedback);
    if (to_feedforward) store(to_feedforward + m, n, sum, feedback, feedforward + 1);
  }

 private:
  // An array as an argument of neuron.h, which takes pointers or anything with [].
  static HNN_INLINE V* data(V* array) { return array; }
  static HNN_INLINE Strided<V> data(Strided<V> array) { return array; }

  HNN_INLINE void read_taps(int begin, int count, const hnn::cuda::Taps& from, const hnn::cuda::Axes& axes,
                            int64_t at) {
    for (int i = 0; i < count; ++i) {
      taps[begin + i] = axes.simple || !from.data ? same<V>(static_cast<C>(from.values[i]))
                                                  : gather<V>(from, axes, at + i * from.step);
    }
  }
  // The values of a state; zeros where it is absent.
  template <class Array>
  HNN_INLINE void read_state(Array& array, const hnn::cuda::PerNeuron& state, const hnn::cuda::Axes& axes, int64_t at) {
    for (int i = 0; i < depth(); ++i) {
      array[i] = axes.stateless || !state.data ? V{} : gather<V>(state, axes, at + i * state.step);
    }
  }
  template <class Array>
  static HNN_INLINE void store(V* to, int64_t step, const Array& array, int begin, int count) {
    for (int i = 0; i < count; ++i) to[i * step] = array[begin + i];
  }
};

// A filter that may be absent, of orders up to those given, in registers. What it lacks has coefficients of -0 and a
// history of +0: their product, -0, changes no sum.
template <class V, int kFeedback, int kFeedforward>
class FilterUpTo : public InRegisters<V, kFeedback, kFeedforward> {
  using C = Scalar<V>;
  using Storage = InRegisters<V, kFeedback, kFeedforward>;
  static constexpr int kDepth = kFeedback + kFeedforward;
  bool present_;
  int feedback_, feedforward_;
  int has_[kDepth];  // the bits that a value of the history keeps: all, or none where the filter lacks it

 public:
  static constexpr bool kPossible = true;
  using Storage::adjoint, Storage::feedback, Storage::feedforward, Storage::history, Storage::sum, Storage::taps;

  HNN_INLINE FilterUpTo(const hnn::cuda::Filter& filter, const hnn::cuda::Axes& axes, const FilterOffsets& at,
                        int64_t n, int64_t m)
      : Storage(filter, n, m),
        present_(filter.present),
        feedback_(filter.feedback.count),
        feedforward_(filter.feedforward.count - 1) {
    const auto tap = [&](const hnn::cuda::Taps& from, int i, int64_t place) {
      return axes.simple || !from.data ? same<V>(static_cast<C>(from.values[i]))
                                       : gather<V>(from, axes, place + i * from.step);
    };
#pragma unroll
    for (int i = 0; i <= kDepth; ++i) {
      taps[i] = same<V>(C(-0.0));
      if (i < kFeedback) {
        if (i < feedback_) taps[i] = tap(filter.feedback, i, at.feedback);
      } else {
        if (i - kFeedback <= feedforward_) taps[i] = tap(filter.feedforward, i - kFeedback, at.feedforward);
      }
      sum[i] = V{};
    }
    each([&](int i, int, bool has) {
      adjoint[i] = history[i] = V{};
      has_[i] = has ? -1 : 0;
#ifdef __CUDA_ARCH__
      asm("" : "+r"(has_[i]));  // else the compiler compares the orders at every step
#endif
    });
    read_state(history, filter.state, axes, at.state);
  }
  HNN_INLINE int depth() const { return present_ ? feedback_ + feedforward_ : 0; }

  HNN_INLINE V step(V x) {
    if (!present_) return x;
    const V y = filter_step(kFeedback, kFeedforward, history, x, taps);
#pragma unroll
    for (int i = 0; i < kDepth; ++i) history[i] = __int_as_float(__float_as_int(history[i]) & has_[i]);
    return y;
  }
  HNN_INLINE void recall(const V* from, int64_t step) {
    each([&](int i, int place, bool has) { history[i] = has ? from[place * step] : V{}; });
  }
  HNN_INLINE void keep(V* to, int64_t step) const { store(to, step, history); }

  HNN_INLINE void begin_backward(const hnn::cuda::Filter& filter, const hnn::cuda::Axes& axes,
                                 const FilterOffsets& at) {
    read_state(adjoint, filter.grad_after, axes, at.grad_after);
  }
  HNN_INLINE V backward_step(V& grad_y) {
    if (!present_) return grad_y;
    return filter_backward_step(kFeedback, kFeedforward, adjoint, grad_y, taps);
  }
  // Takes more values than its orders need: no step forward follows, and the sums of coefficients that it lacks are
  // dropped.
  HNN_INLINE void rewind(V y, V x) {
#pragma unroll
    for (int p = 0; p + 1 < kFeedback; ++p) history[p] = history[p + 1];
    history[kFeedback - 1] = y;
#pragma unroll
    for (int q = kFeedback; q + 1 < kDepth; ++q) history[q] = history[q + 1];
    history[kDepth - 1] = x;
  }
  HNN_INLINE void accumulate(V grad_y, V x) { filter_accumulate(kFeedback, kFeedforward, sum, grad_y, x, history); }
  HNN_INLINE void end_backward(const hnn::cuda::Filter& filter, int64_t dense, int64_t n, int64_t m,
                               bool learns) const {
    if (filter.after) store(static_cast<V*>(filter.after) + dense, n, adjoint);
    if (!learns) return;
    V* const to_feedback = static_cast<V*>(filter.partial_feedback);
    V* const to_feedforward = static_cast<V*>(filter.partial_feedforward);
#pragma unroll
    for (int i = 0; i < kFeedback; ++i) {
      if (to_feedback && i < feedback_) to_feedback[m + i * n] = sum[i];
    }
#pragma unroll
    for (int i = 0; i <= kFeedforward; ++i) {
      if (to_feedforward && i <= feedforward_) to_feedforward[m + i * n] = sum[kFeedback + i];
    }
  }

 private:
  // Calls f(i, place, has) for each value of a history: its place among those that the filter has, and if it has it.
  template <class F>
  HNN_INLINE void each(F f) const {
#pragma unroll
    for (int i = 0; i < kDepth; ++i) {
      const bool forward = i >= kFeedback;
      f(i, forward ? feedback_ + i - kFeedback : i, forward ? i - kFeedback < feedforward_ : i < feedback_);
    }
  }
  HNN_INLINE void read_state(V (&array)[kDepth], const hnn::cuda::PerNeuron& state, const hnn::cuda::Axes& axes,
                             int64_t at) {
    if (axes.stateless || !state.data) return;
    each([&](int i, int place, bool has) {
      if (has) array[i] = gather<V>(state, axes, at + place * state.step);
    });
  }
  HNN_INLINE void store(V* to, int64_t step, const V (&array)[kDepth]) const {
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
