// A call of the layer on the CPU: it is described, its tiles are shared among the threads, and the gradients of its
// coefficients are summed. The operators hnn::lif_forward_cpu and hnn::lif_backward_cpu. The arguments were checked in
// Python.
#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "../host.h"
#include "arguments.h"
#include "describe.h"
#include "reduce.h"
#include "tiles.h"

namespace hnn {
namespace {

// The entries of a tensor's first axis; `count` absent entries where there is no tensor.
void append(std::vector<PerNeuron>& to, const Numbering& n, const std::optional<View>& t, int64_t count) {
  PerNeuron entry;
  if (t) entry.layout = lay_out(n, *t, 1);
  const int64_t bytes = t ? t->strides()[0] * static_cast<int64_t>(t->element_size()) : 0;
  for (int64_t i = 0; i < count; ++i) {
    if (t) entry.data = static_cast<char*>(t->data_ptr()) + i * bytes;
    to.push_back(entry);
  }
}

// The arrays that a FilterCall points to.
class FilterOperands {
  using Optional = std::optional<View>;

 public:
  FilterOperands(FilterCall& call, const Numbering& n, const FilterArguments& a) : call_(call), n_(n), a_(a) {
    if (!a.present()) return;
    call.present = true;
    call.feedback = static_cast<int>(a.taps_back());
    call.feedforward = static_cast<int>(a.taps_forward() - 1);
    coefficients(a.feedback, a.feedback_values);
    coefficients(a.feedforward, a.feedforward_values);
    append(history_, n, a.state, a.depth());
    call.coefficients = coefficients_.data();
    call.history = history_.data();
  }
  FilterOperands(const FilterOperands&) = delete;

  void forward(const Optional& last_state) {
    append(last_history_, n_, last_state, a_.depth());
    call_.last_history = last_history_.data();
  }
  void backward(const Optional& grad_last_state, const Optional& grad_state, const Optional& grad_feedback,
                const Optional& grad_feedforward, int64_t state_bytes) {
    append(last_history_, n_, grad_last_state, a_.depth());
    append(grad_history_, n_, grad_state, a_.depth());
    call_.grad_last_history = last_history_.data();
    call_.grad_history = grad_history_.data();
    call_.learns = grad_feedback || grad_feedforward;
    learnt_[0] = {grad_feedback, a_.taps_back()};
    learnt_[1] = {grad_feedforward, a_.taps_forward()};
    for (const auto& [gradient, taps] : learnt_) {
      for (int64_t i = 0; i < taps; ++i) {
        sums_.emplace_back(gradient ? new char[n_.neurons * state_bytes] : nullptr);
        partials_.push_back(PerNeuron::dense(sums_.back().get(), n_.neurons));
      }
    }
    call_.partials = partials_.data();
  }
  // Sums the partial sums of the neurons to the gradients of the coefficients.
  void finish(bool is_double) const {
    size_t sum = 0;
    for (const auto& [gradient, taps] : learnt_) {
      for (int64_t i = 0; i < taps; ++i, ++sum) {
        if (!gradient) continue;
        const int64_t size = gradient->numel() / taps, bytes = size * (is_double ? 8 : 4);
        reduce(sums_[sum].get(), is_double, n_.neurons, lay_out(n_, *gradient, 1),
               static_cast<char*>(gradient->data_ptr()) + i * bytes, size);
      }
    }
  }

 private:
  void coefficients(const Optional& t, const std::vector<double>& values) {
    append(coefficients_, n_, t, t ? t->size(0) : 0);
    if (t) return;
    for (double value : values) {
      PerNeuron entry;
      entry.value = value;
      coefficients_.push_back(entry);
    }
  }
  FilterCall& call_;
  const Numbering& n_;
  const FilterArguments& a_;
  std::vector<PerNeuron> coefficients_, history_, last_history_, grad_history_, partials_;
  std::pair<Optional, int64_t> learnt_[2];
  std::vector<std::unique_ptr<char[]>> sums_;
};

// The part of a call that forward and backward share. The operands of the filters live as long as the call.
struct Described {
  Numbering n;
  Call call;
  FilterOperands synapse, axon;

