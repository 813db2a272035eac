// The kernel of hnn::lif_forward_cuda.
#pragma once

#include "kernels.cuh"

namespace HNN_NAMESPACE {

// Blocks per multiprocessor that the registers must allow: 48 registers a thread, 56 with a filter, 72 with two. The
// form for anything has 128.
template <class IO, class Form, int kLanes>
constexpr int kForwardBlocks = Form::kAnything    ? 8
                               : kLanes > 1       ? (Form::kDepth == 0 ? 16
                                                     : kLanes > 2      ? 10
                                                                       : 12)
                               : Form::kDepth > 4 ? 14
                               : Form::kDepth > 0 ? 18
                                                  : 20;

// What is read of the potential: its train, or one value.
template <class IO, class V, bool kReads>
class ReadingOf {
 public:
  HNN_INLINE ReadingOf(const hnn::cuda::ForwardCall&, int64_t) {}
  HNN_INLINE void take(V) {}
  HNN_INLINE void finish(const hnn::cuda::ForwardCall&, int64_t) const {}
};
template <class IO, class V>
class ReadingOf<IO, V, true> {
 public:
  HNN_INLINE ReadingOf(const hnn::cuda::ForwardCall& call, int64_t at)
      : how_(call.potential), train_(call.potential_out, at) {}
  HNN_INLINE void take(V v) {
    switch (how_) {
      case kPotentialTrain: train_.put(v); break;
      case kPotentialLast: value_ = v; break;
      case kPotentialMean: value_ += v; break;
      case kPotentialMax:
        // NaN is larger than any number, and stays.
        if (t_ == 0 || v > value_ || (v != v && value_ == value_)) {
          value_ = v;
          peak_ = t_;
        }
    }
    ++t_;
  }
  HNN_INLINE void finish(const hnn::cuda::ForwardCall& call, int64_t at) const {
    if (!call.potential_out.constant) return;
    const V value = how_ == kPotentialMean ? value_ / static_cast<V>(call.steps) : value_;
    write(call.potential_out.data, at, Packed<IO, 1>::narrow(value));
    write(call.peak, at, static_cast<V>(peak_));
  }

 private:
  int how_, t_ = 0, peak_ = 0;
  V value_ = {};
  Writer<IO, 1, 1> train_;
};

template <class IO, class Form, int kLanes>
__global__ void __launch_bounds__(hnn::cuda::kForwardBlock, kForwardBlocks<IO, Form, kLanes>)
    forward(const __grid_constant__ hnn::cuda::ForwardCall call) {
  using Pack = Packed<IO, kLanes>;
  using V = Neurons<typename Element<IO>::Compute, kLanes>;
  const int64_t m = this_thread(), n = threads<kLanes>(call);
  if (m >= n) return;
  Offsets at = {};
  int64_t at_out = 0, at_potential = 0;
  find<kLanes>(
      call, m, [&](int64_t place) { at.current = at_out = at_potential = at.dense = place; },
      [&](int axis, int64_t index) { at.advance<Form>(call, axis, index); },
      [&](int axis, int64_t index) {
        at.current += index * call.current.stride[axis];
        at.dense += index * call.dense[axis];
        at_out += index * call.out.stride[axis];
        if constexpr (Form::kReads) at_potential += index * call.potential_out.stride[axis];
      });
  // Threads with several neurons have enough loads in flight.
  constexpr bool kAsks = kLanes == 1;
  constexpr int kThreads = kAsks ? kForwardBlocks<IO, Form, kLanes> * hnn::cuda::kForwardBlock : 0;
  Reader<IO, kLanes, 1, !Form::kAnything, !Form::kUsual, kThreads, kAsks> current(call.current, at.current);
  current.ask(0, call.steps);
  current.start(0, least(call.window, call.steps));
  Writer<IO, kLanes, 1> out(call.out, at_out);
  Layer<V, Form, true> layer(call, at, n, m);
  V count = {};
  ReadingOf<IO, V, Form::kReads> reading(call, at_potential);
  for (int window = 0;; ++window) {
    with_constants<Form>(layer.options, [&](const Options& o) HNN_ALWAYS {
      current.each([&](const auto& steps, int) {
#pragma unroll
        for (const V x : steps.of) {
          const Trace<V> t = layer.step(x, o);
          count += t.spike;
          out.put(t.out);
          reading.take(t.potential);
        }
      });
    });
    if (window + 1 >= call.windows) break;
    layer.keep(static_cast<V*>(call.checkpoints) + window * (call.depth * n) + m, n);
    const int begin = (window + 1) * call.window;
    current.ask(begin, call.steps - begin);
    current.start(begin, least(call.window, call.steps - begin));
  }
  if (call.out.constant) write(call.out.data, at.dense, Pack::narrow(count));
  reading.finish(call, at.dense);
#define HNN_WRITE(name, Name) write(call.after_##name, at.dense, layer.s.name);
  HNN_STATES(HNN_WRITE)
#undef HNN_WRITE
  if (call.synapse.after) layer.synapse.keep(static_cast<V*>(call.synapse.after) + at.dense, n);
  if (call.axon.after) layer.axon.keep(static_cast<V*>(call.axon.after) + at.dense, n);
}

}  // namespace HNN_NAMESPACE
