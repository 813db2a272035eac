// The operators hnn::lif_forward_cuda and hnn::lif_backward_cuda: allocate, describe the call, launch on the current
// stream, and add up the coefficients' gradients. Nothing waits for the device and all memory comes from torch, so a
// CUDA graph can capture a call. The arguments were checked in Python.
#include <algorithm>
#include <string>
#include <vector>

#include "../operators.h"
#include "lif.h"
#ifndef HNN_CUDA_ON_HOST
#include "device.h"
#endif
#include "choose.h"
#include "describe.h"

namespace hnn::cuda {
namespace {

int64_t slots(const Filter& filter, bool backward) {
  return hnn_cuda::workspace_slots(filter.feedback.count, filter.feedforward.count - 1, backward);
}

// Null where there is no element to write.
void* data(const Optional& tensor) { return tensor && tensor->numel() > 0 ? tensor->data_ptr() : nullptr; }

// -- forward ----------------------------------------------------------------------------------------------------------

Outputs forward(const Arguments& a) {
  const Device device(a.current);
  Outputs result = allocate_outputs(a);
  const Numbering n = a.numbering();
  const Form form = form_of(a);
  Described<ForwardCall> call(a, n);
  call.out = train(n, result.out, a.count);
  call.after_v = data(result.v);
  call.after_r = data(result.r);
  call.checkpoints = data(result.checkpoints);
  call.synapse.after = data(result.synapse);
  call.axon.after = data(result.axon);
  for (Filter* filter : {&call.synapse, &call.axon}) {
    if (form != kGeneral || !filter->present) continue;
    filter->workspace = call.workspace(a.current, slots(*filter, /*backward=*/false));
  }
  call.merge_axes(n, {&call.out.stride});
  device.launch<ForwardCall>(kernels_of(a.current.scalar_type(), form).forward, n.neurons, kForwardBlock, 0, call);
  return result;
}

// -- backward ---------------------------------------------------------------------------------------------------------

// A coefficient's gradient of every neuron, to be added up; of a filter with its axis of taps in front (`leading`).
struct Partial {
  Tensor gradient;
  Tensor values;
  bool leading;

  // Room in which neuron m (of each tap) is the m-th element.
  Partial(const Tensor& gradient, const Numbering& n, const Tensor& current, bool leading)
      : gradient(gradient), values(room(gradient, n, current, leading)), leading(leading) {}

  static Tensor room(const Tensor& gradient, const Numbering& n, const Tensor& current, bool leading) {
    const std::vector<int64_t> taps = leading ? std::vector<int64_t>{gradient.size(0)} : std::vector<int64_t>{};
    return empty_in_order(current, n, state_dtype(current), taps);
  }

