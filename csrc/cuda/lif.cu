// A call of the layer on a GPU: it is described, its kernel is launched on the current stream, and the gradients of its
// coefficients are summed. The operators hnn::lif_forward_cuda and hnn::lif_backward_cuda. Nothing waits for the device
// and all memory comes from torch, so a CUDA graph can capture a call. The arguments were checked in Python.
#include <algorithm>
#include <string>
#include <vector>

#include "../host.h"
#include "lif.h"
#ifndef HNN_CUDA_ON_HOST
#include "device.h"
#endif
#include "choose.h"
#include "describe.h"
#include "sums.h"

namespace hnn::cuda {
namespace {

int64_t slots(const Filter& filter, bool backward) {
  return hnn_cuda::workspace_slots(filter.feedback.count, filter.feedforward.count - 1, backward);
}

// Null where there is no element to write.
void* data(const std::optional<View>& tensor) { return tensor && tensor->numel() > 0 ? tensor->data_ptr() : nullptr; }

// -- forward ----------------------------------------------------------------------------------------------------------

void forward(const Arguments& a, const Outputs& result) {
  const Device device(a.current);
  const Numbering n = a.numbering();
  const Form form = form_of(a);
  Described<ForwardCall> call(a, n);
  if (result.out) call.out = train(n, *result.out, a.count());
  if (result.potential) call.potential_out = train(n, *result.potential, !a.potential_train());
  call.peak = data(result.peak);
  call.checkpoints = data(result.checkpoints);
#define HNN_DESCRIBE(name, Name) call.after_##name = data(result.name);
  HNN_STATES(HNN_DESCRIBE)
#undef HNN_DESCRIBE
  const auto filter = [&](Filter& f, const std::optional<View>& after) {
    f.after = data(after);
    if (form == kAnything && f.present) f.workspace = call.workspace(a.current, slots(f, /*backward=*/false));
  };
#define HNN_DESCRIBE(name, Name) filter(call.name, result.name);
  HNN_FILTERS(HNN_DESCRIBE)
#undef HNN_DESCRIBE
  call.arrange(n, {&call.out, &call.potential_out});
  const auto chosen = choose(call, a.current.scalar_type(), form, device.size().multiprocessors,
                             [](const Kernels& kernels) { return kernels.forward; });
  device.launch<ForwardCall>(chosen.kernel, n.neurons / chosen.lanes, kForwardBlock, 0, call);
}

// -- backward ---------------------------------------------------------------------------------------------------------

// Blocks of the backward kernel whose shared memory (V of one segment, R where coefficients are learnt, ...) fits a
// multiprocessor: the segments are as long as that allows. With one neuron per thread, 576 threads have 4 to 8 loads in
// flight each; with several, 320 have as many of 64 bits. On an H100 that is 24 KiB a block, 96 steps in float32, and
// 44 KiB, 88 steps of two neurons. Where a step of a thread takes more, segments are short in any case, and 384 threads
// are worth more than a few steps that need not be read again: 37 KiB, 36 steps of four neurons. With one neuron and
// four rows, 512 threads have 26 steps in a segment, where 576 had 23: the 25 of a usual call are one. More rows are
// those of two filters that learn, whose registers let 384 threads run: they have 28 steps.
int resident(int lanes, int rows) {
  if (lanes > 1) return lanes * rows > 2 ? 6 : 5;
  return rows > 4 ? 6 : rows > 3 ? 8 : 9;
}
// Segments of one neuron's steps are a multiple of this where there are several: two groups of loads (Reader).
constexpr int kSegmentStep = 8;
// Of every block, for the system; and the most that a block gets without an attribute of its kernel.
constexpr int64_t kReservedBytes = 1 << 10;
constexpr int64_t kMostSharedBytes = 48 << 10;

// The rows of shared memory that the options need, and how many steps of them fit. Returns their bytes per block.
// `back`: the steps before a segment that the kernel keeps for the coefficients of a filter.
int64_t divide(BackwardCall& call, const Arguments& a, const Gradients& g, int lanes, int back,
               int64_t multiprocessor_bytes) {
  const auto need = [&](Gradient which) { return g[which].has_value(); };
  int rows = a.membrane() ? 1 : 0;
  const auto row = [&](bool kept) { return kept ? rows++ : -1; };
  bool learns = false;
#define HNN_ADD(name, Name) learns |= need(k##Name);
  HNN_COEFFICIENTS(HNN_ADD)
#undef HNN_ADD
  const auto reads = hnn_cuda::accumulate_reads(a.options());
#define HNN_ADD(name, Name) const int row_##name = row(learns && reads.name);
  HNN_LATER_STATES(HNN_ADD)
#undef HNN_ADD
  const int membrane_rows = rows;
  const int x = row(need(kSynapseFeedforward)), y = row(need(kSynapseFeedback)), f = row(need(kAxonFeedback));
  call.rows = rows;
  if (rows == 0) {  // a filter alone, none of whose coefficients is learnt: nothing is computed again
    call.window = call.steps;
    call.windows = 1;
  }
  const int64_t row_bytes = kBackwardBlock * lanes * (state_dtype(a.current) == ScalarType::Double ? 8 : 4);
  const int64_t block_bytes = multiprocessor_bytes / resident(lanes, rows) - kReservedBytes;
  // Before the first step is what decays into it, and before each row of a filter its history.
  const int before = std::max(back, 1) + back * (rows - membrane_rows);
  const int64_t fit = std::min(block_bytes, kMostSharedBytes) / row_bytes - before;
  int64_t most = rows ? std::min<int64_t>(fit / rows, call.window) : call.window;
  if (lanes == 1 && most < call.window && most > kSegmentStep) most -= most % kSegmentStep;
  call.segment = static_cast<int>(std::max<int64_t>(most, 1));
  const auto place = [&](int& at, int index) {
    if (index < 0) return;
    at = (index * call.segment + back * std::max(index - membrane_rows + 1, 0)) * kBackwardBlock;
  };
#define HNN_PLACE(name, Name) place(call.row_##name, row_##name);
  HNN_LATER_STATES(HNN_PLACE)
#undef HNN_PLACE
  place(call.row_x, x);
  place(call.row_y, y);
  place(call.row_f, f);
  return rows ? (rows * call.segment + before) * row_bytes : 0;
}

void backward(const Incoming& incoming, const Arguments& a, const Gradients& g) {
  const Device device(a.current);
  const Numbering n = a.numbering();
  const Form form = form_of(a);
  Described<BackwardCall> call(a, n);
  if (incoming.out) call.grad_out = train(n, *incoming.out, a.count());
  if (incoming.potential) call.grad_potential = train(n, *incoming.potential, !a.potential_train());
  call.peak = data(incoming.peak);
  const auto grad_current = g[kCurrent];
  if (data(grad_current)) call.grad_current = train(n, *grad_current, a.constant());
  std::vector<PerNeuron*> operands;
#define HNN_DESCRIBE(name, Name)                                                      \
  per_neuron(call.grad_after_##name, n, a.membrane() ? incoming.name : std::nullopt); \
  call.after_##name = data(g[k##Name]);                                               \
  operands.push_back(&call.grad_after_##name);
  HNN_STATES(HNN_DESCRIBE)
#undef HNN_DESCRIBE

  Sums sums(n);
  const auto learn = [&](Gradient which, void*& partial, bool leading) {
    if (!data(g[which])) return false;
    sums.add(*g[which], leading, partial);
    return true;
  };
#define HNN_DESCRIBE(name, Name) learn(k##Name, call.partial_##name, false);
  HNN_COEFFICIENTS(HNN_DESCRIBE)
#undef HNN_DESCRIBE
  const auto filter = [&](Filter& f, const std::optional<View>& grad_after, Gradient feedback, Gradient feedforward,
                          Gradient state) {
    if (!f.present) return;
    per_neuron(f.grad_after, n, grad_after, 1);
    f.after = data(g[state]);
    f.learns = learn(feedback, f.partial_feedback, true);
    f.learns |= learn(feedforward, f.partial_feedforward, true);
    if (form == kAnything) f.workspace = call.workspace(a.current, slots(f, /*backward=*/true));
  };
#define HNN_DESCRIBE(name, Name) \
  filter(call.name, incoming.name, k##Name##Feedback, k##Name##Feedforward, k##Name##State);
  HNN_FILTERS(HNN_DESCRIBE)
#undef HNN_DESCRIBE
  call.arrange(n, {&call.grad_out, &call.grad_potential, &call.grad_current}, operands);

  const bool learns = !sums.empty();
  if (learns) sums.allocate(call, a.current);
  const auto chosen = choose(call, a.current.scalar_type(), form, device.size().multiprocessors,
                             [=](const Kernels& kernels) { return kernels.backward[learns]; });
  const int back = learns ? kernels_of(a.current.scalar_type(), form).back : 0;
  const int64_t shared_bytes = divide(call, a, g, chosen.lanes, back, device.size().shared_bytes);
  if (call.windows > 1) call.checkpoints = incoming.checkpoints->data_ptr();
  const auto segments = [&](int steps) { return (steps + call.segment - 1) / call.segment; };
  call.segments = segments(call.window);
  call.last_segments = segments(std::min(call.window, call.steps - (call.windows - 1) * call.window));
  const bool all_starts = form == kAnything && (call.synapse.learns || call.axon.learns);  // as the kernel has it
  call.slots = std::max(call.segments - (all_starts ? 0 : 1), 0) + (call.windows > 1);
  if (call.slots) call.starts = call.workspace(a.current, int64_t{call.slots} * call.depth);
  device.launch<BackwardCall>(chosen.kernel, n.neurons / chosen.lanes, kBackwardBlock, shared_bytes, call);
  if (learns) sums.add_up(device, call, a.current);
}

}  // namespace

std::vector<Kernel> kernels() {
  std::vector<Kernel> result{{"add_up<float64>", reinterpret_cast<const void*>(hnn_cuda::add_up<double>)},
                             {"add_up<float32>", reinterpret_cast<const void*>(hnn_cuda::add_up<float>)}};
  for (const auto& [dtype, name] : kDtypes) {
    for (int form = 0; form < kForms; ++form) {
      if (!has_form(dtype, static_cast<Form>(form))) continue;
      const Kernels& kernels = kernels_of(dtype, static_cast<Form>(form));
      const std::string options = std::string("<") + name + ", " + kernels.form;
      result.push_back({"forward" + options + ">", reinterpret_cast<const void*>(kernels.forward.kernel)});
      if (form != kAnything) {  // all of its calls take the kernel that learns
        result.push_back({"backward" + options + ">", reinterpret_cast<const void*>(kernels.backward[0].kernel)});
      }
      if (form == kWideIir20) continue;  // it learns by the kernel of another form
      result.push_back({"backward" + options + ", learns>", reinterpret_cast<const void*>(kernels.backward[1].kernel)});
    }
  }
  return result;
}

std::vector<std::string> own_forms() {
  std::vector<std::string> result;
  for (const auto& [dtype, name] : kDtypes) {
    for (const OwnForm& own : kOwnForms) {
      if (!has_form(dtype, own.usual)) continue;
      std::string& form = result.emplace_back(name);
      for (int64_t one : {own.synapse[0], own.synapse[1], own.axon[0], own.axon[1]}) form += " " + std::to_string(one);
      form += own.reads ? " 1" : " 0";
    }
  }
  return result;
}

}  // namespace hnn::cuda

void hnn::run_forward(const Arguments& a, const Outputs& result) { cuda::forward(a, result); }
void hnn::run_backward(const Incoming& incoming, const Arguments& a, const Gradients& gradients) {
  cuda::backward(incoming, a, gradients);
}

STABLE_TORCH_LIBRARY_IMPL(hnn, HNN_DISPATCH_KEY, m) {
  m.impl("lif_forward_cuda", TORCH_BOX(&hnn::forward_operator<hnn::run_forward>));
  m.impl("lif_backward_cuda", TORCH_BOX(&hnn::backward_operator<hnn::run_backward>));
}
