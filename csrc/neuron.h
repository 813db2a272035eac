// The neuron: one step of the layer and one step of its adjoint. Every C++ backend runs these lines, the CPU kernels
// with V a vector of neurons and the CUDA kernels with V a float or a double. The order of the operations is that of
// hnn_kernels/reference.py, and contraction into FMA is off, so equal inputs give equal spikes; where only a gradient
// depends on it, fma_ asks for the contraction.
//
// No include guard: each instruction set of the CPU backend includes this file into its own namespace (HNN_NAMESPACE),
// after defining HNN_INLINE and the functions fma_(V, V, V), exp2_(V) and erfc_(V) for its types.

namespace HNN_NAMESPACE {

template <class V>
struct Coefficients {
  V decay, reset_decay, threshold;
};

template <class V>
struct State {
  V v;  // V[t-1]
  V r;  // R[t]
};

// What flows backward in time into a step: dL/dV[t] through V[t+1], and dL/dR[t+1].
template <class V>
struct Adjoint {
  V v, r;
};

template <class V>
HNN_INLINE V broadcast(double x) {
  return V{} + static_cast<decltype(scalar_of(V{}))>(x);
}

// -- surrogates: P(x) and P'(x) of the distance x = V - V_th; numbered as in hnn_kernels/surrogates.py -------------

constexpr int kGaussian = 0;

template <int kSurrogate, class V>
HNN_INLINE V primitive(V x, V inverse_width) {
  if constexpr (kSurrogate == kGaussian) {  // Muramatsu & Yu 2021, eq. 5
    return broadcast<V>(0.5) * erfc_(x * inverse_width * broadcast<V>(-0.70710678118654752440));
  }
}

template <int kSurrogate, class V>
HNN_INLINE V density(V x, V inverse_width) {
  if constexpr (kSurrogate == kGaussian) {  // eq. 6
    // As a power of two, so that what does not depend on x is one factor within the exponent and one outside.
    const V exponent = inverse_width * inverse_width * broadcast<V>(-0.72134752044448170368);  // -log2(e) / 2
    return exp2_(x * exponent * x) * (inverse_width * broadcast<V>(0.39894228040143267794));
  }
}

// -- one step forward: returns O[t] ---------------------------------------------------------------------------------

template <int kSurrogate, bool kSmooth, class V>
HNN_INLINE V forward_step(State<V>& s, V current, const Coefficients<V>& c, V inverse_width) {
  s.v = c.decay * s.v + current - c.threshold * s.r;
  V spike;
  if constexpr (kSmooth) {
    spike = primitive<kSurrogate>(s.v - c.threshold, inverse_width);
  } else {
    spike = s.v >= c.threshold ? broadcast<V>(1) : V{};
  }
  s.r = c.reset_decay * s.r + spike;
  return spike;
}

// -- one step backward: returns dL/dcurrent[t] ----------------------------------------------------------------------

enum ResetGrad { kFull = 0, kOneStep = 1, kDetach = 2 };

// `through_spike` receives dL/dV[t] through O[t], which the threshold's gradient needs.
template <int kSurrogate, int kResetGrad, class V>
HNN_INLINE V backward_step(Adjoint<V>& a, V grad_out, V v, const Coefficients<V>& c, V inverse_width,
                           V& through_spike) {
  V grad_spike = grad_out;
  if constexpr (kResetGrad != kDetach) grad_spike = grad_spike + a.r;
  through_spike = density<kSurrogate>(v - c.threshold, inverse_width) * grad_spike;
  const V grad_v = a.v + through_spike;
  a.v = c.decay * grad_v;
  if constexpr (kResetGrad == kOneStep) {
    a.r = -c.threshold * grad_v;
  } else {
    a.r = fma_(-c.threshold, grad_v, c.reset_decay * a.r);
  }
  return grad_v;
}

// The coefficients' gradients of one step. `next_r` is dL/dR[t+1], as it was before backward_step.
template <class V>
HNN_INLINE void accumulate(Coefficients<V>& sum, V grad_v, V through_spike, V next_r, V previous_v, V r) {
  sum.decay = sum.decay + grad_v * previous_v;
  sum.reset_decay = sum.reset_decay + next_r * r;
  sum.threshold = sum.threshold - (grad_v * r + through_spike);
}

}  // namespace HNN_NAMESPACE