  explicit Described(const Arguments& a)
      : n(a.numbering()), synapse(call.synapse, n, a.synapse), axon(call.axon, n, a.axon) {
    call.dtype = dtype_of(a.current);
    call.steps = a.length();
    call.neurons = n.neurons;
    call.inverse_width = 1 / a.width;
    call.scale = a.scale;
    static_cast<Options&>(call) = a.options();
    call.current = train(n, a.current, a.constant());
#define HNN_DESCRIBE(name, Name) call.name = per_neuron(n, a.name, a.name##_value);
    HNN_COEFFICIENTS(HNN_DESCRIBE)
#undef HNN_DESCRIBE
#define HNN_DESCRIBE(name, Name) call.name = per_neuron(n, a.name);
    HNN_STATES(HNN_DESCRIBE)
#undef HNN_DESCRIBE
    call.window = std::max<int64_t>(1, a.window());
  }
};

template <class Run>
void over_tiles(Call& call, bool backward, Run run) {
  const Kernels& chosen = kernels();  // here, because it may throw, which no thread of the loop may
  share_tiles(call.neurons, call.steps, chosen.scratch_bytes(call, backward),
              [&](void* scratch, int64_t begin, int64_t end) { run(chosen, scratch, begin, end); });
}

}  // namespace

void run_forward(const Arguments& a, const Outputs& result) {
  Described d(a);
  Call& call = d.call;
  if (result.out) call.out = written(d.n, *result.out, a.count());
  if (result.potential) call.potential_out = written(d.n, *result.potential, !a.potential_train());
  call.peak = per_neuron(d.n, result.peak);
#define HNN_DESCRIBE(name, Name) call.last_##name = per_neuron(d.n, result.name);
  HNN_STATES(HNN_DESCRIBE)
#undef HNN_DESCRIBE
#define HNN_DESCRIBE(name, Name) d.name.forward(result.name);
  HNN_FILTERS(HNN_DESCRIBE)
#undef HNN_DESCRIBE
  if (result.checkpoints) call.checkpoints = result.checkpoints->data_ptr();
  over_tiles(call, false, [&](const Kernels& chosen, void* scratch, int64_t begin, int64_t end) {
    chosen.forward(call, scratch, begin, end);
  });
}

void run_backward(const Incoming& incoming, const Arguments& a, const Gradients& g) {
  Described d(a);
  Call& call = d.call;
  if (incoming.out) call.grad_out = train(d.n, *incoming.out, a.count());
  if (incoming.potential) call.grad_potential = train(d.n, *incoming.potential, !a.potential_train());
  call.peak = per_neuron(d.n, incoming.peak);
#define HNN_DESCRIBE(name, Name)                          \
  call.grad_last_##name = per_neuron(d.n, incoming.name); \
  call.grad_##name = per_neuron(d.n, g[k##Name]);
  HNN_STATES(HNN_DESCRIBE)
#undef HNN_DESCRIBE
  if (g[kCurrent]) call.grad_current = written(d.n, *g[kCurrent], a.constant());
  call.grad_current.constant = a.constant();
  if (incoming.checkpoints) call.checkpoints = incoming.checkpoints->data_ptr();

  const int64_t state_bytes = call.dtype == kFloat64 ? 8 : 4;
  std::unique_ptr<char[]> partials[kGradients];
  const auto sums = [&](Gradient which) {
    if (g[which]) partials[which].reset(new char[d.n.neurons * state_bytes]);
    return PerNeuron::dense(partials[which].get(), d.n.neurons);
  };
#define HNN_DESCRIBE(name, Name) call.partial_##name = sums(k##Name);
  HNN_COEFFICIENTS(HNN_DESCRIBE)
#undef HNN_DESCRIBE
#define HNN_DESCRIBE(name, Name) \
  d.name.backward(incoming.name, g[k##Name##State], g[k##Name##Feedback], g[k##Name##Feedforward], state_bytes);
  HNN_FILTERS(HNN_DESCRIBE)
#undef HNN_DESCRIBE

  over_tiles(call, true, [&](const Kernels& chosen, void* scratch, int64_t begin, int64_t end) {
    chosen.backward(call, scratch, begin, end);
  });

  const bool is_double = call.dtype == kFloat64;
  for (int i = 0; i < kGradients; ++i) {
    if (!partials[i]) continue;
    const View& sum = *g[i];
    reduce(partials[i].get(), is_double, d.n.neurons, lay_out(d.n, sum, 0), sum.data_ptr(), sum.numel());
  }
#define HNN_FINISH(name, Name) d.name.finish(is_double);
  HNN_FILTERS(HNN_FINISH)
#undef HNN_FINISH
}

}  // namespace hnn

STABLE_TORCH_LIBRARY_IMPL(hnn, CPU, m) {
  m.impl("lif_forward_cpu", TORCH_BOX(&hnn::forward_operator<hnn::run_forward>));
  m.impl("lif_backward_cpu", TORCH_BOX(&hnn::backward_operator<hnn::run_backward>));
}