  // Add up over the axes that the coefficient is broadcast over; B is always one of them. torch's sum takes the same
  // order every time, so equal calls give equal bits.
  void add_up() const {
    const auto sizes = gradient.sizes();
    const int64_t dims = values.dim(), missing = dims - static_cast<int64_t>(sizes.size());
    std::vector<int64_t> shape(dims, 1), over;
    if (leading) shape[0] = sizes[0];
    for (int64_t i = leading; i < dims; ++i) {
      if (i >= missing + leading) shape[i] = sizes[i - missing];
      if (shape[i] == 1) over.push_back(i);
    }
    Tensor out = torch::stable::view(gradient, shape);
    torch::stable::sum_out(out, values, over, /*keepdim=*/true);
  }
};

int64_t row_bytes(const Arguments& a) {
  return kBackwardBlock * (state_dtype(a.current) == ScalarType::Double ? 8 : 4);
}

// The rows of shared memory that the options need, and how many steps of them fit.
void divide(BackwardCall& call, const Arguments& a, int64_t needs) {
  const auto need = [&](Gradient which) { return (needs >> which & 1) != 0; };
  int rows = a.membrane() ? 1 : 0;
  const auto row = [&](bool kept) { return kept ? rows++ : -1; };
  const int r = row(a.reset == hnn_cuda::kFilter && (need(kDecay) || need(kResetDecay) || need(kThreshold)));
  const int x = row(need(kSynapseFeedforward)), y = row(need(kSynapseFeedback)), f = row(need(kAxonFeedback));
  call.rows = rows;
  if (rows == 0) {  // a filter alone, none of whose coefficients is learnt: nothing is computed again
    call.window = call.steps;
    call.windows = 1;
  }
  const int64_t step_bytes = rows * row_bytes(a);
  const int64_t most = rows ? std::min<int64_t>(kSharedBytes / step_bytes, call.window) : call.window;
  call.segment = static_cast<int>(std::max<int64_t>(most, 1));
  const auto place = [&](int& at, int index) { at = index < 0 ? -1 : index * call.segment * kBackwardBlock; };
  place(call.row_r, r);
  place(call.row_x, x);
  place(call.row_y, y);
  place(call.row_f, f);
}

Gradients backward(const Incoming& incoming, const Arguments& a, int64_t needs) {
  const Device device(a.current);
  Gradients g = allocate_gradients(a, needs);
  const Numbering n = a.numbering();
  const Form form = form_of(a);
  Described<BackwardCall> call(a, n);
  if (incoming.out) call.grad_out = train(n, *incoming.out, a.count);
  per_neuron(call.grad_after_v, n, a.membrane() ? incoming.v : std::nullopt);
  per_neuron(call.grad_after_r, n, a.membrane() ? incoming.r : std::nullopt);
  const Optional grad_current = g[kCurrent];
  if (data(grad_current)) call.grad_current = train(n, *grad_current, a.constant());
  call.after_v = data(g[kV]);
  call.after_r = data(g[kR]);

  std::vector<Partial> partials;
  const auto learn = [&](Gradient which, void*& to, bool leading) {
    const Optional gradient = g[which];
    if (!data(gradient)) return false;
    to = partials.emplace_back(*gradient, n, a.current, leading).values.data_ptr();
    return true;
  };
  learn(kDecay, call.partial_decay, false);
  learn(kResetDecay, call.partial_reset_decay, false);
  learn(kThreshold, call.partial_threshold, false);
  const auto filter = [&](Filter& f, const Optional& grad_after, Gradient feedback, Gradient feedforward,
                          Gradient state) {
    if (!f.present) return;
    per_neuron(f.grad_after, n, grad_after, 1);
    f.after = data(g[state]);
    f.learns = learn(feedback, f.partial_feedback, true);
    f.learns |= learn(feedforward, f.partial_feedforward, true);
    if (form == kGeneral) f.workspace = call.workspace(a.current, slots(f, /*backward=*/true));
  };
  filter(call.synapse, incoming.synapse, kSynapseFeedback, kSynapseFeedforward, kSynapseState);
  filter(call.axon, incoming.axon, kAxonFeedback, kAxonFeedforward, kAxonState);
  call.merge_axes(
      n, {&call.grad_out.stride, &call.grad_current.stride, &call.grad_after_v.stride, &call.grad_after_r.stride});

  divide(call, a, needs);
  if (call.windows > 1) call.checkpoints = incoming.checkpoints->data_ptr();
  const bool learns = !partials.empty();
  const int segments = call.window ? (call.window - 1) / call.segment + 1 : 0;
  const bool all_starts = call.synapse.learns || call.axon.learns;  // as the kernel has it
  call.slots = std::max(segments - (all_starts ? 0 : 1), 0) + (call.windows > 1);
  if (call.slots) call.starts = call.workspace(a.current, int64_t{call.slots} * call.depth);
  device.launch<BackwardCall>(kernels_of(a.current.scalar_type(), form).backward[learns], n.neurons, kBackwardBlock,
                              call.rows * call.segment * row_bytes(a), call);
  for (const Partial& partial : partials) partial.add_up();
  return g;
}

}  // namespace

std::vector<Kernel> kernels() {
  std::vector<Kernel> result;
  for (const auto& [dtype, name] : kDtypes) {
    for (int form = 0; form < kForms; ++form) {
      const Kernels& kernels = kernels_of(dtype, static_cast<Form>(form));
      const std::string options = std::string("<") + name + ", " + kernels.form;
      result.push_back({"forward" + options + ">", reinterpret_cast<const void*>(kernels.forward)});
      result.push_back({"backward" + options + ">", reinterpret_cast<const void*>(kernels.backward[0])});
      result.push_back({"backward" + options + ", learns>", reinterpret_cast<const void*>(kernels.backward[1])});
    }
  }
  return result;
}

}  // namespace hnn::cuda

STABLE_TORCH_LIBRARY_IMPL(hnn, HNN_DISPATCH_KEY, m) {
  m.impl("lif_forward_cuda", TORCH_BOX(&hnn::forward_operator<hnn::cuda::forward>));
  m.impl("lif_backward_cuda", TORCH_BOX(&hnn::backward_operator<hnn::cuda::backward>));
}
