// The operators of the codings on the CPU: they allocate, describe the call, and share the tiles among the threads. The
// arguments were checked in Python, except for the values of the probabilities.
#include <algorithm>
#include <atomic>
#include <vector>

#include "../codings.h"
#include "arguments.h"
#include "describe.h"

namespace hnn {
namespace {

CodingCall describe(const Numbering& n, const Tensor& value, const Noise& noise, int64_t steps) {
  CodingCall call{};
  call.dtype = dtype_of(value);
  call.steps = steps;
  call.neurons = n.neurons;
  call.seed = static_cast<uint64_t>(*static_cast<const int64_t*>(noise.seed.data_ptr()));
  call.first_step = noise.first_step;
  call.first_element = noise.first_element;
  int64_t strides[kMaxDims];
  row_major(n, strides);
  call.element = lay_out(n, strides);
  return call;
}

// A thread is woken for some 8k elements and steps, which take 20 us.
template <class Run>
void over_tiles(const CodingCall& call, Run run) {
  const Kernels& chosen = kernels();  // here, because it may throw, which no thread of the loop may
  const int64_t tiles = (call.neurons + kTile - 1) / kTile;
  const int64_t grain = std::max<int64_t>(1, 8192 / (kTile * std::max<int64_t>(1, call.steps)));
  torch::stable::parallel_for(0, tiles, grain, [&](int64_t begin, int64_t end) { run(chosen, begin, end); });
}

Tensor gaussian(Tensor mean, Tensor log_std, Tensor seed, int64_t steps, int64_t first_step, int64_t first_element) {
  Tensor out = empty_train(mean, steps);
  const Numbering n = number_neurons(mean, 0);
  CodingCall call = describe(n, mean, {seed, first_step, first_element}, steps);
  call.mean = train(n, mean, true);
  call.log_std = train(n, log_std, true);
  call.out = written(n, out, false);
  over_tiles(call,
             [&](const Kernels& chosen, int64_t begin, int64_t end) { chosen.encode_gaussian(call, begin, end); });
  return out;
}

std::vector<Tensor> backward(Tensor grad_out, Tensor log_std, Tensor seed, int64_t first_step, int64_t first_element,
                             int64_t needs) {
  const GaussianGradients g(log_std, needs);
  const Numbering n = number_neurons(grad_out, 1);
  CodingCall call = describe(n, log_std, {seed, first_step, first_element}, grad_out.size(0));
  call.log_std = train(n, log_std, true);
  call.grad_out = train(n, grad_out, false);
  if (g.mean) call.grad_mean = written(n, *g.mean, true);
  if (g.log_std) call.grad_log_std = written(n, *g.log_std, true);
  over_tiles(call,
             [&](const Kernels& chosen, int64_t begin, int64_t end) { chosen.gaussian_backward(call, begin, end); });
  return g.needed();
}

Tensor poisson(Tensor probability, Tensor seed, int64_t steps, int64_t first_step, int64_t first_element) {
  Tensor out = empty_train(probability, steps);
  const Numbering n = number_neurons(probability, 0);
  CodingCall call = describe(n, probability, {seed, first_step, first_element}, steps);
  call.probability = train(n, probability, true);
  call.out = written(n, out, false);
  std::atomic<bool> valid{true};
  over_tiles(call, [&](const Kernels& chosen, int64_t begin, int64_t end) {
    if (!chosen.encode_poisson(call, begin, end)) valid = false;
  });
  STD_TORCH_CHECK(valid, HNN_NO_PROBABILITY);
  return out;
}

}  // namespace
}  // namespace hnn

STABLE_TORCH_LIBRARY_IMPL(hnn, CPU, m) {
  m.impl("gaussian_forward_cpu", TORCH_BOX(&hnn::gaussian));
  m.impl("gaussian_backward_cpu", TORCH_BOX(&hnn::backward));
  m.impl("poisson_forward_cpu", TORCH_BOX(&hnn::poisson));
}
