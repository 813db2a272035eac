// The operators' arguments as structs, once for the CPU and the CUDA host, and the functions that unpack them. layer.h
// has the arguments, from the list in hnn_kernels/_layer.py. They were checked in Python.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "layer.h"
#include "tensors.h"
#include "view.h"

namespace hnn {

// A host's functions take views of tensors (view.h): of torch's for an operator, of Python's for a direct call
// (direct.h). Who allocates a tensor keeps it.

// A filter's coefficients are tensors [P, ...] and [Q + 1, ...], or lists of floats where those are null.
struct FilterArguments {
  std::optional<View> feedback, feedforward, state;
  std::vector<double> feedback_values, feedforward_values;

  int64_t taps_back() const { return feedback ? feedback->size(0) : static_cast<int64_t>(feedback_values.size()); }
  int64_t taps_forward() const {
    return feedforward ? feedforward->size(0) : static_cast<int64_t>(feedforward_values.size());
  }
  bool present() const { return taps_forward() > 0; }
  int64_t depth() const { return present() ? taps_back() + taps_forward() - 1 : 0; }  // P + Q
};

struct Arguments {
  using Tensor = View;  // by these names the macros of layer.h know it
  using Optional = std::optional<View>;

  Tensor current;
#define HNN_DECLARE(name, Name) \
  Optional name;                \
  double name##_value;
  HNN_COEFFICIENTS(HNN_DECLARE)
#undef HNN_DECLARE
#define HNN_DECLARE(name, Name) Optional name;
  HNN_STATES(HNN_DECLARE)
#undef HNN_DECLARE
#define HNN_DECLARE(name, Name) FilterArguments name;
  HNN_FILTERS(HNN_DECLARE)
#undef HNN_DECLARE
#define HNN_DECLARE(type, name) type name;
  HNN_SETTINGS(HNN_DECLARE)
#undef HNN_DECLARE

