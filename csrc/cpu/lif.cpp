// The operators hnn::lif_forward_cpu and hnn::lif_backward_cpu: allocate, describe the call, share the tiles among the
// threads, and add up the coefficients' gradients. The arguments were checked in Python.
#include <algorithm>
#include <cstdlib>
#include <memory>
#include <tuple>

#ifdef __linux__
#include <sys/mman.h>
#endif

#include "../tensors.h"
#include "arguments.h"
#include "reduce.h"

namespace hnn {
namespace {

// Outputs from this size on are written past the cache: they would evict the input, and be gone before they are read.
constexpr int64_t kStreamBytes = 8 << 20;
// Outputs from this size on ask for huge pages: below, the allocator hands out memory that it has already touched.
constexpr int64_t kHugeBytes = 4 << 20;
// Scratch per thread for the potentials of a segment: half of a common L2 cache.
constexpr int64_t kScratchBytes = 512 << 10;

DType dtype_of(const Tensor& t) {
  switch (t.scalar_type()) {
    case ScalarType::Double: return kFloat64;
    case ScalarType::Float: return kFloat32;
    case ScalarType::BFloat16: return kBFloat16;
    default: return kFloat16;
  }
}
int64_t size_of(DType dtype) { return dtype == kFloat64 ? 8 : dtype == kFloat32 ? 4 : 2; }

// A train over time; `constant` says that the tensor has no time axis.
Train train(const Numbering& n, const Tensor& t, bool constant) {
  Train result;
  result.data = t.data_ptr();
  result.constant = constant;
  result.step = constant ? 0 : t.strides()[0];
  result.layout = lay_out(n, t, constant ? 0 : 1);
  return result;
}
// A large tensor fresh from the system costs a page fault, and a zeroed page, per 4 KiB of it at the first write: more
// than the kernel itself. Asking for huge pages first makes that one per 2 MiB. Without effect where pages are there.
void prefer_huge_pages(const Tensor& t, int64_t bytes) {
#ifdef __linux__
  constexpr uintptr_t kPage = 4096;
  if (bytes < kHugeBytes) return;
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(t.data_ptr()) + kPage - 1) / kPage * kPage;
  madvise(reinterpret_cast<void*>(begin), bytes - kPage, MADV_HUGEPAGE);
#endif
}

// Write past the cache where every row of a whole tile is aligned to a line.
void prepare_for_writing(Train& train, const Tensor& t, DType dtype) {
  const int64_t bytes = size_of(dtype);
  prefer_huge_pages(t, t.numel() * bytes);
  train.streaming = t.numel() * bytes >= kStreamBytes && train.step * bytes % 64 == 0 &&
                    reinterpret_cast<uintptr_t>(train.data) % 64 == 0;
}
PerNeuron per_neuron(const Numbering& n, const Optional& t, double value = 0) {
  PerNeuron result;
  result.value = value;
  if (t) {
    result.data = t->data_ptr();
    result.layout = lay_out(n, *t, 0);
  }
  return result;
}
void describe(Call& call, const Numbering& n, const Tensor& current, std::optional<int64_t> steps,
              const Optional& decay, const Optional& reset_decay, const Optional& threshold, double decay_value,
              double reset_decay_value, double threshold_value, const Optional& v, const Optional& r, double sigma,
              int64_t surrogate, bool smooth) {
  call.dtype = dtype_of(current);
  call.steps = steps ? *steps : current.size(0);
  call.neurons = n.neurons;
  call.inverse_width = 1 / sigma;
  call.surrogate = static_cast<int>(surrogate);
  call.smooth = smooth;
  call.current = train(n, current, steps.has_value());
  call.decay = per_neuron(n, decay, decay_value);
  call.reset_decay = per_neuron(n, reset_decay, reset_decay_value);
  call.threshold = per_neuron(n, threshold, threshold_value);
  call.v = per_neuron(n, v);
  call.r = per_neuron(n, r);
}

int64_t tiles(const Call& call) { return (call.neurons + kTile - 1) / kTile; }
// Tiles that are worth waking a thread for: about 32k neuron-steps, some 10 us.
int64_t grain(const Call& call) { return std::max<int64_t>(1, 32768 / (kTile * std::max<int64_t>(1, call.steps))); }

std::tuple<Tensor, Tensor, Tensor> lif_forward(const Tensor& current, std::optional<int64_t> steps,
                                               const Optional& decay, const Optional& reset_decay,
                                               const Optional& threshold, double decay_value, double reset_decay_value,
                                               double threshold_value, const Optional& v, const Optional& r,
                                               double sigma, int64_t surrogate, bool count, bool smooth) {
  Outputs result = allocate_outputs(current, steps, count);
  const Numbering n = number_neurons(current, steps ? 0 : 1);
  ForwardCall call;
  describe(call, n, current, steps, decay, reset_decay, threshold, decay_value, reset_decay_value, threshold_value, v,
           r, sigma, surrogate, smooth);
  call.out = train(n, result.out, count);
  prepare_for_writing(call.out, result.out, call.dtype);
  call.last_v = per_neuron(n, result.v);
  call.last_r = per_neuron(n, result.r);
  const Kernels& chosen = kernels();  // here, because it may throw, which no thread of the loop may
  torch::stable::parallel_for(0, tiles(call), grain(call),
                              [&](int64_t begin, int64_t end) { chosen.forward(call, begin, end); });
  return {result.out, result.v, result.r};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> lif_backward(
    const Optional& grad_out, const Optional& grad_v, const Optional& grad_r, const Tensor& current,
    std::optional<int64_t> steps, const Optional& decay, const Optional& reset_decay, const Optional& threshold,
    double decay_value, double reset_decay_value, double threshold_value, const Optional& v, const Optional& r,
    double sigma, int64_t surrogate, bool count, bool smooth, int64_t reset_grad, int64_t needs) {
  const bool constant = steps.has_value();
  const Gradients6 g = allocate_gradients(current, constant, decay, reset_decay, threshold, needs);
  const Numbering n = number_neurons(current, constant ? 0 : 1);
  BackwardCall call;
  describe(call, n, current, steps, decay, reset_decay, threshold, decay_value, reset_decay_value, threshold_value, v,
           r, sigma, surrogate, smooth);
  call.reset_grad = static_cast<int>(reset_grad);
  if (grad_out) call.grad_out = train(n, *grad_out, count);
  call.grad_last_v = per_neuron(n, grad_v);
  call.grad_last_r = per_neuron(n, grad_r);
  if (needs & 1) {
    call.grad_current = train(n, g.current, constant);
    prepare_for_writing(call.grad_current, g.current, call.dtype);
  }
  call.grad_current.constant = constant;
  if (needs >> 4 & 1) call.grad_v = per_neuron(n, g.v);
  if (needs >> 5 & 1) call.grad_r = per_neuron(n, g.r);

  const int64_t state_bytes = call.dtype == kFloat64 ? 8 : 4;
  std::unique_ptr<char[]> partials[3];
  for (int i = 0; i < 3; ++i) {
    if (needs >> (i + 1) & 1) partials[i].reset(new char[n.neurons * state_bytes]);
  }
  call.partial_decay = partials[0].get();
  call.partial_reset_decay = partials[1].get();
  call.partial_threshold = partials[2].get();

  const int64_t row = kTile * state_bytes, kept = call.learns() ? 2 : 1;
  call.segment = std::max<int64_t>(1, std::min(call.steps, kScratchBytes / (row * kept)));
  const int64_t segments = (call.steps + call.segment - 1) / call.segment;
  call.scratch_bytes = row * (1 + kept * call.segment + 2 * segments);
  const Kernels& chosen = kernels();
  torch::stable::parallel_for(0, tiles(call), grain(call), [&](int64_t begin, int64_t end) {
    const std::unique_ptr<void, decltype(&std::free)> scratch(std::aligned_alloc(64, call.scratch_bytes), &std::free);
    STD_TORCH_CHECK(scratch, "out of memory: ", call.scratch_bytes, " bytes of scratch");
    chosen.backward(call, scratch.get(), begin, end);
  });

  const Tensor* sums[3] = {&g.decay, &g.reset_decay, &g.threshold};
  for (int i = 0; i < 3; ++i) {
    if (partials[i]) {
      reduce(partials[i].get(), call.dtype == kFloat64, n.neurons, lay_out(n, *sums[i], 0), sums[i]->data_ptr(),
             sums[i]->numel());
    }
  }
  return {g.current, g.decay, g.reset_decay, g.threshold, g.v, g.r};
}

}  // namespace
}  // namespace hnn

STABLE_TORCH_LIBRARY_IMPL(hnn, CPU, m) {
  m.impl("lif_forward_cpu", TORCH_BOX(&hnn::lif_forward));
  m.impl("lif_backward_cpu", TORCH_BOX(&hnn::lif_backward));
}
