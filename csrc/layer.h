// Generated from hnn_kernels/_layer.py by `make generate`.
// The parts of a layer, for every backend: the numbers of its options, its tensors and its settings.
#pragma once

#include <cstdint>

// The list that a module was built for: hnn_kernels/_extensions.py refuses a module of another one.
#define HNN_LAYER "2f2ae0657976bfc5"

namespace hnn {

// Inline, so that the kernels, which have namespaces of their own, see it too.
inline namespace options {

// The ways to reset. kNoMembrane is a layer without a membrane: the output of its synapse goes straight out.
enum Reset { kNoMembrane = -1, kFilter, kSubtract, kZero, kNone, kResets };  // the last counts them
enum ResetGrad { kFull, kOneStep, kDetach, kResetGrads };                    // the last counts them
enum Readout { kReadSpikes, kReadCount, kReadNone, kReadouts };              // the last counts them
enum Potential {
  kPotentialNone,
  kPotentialTrain,
  kPotentialLast,
  kPotentialMax,
  kPotentialMean,
  kPotentials
};  // the last counts them

// Values of state that the membrane has, first in a checkpoint.
constexpr int kStates = 2;

// The options of a time step. The defaults are the usual layer's: some kernels have them as constants.
struct Options {
  int surrogate = 0;
  int reset = 0;
  int reset_grad = 0;
  bool smooth = false;
  bool tie_fires = true;
  int potential = 0;

  bool usual() const {
    return surrogate == Options().surrogate && reset == Options().reset && reset_grad == Options().reset_grad &&
           smooth == Options().smooth && tie_fires == Options().tie_fires && potential == Options().potential;
  }
};

}  // namespace options

// Indices of the gradients, and the bits of `needs`.
enum Gradient {
  kCurrent,
  kDecay,
  kResetDecay,
  kThreshold,
  kResetPotential,
  kV,
  kR,
  kSynapseFeedback,
  kSynapseFeedforward,
  kSynapseState,
  kAxonFeedback,
  kAxonFeedforward,
  kAxonState,
  kGradients
};  // the last counts them

}  // namespace hnn

// X(name, Name) for each of the membrane's coefficients and of its states, and for each filter: k<Name> is the
// gradient of a coefficient or a state.
#define HNN_COEFFICIENTS(X)  \
  X(decay, Decay)            \
  X(reset_decay, ResetDecay) \
  X(threshold, Threshold)    \
  X(reset_potential, ResetPotential)
#define HNN_STATES(X) \
  X(v, V)             \
  X(r, R)
// The states after the first one. The first one decays into the membrane potential.
#define HNN_LATER_STATES(X) X(r, R)
#define HNN_FILTERS(X) \
  X(synapse, Synapse)  \
  X(axon, Axon)
// X(type, name) for each setting, except those that stand in for a tensor.
#define HNN_SETTINGS(X)            \
  X(std::optional<int64_t>, steps) \
  X(double, width)                 \
  X(double, scale)                 \
  X(Optional, varying_surrogate)   \
  X(int64_t, surrogate)            \
  X(int64_t, reset)                \
  X(int64_t, reset_grad)           \
  X(bool, smooth)                  \
  X(bool, tie_fires)               \
  X(int64_t, potential)            \
  X(int64_t, readout)              \
  X(bool, return_state)            \
  X(int64_t, checkpoint_every)

// X(type, name) for each of Options.
#define HNN_OPTIONS(X) \
  X(int, surrogate)    \
  X(int, reset)        \
  X(int, reset_grad)   \
  X(bool, smooth)      \
  X(bool, tie_fires)   \
  X(int, potential)

// The arguments that the operators share, as parameters and by name.
#define HNN_LAYER_PARAMETERS                                                                                       \
  Tensor current, Optional decay, Optional reset_decay, Optional threshold, Optional reset_potential, Optional v,  \
      Optional r, Optional synapse_feedback, Optional synapse_feedforward, Optional synapse_state,                 \
      Optional axon_feedback, Optional axon_feedforward, Optional axon_state, std::optional<int64_t> steps,        \
      double decay_value, double reset_decay_value, double threshold_value, double reset_potential_value,          \
      std::vector<double> synapse_feedback_values, std::vector<double> synapse_feedforward_values,                 \
      std::vector<double> axon_feedback_values, std::vector<double> axon_feedforward_values, double width,         \
      double scale, Optional varying_surrogate, int64_t surrogate, int64_t reset, int64_t reset_grad, bool smooth, \
      bool tie_fires, int64_t potential, int64_t readout, bool return_state, int64_t checkpoint_every
#define HNN_LAYER_ARGUMENTS                                                                                            \
  current, decay, reset_decay, threshold, reset_potential, v, r, synapse_feedback, synapse_feedforward, synapse_state, \
      axon_feedback, axon_feedforward, axon_state, steps, decay_value, reset_decay_value, threshold_value,             \
      reset_potential_value, synapse_feedback_values, synapse_feedforward_values, axon_feedback_values,                \
      axon_feedforward_values, width, scale, varying_surrogate, surrogate, reset, reset_grad, smooth, tie_fires,       \
      potential, readout, return_state, checkpoint_every
// The arguments of backward that stand before those.
#define HNN_INCOMING_PARAMETERS                                                                              \
  Optional grad_out, Optional grad_potential, Optional grad_v, Optional grad_r, Optional grad_synapse_state, \
      Optional grad_axon_state, Optional peak, Optional checkpoints
#define HNN_INCOMING_ARGUMENTS \
  grad_out, grad_potential, grad_v, grad_r, grad_synapse_state, grad_axon_state, peak, checkpoints