  explicit Arguments(HNN_LAYER_PARAMETERS) : current(std::move(current)) {
#define HNN_TAKE(name, Name)    \
  this->name = std::move(name); \
  this->name##_value = name##_value;
    HNN_COEFFICIENTS(HNN_TAKE)
#undef HNN_TAKE
#define HNN_TAKE(name, Name) this->name = std::move(name);
    HNN_STATES(HNN_TAKE)
#undef HNN_TAKE
#define HNN_TAKE(name, Name)                                                                        \
  this->name = {std::move(name##_feedback), std::move(name##_feedforward), std::move(name##_state), \
                std::move(name##_feedback_values), std::move(name##_feedforward_values)};
    HNN_FILTERS(HNN_TAKE)
#undef HNN_TAKE
#define HNN_TAKE(type, name) this->name = name;
    HNN_SETTINGS(HNN_TAKE)
#undef HNN_TAKE
    if (varying_surrogate) {
      const double* const values = static_cast<const double*>(varying_surrogate->data_ptr());
      this->width = values[0];
      this->scale = values[1];
    }
  }

  // Calls f for each tensor, an absent one included, in the order of Gradient.
  template <class F>
  void each_tensor(F f) {
    f(current);
#define HNN_EACH(name, Name) f(name);
    HNN_COEFFICIENTS(HNN_EACH)
    HNN_STATES(HNN_EACH)
#undef HNN_EACH
#define HNN_EACH(name, Name) \
  f(name.feedback);          \
  f(name.feedforward);       \
  f(name.state);
    HNN_FILTERS(HNN_EACH)
#undef HNN_EACH
  }

  Options options() const {
    Options result;
#define HNN_TAKE(type, name) result.name = static_cast<type>(name);
    HNN_OPTIONS(HNN_TAKE)
#undef HNN_TAKE
    return result;
  }
  bool constant() const { return steps.has_value(); }  // in time, for that many steps
  bool count() const { return readout == kReadCount; }
  bool potential_train() const { return potential == kPotentialTrain; }
  bool membrane() const { return reset != kNoMembrane; }
  int64_t length() const { return steps ? *steps : current.size(0); }
  std::vector<int64_t> shape() const {  // [B, *features]
    const auto sizes = current.sizes();
    return {sizes.begin() + (constant() ? 0 : 1), sizes.end()};
  }
  Numbering numbering() const { return number_neurons(current, constant() ? 0 : 1); }
  int64_t state_depth() const {
    int64_t depth = kStates;
#define HNN_ADD(name, Name) depth += name.depth();
    HNN_FILTERS(HNN_ADD)
#undef HNN_ADD
    return depth;
  }
  // Steps from one checkpoint to the next, and how many checkpoints there are; one window where none are kept.
  int64_t window() const {
    return checkpoint_every ? std::min(checkpoint_every, std::max<int64_t>(length(), 1)) : length();
  }
  int64_t checkpoints() const { return length() ? (length() - 1) / window() : 0; }
};

// The outputs of forward; null where the call has none. T is Tensor, or View.
#define HNN_DECLARE(name, Name) std::optional<T> name;
template <class T>
struct BasicOutputs {
  std::optional<T> out, potential;
  HNN_STATES(HNN_DECLARE)
  HNN_FILTERS(HNN_DECLARE)
  std::optional<T> peak, checkpoints;

#define HNN_GIVE(name, Name) name,
  template <class U>
  BasicOutputs<U> as() const {
    return {out, potential, HNN_STATES(HNN_GIVE) HNN_FILTERS(HNN_GIVE) peak, checkpoints};
  }
#undef HNN_GIVE
};
#undef HNN_DECLARE

// Calls f for each of an Incoming or of Outputs, an absent one included.
template <class B, class F>
void each_output(B& outputs, F f) {
  f(outputs.out);
  f(outputs.potential);
#define HNN_EACH(name, Name) f(outputs.name);
  HNN_STATES(HNN_EACH)
  HNN_FILTERS(HNN_EACH)
#undef HNN_EACH
  f(outputs.peak);
  f(outputs.checkpoints);
}

using Outputs = BasicOutputs<View>;
using Incoming = Outputs;  // gradients, null where there is none, and what forward kept
using Gradients = std::array<std::optional<View>, kGradients>;  // null where not needed

// -- the operators, over a host's functions ---------------------------------------------------------------------------

inline BasicOutputs<Tensor> allocate_outputs(const Tensor& current, const Arguments& a) {
  const auto shape = a.shape();
  const ScalarType state = state_dtype(current);
  const auto with_axis = [&](int64_t size) {
    std::vector<int64_t> sizes{size};
    sizes.insert(sizes.end(), shape.begin(), shape.end());
    return sizes;
  };
  const auto when = [&](bool wanted, const std::vector<int64_t>& sizes) {
    return wanted ? Optional(torch::stable::new_empty(current, sizes, state)) : std::nullopt;
  };
  int64_t neurons = 1;
  for (int64_t size : shape) neurons *= size;
  // A train, or one value per neuron in its dtype.
  const auto train = [&](bool timed) {
    if (!timed) return torch::stable::new_empty(current, shape);
    return a.constant() ? empty_train(current, a.length()) : torch::stable::empty_like(current);
  };
  BasicOutputs<Tensor> result;
  if (a.readout != kReadNone) result.out = train(!a.count());
  if (a.potential != kPotentialNone) result.potential = train(a.potential_train());
#define HNN_ALLOCATE(name, Name) result.name = when(a.return_state && a.membrane(), shape);
  HNN_STATES(HNN_ALLOCATE)
#undef HNN_ALLOCATE
#define HNN_ALLOCATE(name, Name) result.name = when(a.return_state && a.name.present(), with_axis(a.name.depth()));
  HNN_FILTERS(HNN_ALLOCATE)
#undef HNN_ALLOCATE
  result.peak = when(a.potential == kPotentialMax, shape);
  result.checkpoints = when(a.checkpoint_every > 0, {a.checkpoints(), a.state_depth(), neurons});
  return result;
}

inline std::array<Optional, kGradients> allocate_gradients(const Tensor& current, const Arguments& a, int64_t needs) {
  const ScalarType state = state_dtype(current);
  std::array<Optional, kGradients> result;
  const auto like = [&](Gradient which, const std::optional<View>& tensor) {
    if (needs >> which & 1) result[which] = torch::stable::new_empty(current, tensor->sizes(), state);
  };
  if (needs >> kCurrent & 1) result[kCurrent] = torch::stable::empty_like(current);
#define HNN_ALLOCATE(name, Name) like(k##Name, a.name);
  HNN_COEFFICIENTS(HNN_ALLOCATE)
  HNN_STATES(HNN_ALLOCATE)
#undef HNN_ALLOCATE
#define HNN_ALLOCATE(name, Name)                  \
  like(k##Name##Feedback, a.name.feedback);       \
  like(k##Name##Feedforward, a.name.feedforward); \
  like(k##Name##State, a.name.state);
  HNN_FILTERS(HNN_ALLOCATE)
#undef HNN_ALLOCATE
  return result;
}

template <void (*run_forward)(const Arguments&, const Outputs&)>
std::vector<Tensor> forward_operator(HNN_LAYER_PARAMETERS) {
  const Arguments a(HNN_LAYER_ARGUMENTS);
  BasicOutputs<Tensor> outputs = allocate_outputs(current, a);
  run_forward(a, outputs.as<View>());
  std::vector<Tensor> result;
  each_output(outputs, [&](Optional output) {
    if (output) result.push_back(std::move(*output));
  });
  return result;
}

template <void (*run_backward)(const Incoming&, const Arguments&, const Gradients&)>
std::vector<Tensor> backward_operator(HNN_INCOMING_PARAMETERS, HNN_LAYER_PARAMETERS, int64_t needs) {
  const Arguments a(HNN_LAYER_ARGUMENTS);
  const auto gradients = allocate_gradients(current, a, needs);
  Gradients views;
  std::copy(gradients.begin(), gradients.end(), views.begin());
  run_backward({HNN_INCOMING_ARGUMENTS}, a, views);
  std::vector<Tensor> result;
  for (const Optional& gradient : gradients) {
    if (gradient) result.push_back(*gradient);
  }
  return result;
}

}  // namespace hnn
