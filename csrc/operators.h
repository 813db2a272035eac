// The operators' arguments as structs, once for the CPU and the CUDA host, and the functions that unpack them. The
// schemas are in hnn_kernels/_ops/layer.py; the arguments were checked in Python.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "tensors.h"

namespace hnn {

// The code of ops.NO_MEMBRANE; the others are in neuron.h.
constexpr int64_t kResetNoMembrane = 4;

// A filter's coefficients are tensors [P, ...] and [Q + 1, ...], or lists of floats where those are null.
struct FilterArguments {
  Optional feedback, feedforward, state;
  std::vector<double> feedback_values, feedforward_values;

  int64_t taps_back() const { return feedback ? feedback->size(0) : static_cast<int64_t>(feedback_values.size()); }
  int64_t taps_forward() const {
    return feedforward ? feedforward->size(0) : static_cast<int64_t>(feedforward_values.size());
  }
  bool present() const { return taps_forward() > 0; }
  int64_t depth() const { return present() ? taps_back() + taps_forward() - 1 : 0; }  // P + Q
};

struct Arguments {
  Tensor current;
  Optional decay, reset_decay, threshold, v, r;
  FilterArguments synapse, axon;
  std::optional<int64_t> constant_steps;  // T of a current that is constant in time
  double decay_value, reset_decay_value, threshold_value, width;
  int64_t surrogate, reset, reset_grad;
  bool count, smooth, return_state;
  int64_t checkpoint_every;

