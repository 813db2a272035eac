// What formulas need beside the functions of a backend's type V. No include guard: see neuron.h.
#ifndef HNN_NAMESPACE
#error "included by neuron.h, and by the kernels of defined neurons"
#endif

namespace HNN_NAMESPACE {

template <class V>
HNN_INLINE V broadcast(double x) {
  return V{} + static_cast<decltype(scalar_of(V{}))>(x);
}

// A backend whose V has no ?: has where_ for it.
template <class Condition, class V>
HNN_INLINE V where_(Condition chosen, V a, V b) {
  return chosen ? a : b;
}

// If x is above a threshold, or at one that `too` lets count.
template <class V>
HNN_INLINE auto reaches_(V x, V threshold, bool too) {
  return too ? x >= threshold : x > threshold;
}

// exp2_(x) * scale, for which a backend may have something faster.
template <class V>
HNN_INLINE V scaled_exp2_(V x, V scale) {
  return exp2_(x) * scale;
}

}  // namespace HNN_NAMESPACE
