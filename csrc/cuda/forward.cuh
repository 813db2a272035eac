// The kernel of hnn::lif_forward_cuda.
#pragma once

#include "kernels.cuh"

namespace HNN_NAMESPACE {

// Blocks per multiprocessor that the registers must allow: 48 registers a thread, 56 with a filter. There is no limit
// in float64, or in the form for any filters.
template <class IO, class Form>
constexpr int kForwardBlocks = sizeof(IO) == 8 || Form::kGeneral ? 1
                               : Form::kDepth > 0                ? 9
                                                                 : 10;

template <class IO, class Form>
__global__ void __launch_bounds__(hnn::cuda::kForwardBlock, kForwardBlocks<IO, Form>)
    forward(const __grid_constant__ hnn::cuda::ForwardCall call) {
  using C = typename Element<IO>::Compute;
  const int64_t m = this_neuron();
  if (m >= call.neurons) return;
  Offsets at = {};
  int64_t at_out = 0;
  each_axis(call, m, [&](int axis, int64_t index) {
    at.advance<Form>(call, axis, index);
    at_out += index * call.out.stride[axis];
  });
  Reader<IO, 1, !Form::kGeneral> current(call.current, at.current);
  current.start(0, least(call.window, call.steps));
  Writer<IO, 1> out(call.out, at_out);
  Layer<C, Form, true> layer(call, at, m);
  C count = 0;
  for (int window = 0;; ++window) {
    current.each([&](C x) {
      const Trace<C> t = layer.step(x);
      count += t.spike;
      out.put(t.out);
    });
    if (window + 1 >= call.windows) break;
    layer.keep(static_cast<C*>(call.checkpoints) + window * (call.depth * call.neurons) + m, call.neurons);
    current.go_on(least(call.window, call.steps - (window + 1) * call.window));
  }
  if (call.out.constant) write(call.out.data, at.dense, Element<IO>::narrow(count));
#define HNN_WRITE(name, Name) write(call.after_##name, at.dense, layer.s.name);
  HNN_STATES(HNN_WRITE)
#undef HNN_WRITE
  if (call.synapse.after) layer.synapse.keep(static_cast<C*>(call.synapse.after) + at.dense, call.neurons);
  if (call.axon.after) layer.axon.keep(static_cast<C*>(call.axon.after) + at.dense, call.neurons);
}

}  // namespace HNN_NAMESPACE