  bool constant() const { return constant_steps.has_value(); }
  int64_t steps() const { return constant_steps ? *constant_steps : current.size(0); }
  bool membrane() const { return reset != kResetNoMembrane; }
  std::vector<int64_t> shape() const {  // [B, *features]
    const auto sizes = current.sizes();
    return {sizes.begin() + (constant() ? 0 : 1), sizes.end()};
  }
  Numbering numbering() const { return number_neurons(current, constant() ? 0 : 1); }
  int64_t state_depth() const { return 2 + synapse.depth() + axon.depth(); }
  // Steps from one checkpoint to the next, and how many checkpoints there are; one window where none are kept.
  int64_t window() const {
    return checkpoint_every ? std::min(checkpoint_every, std::max<int64_t>(steps(), 1)) : steps();
  }
  int64_t checkpoints() const { return steps() ? (steps() - 1) / window() : 0; }
};

// Gradients that come in, null where there is none, and the checkpoints that forward left.
struct Incoming {
  Optional out, v, r, synapse, axon, checkpoints;
};

// What forward puts out, in the order of ops.OUTPUTS; null where the call has none.
struct Outputs {
  Tensor out;
  Optional v, r, synapse, axon, checkpoints;
};

// Indices into Gradients, and the bits of `needs`: the order of ops.TENSORS.
// clang-format off
enum Gradient {
  kCurrent, kDecay, kResetDecay, kThreshold, kV, kR, kSynapseFeedback, kSynapseFeedforward, kSynapseState,
  kAxonFeedback, kAxonFeedforward, kAxonState, kGradients
};
// clang-format on
using Gradients = std::array<Optional, kGradients>;  // null where not needed

inline Outputs allocate_outputs(const Arguments& a) {
  const auto shape = a.shape();
  const ScalarType state = state_dtype(a.current);
  const auto with_axis = [&](int64_t size) {
    std::vector<int64_t> sizes{size};
    sizes.insert(sizes.end(), shape.begin(), shape.end());
    return sizes;
  };
  const auto when = [&](bool wanted, const std::vector<int64_t>& sizes) {
    return wanted ? Optional(torch::stable::new_empty(a.current, sizes, state)) : std::nullopt;
  };
  int64_t neurons = 1;
  for (int64_t size : shape) neurons *= size;
  return {a.count        ? torch::stable::new_empty(a.current, shape)
          : a.constant() ? empty_train(a.current, a.steps())
                         : torch::stable::empty_like(a.current),
          when(a.return_state && a.membrane(), shape),
          when(a.return_state && a.membrane(), shape),
          when(a.return_state && a.synapse.present(), with_axis(a.synapse.depth())),
          when(a.return_state && a.axon.present(), with_axis(a.axon.depth())),
          when(a.checkpoint_every > 0, {a.checkpoints(), a.state_depth(), neurons})};
}

inline Gradients allocate_gradients(const Arguments& a, int64_t needs) {
  const ScalarType state = state_dtype(a.current);
  const auto like = [&](Gradient which, const Optional& tensor) {
    return needs >> which & 1 ? Optional(torch::stable::new_empty(a.current, tensor->sizes(), state)) : std::nullopt;
  };
  return {needs & 1 ? Optional(torch::stable::empty_like(a.current)) : std::nullopt,
          like(kDecay, a.decay),
          like(kResetDecay, a.reset_decay),
          like(kThreshold, a.threshold),
          like(kV, a.v),
          like(kR, a.r),
          like(kSynapseFeedback, a.synapse.feedback),
          like(kSynapseFeedforward, a.synapse.feedforward),
          like(kSynapseState, a.synapse.state),
          like(kAxonFeedback, a.axon.feedback),
          like(kAxonFeedforward, a.axon.feedforward),
          like(kAxonState, a.axon.state)};
}

// -- the operators, over a host's functions ---------------------------------------------------------------------------

// clang-format off
#define HNN_LAYER_PARAMETERS                                                                                         \
  Tensor current, Optional decay, Optional reset_decay, Optional threshold, Optional v, Optional r,                  \
  Optional synapse_feedback, Optional synapse_feedforward, Optional synapse_state,                                   \
  Optional axon_feedback, Optional axon_feedforward, Optional axon_state, std::optional<int64_t> steps,              \
  double decay_value, double reset_decay_value, double threshold_value,                                              \
  std::vector<double> synapse_feedback_values, std::vector<double> synapse_feedforward_values,                       \
  std::vector<double> axon_feedback_values, std::vector<double> axon_feedforward_values,                             \
  double width, int64_t surrogate, int64_t reset, int64_t reset_grad, bool count, bool smooth, bool return_state,    \
  int64_t checkpoint_every
#define HNN_LAYER_ARGUMENTS                                                                                          \
  Arguments{current, decay, reset_decay, threshold, v, r,                                                            \
            {synapse_feedback, synapse_feedforward, synapse_state, synapse_feedback_values, synapse_feedforward_values}, \
            {axon_feedback, axon_feedforward, axon_state, axon_feedback_values, axon_feedforward_values},            \
            steps, decay_value, reset_decay_value, threshold_value, width, surrogate, reset, reset_grad,             \
            count, smooth, return_state, checkpoint_every}
// clang-format on

template <Outputs (*forward)(const Arguments&)>
std::vector<Tensor> forward_operator(HNN_LAYER_PARAMETERS) {
  Outputs o = forward(HNN_LAYER_ARGUMENTS);
  std::vector<Tensor> result{std::move(o.out)};
  for (Optional* output : {&o.v, &o.r, &o.synapse, &o.axon, &o.checkpoints}) {
    if (*output) result.push_back(std::move(**output));
  }
  return result;
}

template <Gradients (*backward)(const Incoming&, const Arguments&, int64_t needs)>
std::vector<Tensor> backward_operator(Optional grad_out, Optional grad_v, Optional grad_r, Optional grad_synapse_state,
                                      Optional grad_axon_state, Optional checkpoints, HNN_LAYER_PARAMETERS,
                                      int64_t needs) {
  Gradients gradients = backward({grad_out, grad_v, grad_r, grad_synapse_state, grad_axon_state, checkpoints},
                                 HNN_LAYER_ARGUMENTS, needs);
  std::vector<Tensor> result;
  for (Optional& gradient : gradients) {
    if (gradient) result.push_back(std::move(*gradient));
  }
  return result;
}

}  // namespace hnn
