// The kernel of hnn::lif_forward_cuda.
#pragma once

#include "kernels.cuh"

namespace HNN_NAMESPACE {

// Blocks per multiprocessor that the registers must allow: 48 registers a thread, 56 with a filter. There is no limit
// in float64, or in the form for any filters.
template <class IO, class Form, int kLanes>
constexpr int kForwardBlocks = sizeof(IO) == 8 || Form::kGeneral ? 1
                               : kLanes > 1                      ? (Form::kDepth == 0 ? 16
                                                                    : kLanes > 2      ? 10
                                                                                      : 12)
                               : Form::kDepth > 0                ? 18
                                                                 : 20;

template <class IO, class Form, int kLanes>
__global__ void __launch_bounds__(hnn::cuda::kForwardBlock, kForwardBlocks<IO, Form, kLanes>)
    forward(const __grid_constant__ hnn::cuda::ForwardCall call) {
  using Pack = Packed<IO, kLanes>;
  using V = Neurons<typename Element<IO>::Compute, kLanes>;
  const int64_t m = this_thread(), n = threads<kLanes>(call);
  if (m >= n) return;
  Offsets at = {};
  int64_t at_out = 0;
  find<kLanes>(
      call, m, [&](int64_t place) { at.current = at_out = at.dense = place; },
      [&](int axis, int64_t index) { at.advance<Form>(call, axis, index); },
      [&](int axis, int64_t index) {
        at.current += index * call.current.stride[axis];
        at.dense += index * call.dense[axis];
        at_out += index * call.out.stride[axis];
      });
  Reader<IO, kLanes, 1, !Form::kGeneral> current(call.current, at.current);
  current.start(0, least(call.window, call.steps));
  Writer<IO, kLanes, 1> out(call.out, at_out);
  Layer<V, Form, true> layer(call, at, n, m);
  V count = {};
  for (int window = 0;; ++window) {
    current.each([&](V x, int) {
      const Trace<V> t = layer.step(x);
      count += t.spike;
      out.put(t.out);
    });
    if (window + 1 >= call.windows) break;
    layer.keep(static_cast<V*>(call.checkpoints) + window * (call.depth * n) + m, n);
    const int begin = (window + 1) * call.window;
    current.start(begin, least(call.window, call.steps - begin));
  }
  if (call.out.constant) write(call.out.data, at.dense, Pack::narrow(count));
#define HNN_WRITE(name, Name) write(call.after_##name, at.dense, layer.s.name);
  HNN_STATES(HNN_WRITE)
#undef HNN_WRITE
  if (call.synapse.after) layer.synapse.keep(static_cast<V*>(call.synapse.after) + at.dense, n);
  if (call.axon.after) layer.axon.keep(static_cast<V*>(call.axon.after) + at.dense, n);
}

}  // namespace HNN_NAMESPACE
