// The filter of one thread. Coefficients and history are in registers where the orders are constants of the kernel, and
// in memory where they may be anything.
#pragma once

#include <cstdint>

#include "arguments.h"

namespace HNN_NAMESPACE {

// Offsets of the neuron in a filter's operands.
struct FilterOffsets {
  int64_t feedback, feedforward, state, grad_after;

  HNN_INLINE void advance(const hnn::cuda::Filter& filter, int axis, int64_t index) {
    feedback += index * filter.feedback.stride[axis];
    feedforward += index * filter.feedforward.stride[axis];
    state += index * filter.state.stride[axis];
    grad_after += index * filter.grad_after.stride[axis];
  }
};

// -- storage: coefficients and their gradients' sums, a[0..P) and b[0..Q]; history and its adjoint, y[P] and x[Q] -----

template <class C, int kFeedback, int kFeedforward>
struct InRegisters {
  static constexpr int feedback = kFeedback, feedforward = kFeedforward;
  static constexpr bool present = true;
  C taps[kFeedback + kFeedforward + 1], sum[kFeedback + kFeedforward + 1];
  C history[kFeedback + kFeedforward], adjoint[kFeedback + kFeedforward];

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

template <class C, class Storage>
class Filter : public Storage {
 public:
  static constexpr bool kPossible = true;
  using Storage::adjoint, Storage::feedback, Storage::feedforward, Storage::history, Storage::present, Storage::sum,
      Storage::taps;

  HNN_INLINE Filter(const hnn::cuda::Filter& filter, const FilterOffsets& at, int64_t neurons, int64_t m)
      : Storage(filter, neurons, m) {
    if (!present) return;
    for (int p = 0; p < feedback; ++p) taps[p] = tap(filter.feedback, at.feedback, p);
    for (int q = 0; q <= feedforward; ++q) taps[feedback + q] = tap(filter.feedforward, at.feedforward, q);
    recall(filter.state.data ? static_cast<const C*>(filter.state.data) + at.state : nullptr, filter.state.step);
  }
  HNN_INLINE int depth() const { return present ? feedback + feedforward : 0; }

  HNN_INLINE C step(C x) { return present ? filter_step(feedback, feedforward, data(history), x, data(taps)) : x; }
  // Loads the history from memory (zeros from null), and stores it.
  HNN_INLINE void recall(const C* from, int64_t step) { load(history, from, step); }
  HNN_INLINE void keep(C* to, int64_t step) const { store(to, step, history, 0, depth()); }

  HNN_INLINE void begin_backward(const hnn::cuda::Filter& filter, const FilterOffsets& at) {
    if (!present) return;
    const C* const from = static_cast<const C*>(filter.grad_after.data);
    load(adjoint, from ? from + at.grad_after : nullptr, filter.grad_after.step);
    for (int i = 0; i <= depth(); ++i) sum[i] = 0;
  }
  // Takes dL/dy from outside, replaces it by the whole dL/dy, and returns dL/dx.
  HNN_INLINE C backward_step(C& grad_y) {
    return present ? filter_backward_step(feedback, feedforward, data(adjoint), grad_y, data(taps)) : grad_y;
  }
  // Moves the history a step back: the newest values leave, `y` and `x` come in as the oldest.
  HNN_INLINE void rewind(C y, C x) {
    for (int p = 0; p + 1 < feedback; ++p) history[p] = history[p + 1];
    if (feedback) history[feedback - 1] = y;
    for (int q = 0; q + 1 < feedforward; ++q) history[feedback + q] = history[feedback + q + 1];
    if (feedforward) history[feedback + feedforward - 1] = x;
  }
  HNN_INLINE void accumulate(C grad_y, C x) {
    filter_accumulate(feedback, feedforward, data(sum), grad_y, x, data(history));
  }
  // The gradients: of the first state, with its neuron `dense`, and of the coefficients.
  HNN_INLINE void end_backward(const hnn::cuda::Filter& filter, int64_t dense, int64_t neurons, int64_t m,
                               bool learns) const {
    if (!present) return;
    if (filter.after) store(static_cast<C*>(filter.after) + dense, neurons, adjoint, 0, depth());
    if (!learns) return;
    C* const to_feedback = static_cast<C*>(filter.partial_feedback);
    C* const to_feedforward = static_cast<C*>(filter.partial_feedforward);
    if (to_feedback) store(to_feedback + m, neurons, sum, 0, feedback);
    if (to_feedforward) store(to_feedforward + m, neurons, sum, feedback, feedforward + 1);
  }

 private:
  // An array as an argument of neuron.h, which takes pointers or anything with [].
  static HNN_INLINE C* data(C* array) { return array; }
  static HNN_INLINE Strided<C> data(Strided<C> array) { return array; }

  static HNN_INLINE C tap(const hnn::cuda::Taps& taps, int64_t at, int i) {
    return taps.data ? __ldg(static_cast<const C*>(taps.data) + at + i * taps.step) : static_cast<C>(taps.values[i]);
  }
  template <class Array>
  HNN_INLINE void load(Array& array, const C* from, int64_t step) {
    for (int i = 0; i < depth(); ++i) array[i] = from ? from[i * step] : C(0);
  }
  template <class Array>
  static HNN_INLINE void store(C* to, int64_t step, const Array& array, int begin, int count) {
    for (int i = 0; i < count; ++i) to[i * step] = array[begin + i];
  }
};

// Stands for a filter that the kernel never has.
template <class C>
struct NoFilter {
  static constexpr bool kPossible = false;
  HNN_INLINE NoFilter(const hnn::cuda::Filter&, const FilterOffsets&, int64_t, int64_t) {}
  HNN_INLINE int depth() const { return 0; }
  HNN_INLINE C step(C x) { return x; }
  HNN_INLINE void recall(const C*, int64_t) {}
  HNN_INLINE void keep(C*, int64_t) const {}
  HNN_INLINE void begin_backward(const hnn::cuda::Filter&, const FilterOffsets&) {}
  HNN_INLINE C backward_step(C& grad_y) { return grad_y; }
  HNN_INLINE void end_backward(const hnn::cuda::Filter&, int64_t, int64_t, int64_t, bool) const {}
};

}  // namespace HNN_NAMESPACE
