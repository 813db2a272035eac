// The CPU kernels' tiles shared among threads that nothing orders, for ThreadSanitizer: forward and backward of a layer
// with an axon whose coefficients are learnt, and the codings, float32 and bfloat16, neurons that fill no whole tile.
// Prints nothing; the sanitizer reports a race and sets the exit status. Compiled with csrc/cpu/kernels_default.cpp
// alone, without torch.
#include <cstdlib>
#include <memory>
#include <thread>
#include <vector>

#include "../../csrc/cpu/arguments.h"

namespace {

constexpr int64_t kSteps = 70, kNeurons = hnn::kTile * 9 + 5;

hnn::Layout rows() {
  hnn::Layout layout;
  layout.dims = 1;
  layout.size[0] = kNeurons;
  layout.stride[0] = 1;
  return layout;
}
hnn::Train train(std::vector<char>& memory) {
  hnn::Train train;
  train.data = memory.data();
  train.step = kNeurons;
  train.layout = rows();
  return train;
}
hnn::PerNeuron per_neuron(std::vector<float>& memory) {
  hnn::PerNeuron operand;
  operand.data = memory.data();
  operand.layout = rows();
  return operand;
}
hnn::PerNeuron constant(double value) {
  hnn::PerNeuron operand;
  operand.value = value;
  return operand;
}

// run(begin, end) on three threads, for a third of the tiles each.
template <class Run>
void on_threads(Run run) {
  const int64_t tiles = (kNeurons + hnn::kTile - 1) / hnn::kTile;
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) threads.emplace_back([=] { run(tiles * i / 3, tiles * (i + 1) / 3); });
  for (std::thread& thread : threads) thread.join();
}
void with_scratch(hnn::Call& call, bool backward) {
  const size_t bytes = (hnn::kDefaultKernels.scratch_bytes(call, backward) + 63) / 64 * 64;
  on_threads([&call, backward, bytes](int64_t begin, int64_t end) {
    const std::unique_ptr<void, decltype(&std::free)> scratch(std::aligned_alloc(64, bytes), &std::free);
    (backward ? hnn::kDefaultKernels.backward : hnn::kDefaultKernels.forward)(call, scratch.get(), begin, end);
  });
}

void layer(hnn::DType dtype, int64_t bytes) {
  std::vector<char> current(kSteps * kNeurons * bytes), out(current), grad_out(current), grad_current(current);
  std::vector<float> last_v(kNeurons), last_r(last_v), last_axon[2] = {last_v, last_v},
                                                       partials[6] = {last_v, last_v, last_v, last_v, last_v, last_v};
  hnn::Call call{};
  call.dtype = dtype;
  call.steps = call.window = kSteps;
  call.neurons = kNeurons;
  call.inverse_width = 2.5;
  call.current = train(current);
  call.decay = call.reset_decay = constant(0.7);
  call.threshold = constant(1);
  const hnn::PerNeuron taps[3] = {constant(1.1), constant(-0.2), constant(0.4)}, none[2] = {};
  const hnn::PerNeuron history[2] = {per_neuron(last_axon[0]), per_neuron(last_axon[1])};
  call.axon.present = true;
  call.axon.feedback = 2;
  call.axon.coefficients = taps;
  call.axon.history = call.axon.grad_last_history = call.axon.grad_history = none;
  call.axon.last_history = history;
  call.out = train(out);
  call.last_v = per_neuron(last_v);
  call.last_r = per_neuron(last_r);
  with_scratch(call, false);

  call.grad_out = train(grad_out);
  call.grad_current = train(grad_current);
  call.partial_decay = per_neuron(partials[0]);
  call.partial_reset_decay = per_neuron(partials[1]);
  call.partial_threshold = per_neuron(partials[2]);
  const hnn::PerNeuron sums[3] = {per_neuron(partials[3]), per_neuron(partials[4]), per_neuron(partials[5])};
  call.axon.learns = true;
  call.axon.partials = sums;
  with_scratch(call, true);
}

void codings(hnn::DType dtype, int64_t bytes) {
  std::vector<char> value(kNeurons * bytes), grads[2] = {value, value}, out(kSteps * kNeurons * bytes), grad_out(out);
  const auto constant = [](std::vector<char>& memory) {
    hnn::Train result = train(memory);
    result.constant = true;
    return result;
  };
  hnn::CodingCall call{};
  call.dtype = dtype;
  call.steps = kSteps;
  call.neurons = kNeurons;
  call.seed = 7;
  call.first_step = 3;
  call.element = rows();
  call.mean = call.log_std = call.probability = constant(value);
  call.out = train(out);
  call.grad_out = train(grad_out);
  call.grad_mean = constant(grads[0]);
  call.grad_log_std = constant(grads[1]);
  on_threads([&](int64_t begin, int64_t end) { hnn::kDefaultKernels.encode_gaussian(call, begin, end); });
  on_threads([&](int64_t begin, int64_t end) { hnn::kDefaultKernels.encode_poisson(call, begin, end); });
  on_threads([&](int64_t begin, int64_t end) { hnn::kDefaultKernels.gaussian_backward(call, begin, end); });
}

}  // namespace

int main() {
  layer(hnn::kFloat32, 4);
  layer(hnn::kBFloat16, 2);
  codings(hnn::kFloat32, 4);
  codings(hnn::kBFloat16, 2);
}
