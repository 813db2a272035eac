// The neuron: one step of the layer and one step of its adjoint. Every C++ backend runs these lines, the CPU kernels
// with V a vector of neurons and the CUDA kernels with V a float or a double. The order of the operations is that of
// hnn_kernels/reference.py, and contraction into FMA is off, so equal inputs give equal spikes; where only a gradient
// depends on it, fma_ asks for the contraction.
//
// Options come from layer.h. All functions are inlined, so a caller that sets one to a constant pays for that alone.
//
// No include guard: each instruction set of the CPU backend includes this file into its own namespace (HNN_NAMESPACE),
// after defining HNN_INLINE and, for its types V, the functions scalar_of(V), fma_(V, V, V), abs_(V), exp2_(V) of x <=
// 0, erfc_(V), atan_(V) and round_(V).
#ifndef HNN_NAMESPACE
#error "included by csrc/cpu/body.inl and csrc/cuda/kernels.cuh, which define HNN_NAMESPACE and HNN_INLINE"
#endif

#include "layer.h"
#include "layout.h"

#include "formula.h"
#include "surrogates.h"

namespace HNN_NAMESPACE {

// -- the membrane ------------------------------------------------------------------------------------------------------

// A spike resets through R (Muramatsu & Yu 2021, eq. 1c), or V itself, by the threshold or to zero, or not at all.
using namespace hnn::options;

#define HNN_DECLARE(name, Name) V name;
template <class V>
struct Coefficients {
  HNN_COEFFICIENTS(HNN_DECLARE)
};

// v decays into V[t]: it is V[t-1] after its reset. r is R[t], passed through unless kFilter.
template <class V>
struct State {
  HNN_STATES(HNN_DECLARE)
};

// The adjoint that flows backward in time into a step: dL/d(State::v after step t) and dL/dR[t+1].
template <class V>
struct Adjoint {
  HNN_STATES(HNN_DECLARE)
};
#undef HNN_DECLARE

// The size of the surrogate: 1 / w, and its factor.
template <class V>
struct Extent {
  V inverse_width, scale;
};

// The spike at a potential V[t]; `after` receives what the reset leaves of it, which decays into the next step.
template <class V>
HNN_INLINE V fire(const Options& o, V v, const Coefficients<V>& c, const Extent<V>& e, V& after) {
  const int reset = o.reset;
  V spike;
  if (o.smooth) {
    spike = e.scale * primitive(o.surrogate, v - c.threshold, e.inverse_width, c.threshold);
    if (reset == kZero) v = v * (broadcast<V>(1) - spike) + c.reset_potential * spike;
  } else {
    const auto fires = reaches_(v, c.threshold, o.tie_fires);
    spike = where_(fires, broadcast<V>(1), V{});
    if (reset == kZero) v = where_(fires, c.reset_potential, v);
  }
  if (reset == kSubtract) v = v - c.threshold * spike;
  after = v;
  return spike;
}
// Tells if a reset changes the potential itself.
constexpr HNN_HOST_DEVICE bool resets_potential(const Options& o) { return o.reset == kSubtract || o.reset == kZero; }

// One step forward: returns O[t], and puts V[t] before its reset into `potential`.
template <class V>
HNN_INLINE V forward_step(const Options& o, State<V>& s, V current, const Coefficients<V>& c, const Extent<V>& e,
                          V& potential) {
  V v = current;
  if (o.reset != kNoMembrane) v = c.decay * s.v + current;
  if (o.reset == kFilter) v = v - c.threshold * s.r;
  potential = v;
  if (o.reset == kNoMembrane) return v;
  const V spike = fire(o, v, c, e, s.v);
  if (o.reset == kFilter) s.r = c.reset_decay * s.r + spike;
  return spike;
}

// The surrogate's derivative at a distance V[t] - V_th to the threshold, which is given too.
template <class V>
HNN_INLINE V slope(const Options& o, V distance, const Extent<V>& e, V threshold) {
  return density(o.surrogate, distance, e.inverse_width, e.scale, threshold);
}

// One step backward: returns dL/dcurrent[t] = dL/dV[t]. `through_spike` receives its part through O[t], which the
// threshold's gradient needs. `slope` is that above; `spike`, O[t], is read only for kZero, and `grad_potential`, what
// is said of V[t] outside, only where the potential is a result.
template <class V>
HNN_INLINE V backward_step(const Options& o, Adjoint<V>& a, V grad_spike, V grad_potential, V slope, V v, V spike,
                           const Coefficients<V>& c, V& through_spike) {
  const int reset = o.reset, reset_grad = o.reset_grad;
  if (reset == kNoMembrane) return grad_spike;
  if (reset_grad != kDetach) {
    if (reset == kFilter) grad_spike = grad_spike + a.r;
    if (reset == kSubtract) grad_spike = fma_(-c.threshold, a.v, grad_spike);
    if (reset == kZero) grad_spike = fma_(c.reset_potential - v, a.v, grad_spike);
  }
  through_spike = slope * grad_spike;
  V grad_v = a.v;
  if (reset == kZero) grad_v = grad_v * (broadcast<V>(1) - spike);
  if (o.potential != kPotentialNone) grad_v = grad_v + grad_potential;
  grad_v = fma_(slope, grad_spike, grad_v);
  a.v = c.decay * grad_v;
  if (reset == kFilter) {
    a.r = reset_grad == kOneStep ? -c.threshold * grad_v : fma_(-c.threshold, grad_v, c.reset_decay * a.r);
  }
  return grad_v;
}

// The part of the state before a step that accumulate() reads: kernels keep that and no more.
constexpr HNN_HOST_DEVICE State<bool> accumulate_reads(const Options& o) { return {true, o.reset == kFilter}; }

// The gradient that a read-out of the potential, which gets `grad`, gives to V[t] of T steps; of a train it has a row
// for each. `peak` is the step of the maximum.
template <class V>
HNN_INLINE V of_read_out(const Options& o, V grad, V peak, int64_t t, int64_t steps) {
  switch (o.potential) {
    case kPotentialLast: return t + 1 == steps ? grad : V{};
    case kPotentialMax: return where_(peak == broadcast<V>(static_cast<double>(t)), grad, V{});
    case kPotentialMean: return grad / broadcast<V>(static_cast<double>(steps));
    default: return grad;
  }
}

// The coefficients' gradients of one step. `before` is the state before step t, `after` the adjoint before
// backward_step; `spike` is read only for kSubtract and kZero.
template <class V>
HNN_INLINE void accumulate(const Options& o, Coefficients<V>& sum, V grad_v, V through_spike, V spike,
                           const Adjoint<V>& after, const State<V>& before) {
  sum.decay = fma_(grad_v, before.v, sum.decay);
  if (o.reset == kFilter) {
    sum.reset_decay = fma_(after.r, before.r, sum.reset_decay);
    sum.threshold = sum.threshold - fma_(grad_v, before.r, through_spike);
  } else if (o.reset == kSubtract) {
    sum.threshold = sum.threshold - fma_(after.v, spike, through_spike);
  } else {
    sum.threshold = sum.threshold - through_spike;
  }
  if (o.reset == kZero) sum.reset_potential = fma_(after.v, spike, sum.reset_potential);
}

// -- IIR filters: y[t] = sum_q b[q] x[t-q] + sum_p a[p-1] y[t-p] -----------------------------------------------------
// Coefficients in one array: a[0..P), then b[0..Q]. History in one array, newest first: y[t-1..t-P], then x[t-1..t-Q].
// An array is a pointer, or anything with []; where the orders are constants the loops unroll and they are registers.

template <class V, class History, class Taps>
HNN_INLINE V filter_step(int feedback, int feedforward, History history, V x, Taps c) {
  V y = c[feedback] * x;
  for (int q = 1; q <= feedforward; ++q) y = y + c[feedback + q] * history[feedback + q - 1];
  for (int p = 0; p < feedback; ++p) y = y + c[p] * history[p];
  for (int p = feedback - 1; p > 0; --p) history[p] = history[p - 1];
  if (feedback) history[0] = y;
  for (int q = feedforward - 1; q > 0; --q) history[feedback + q] = history[feedback + q - 1];
  if (feedforward) history[feedback] = x;
  return y;
}

// `adjoint` holds the gradients of y[t-p] and x[t-q] from later steps, in the history's order. (Before the last step it
// is dL/dstate; after the first it is the gradient of the initial state.) The function takes dL/dy[t] from outside,
// replaces it by the whole dL/dy[t], which the gradients of the coefficients need, and returns dL/dx[t].
template <class V, class History, class Taps>
HNN_INLINE V filter_backward_step(int feedback, int feedforward, History adjoint, V& grad_y, Taps c) {
  if (feedback) grad_y = grad_y + adjoint[0];
  for (int p = 0; p + 1 < feedback; ++p) adjoint[p] = fma_(c[p], grad_y, adjoint[p + 1]);
  if (feedback) adjoint[feedback - 1] = c[feedback - 1] * grad_y;
  V grad_x = c[feedback] * grad_y;
  if (feedforward) grad_x = grad_x + adjoint[feedback];
  for (int q = 1; q < feedforward; ++q) {
    adjoint[feedback + q - 1] = fma_(c[feedback + q], grad_y, adjoint[feedback + q]);
  }
  if (feedforward) adjoint[feedback + feedforward - 1] = c[feedback + feedforward] * grad_y;
  return grad_x;
}

// The gradients of the coefficients of one step. `grad_y` is the one that filter_backward_step left, `history` that
// before step t.
template <class V, class Taps, class History>
HNN_INLINE void filter_accumulate(int feedback, int feedforward, Taps sum, V grad_y, V x, History history) {
  for (int p = 0; p < feedback; ++p) sum[p] = fma_(grad_y, V(history[p]), sum[p]);
  sum[feedback] = fma_(grad_y, x, sum[feedback]);
  for (int q = 0; q < feedforward; ++q) {
    sum[feedback + 1 + q] = fma_(grad_y, V(history[feedback + q]), sum[feedback + 1 + q]);
  }
}

}  // namespace HNN_NAMESPACE
