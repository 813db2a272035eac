// Several vectors that go through a formula together, operation by operation. A formula is a chain of operations that
// wait for each other. The compiler keeps the order of the source, one chain after the other, and the processor looks
// ahead over few of them only; with AVX2 a step of the adjoint takes a fifth less time in this order.
//
// Included by body.inl, after vector.inl.
#ifndef HNN_NAMESPACE
#error "a part of csrc/cpu/kernels_*.cpp, by way of body.inl: see there"
#endif

namespace HNN_NAMESPACE {

template <class V, int b>
struct Pack {
  V at[b];
};

// The pack of f(x.at[k]...) for each k.
template <class F, int b, class... V>
HNN_INLINE auto lifted(F f, const Pack<V, b>&... x) {
  Pack<decltype(f(x.at[0]...)), b> result;
  unrolled<b>([&](auto k) HNN_LAMBDA { result.at[k] = f(x.at[k]...); });
  return result;
}

#define HNN_LIFT(operation)                                                               \
  template <class V, int b>                                                               \
  HNN_INLINE auto operator operation(const Pack<V, b>& x, const Pack<V, b>& y) {          \
    return lifted([](const V& p, const V& q) HNN_LAMBDA { return p operation q; }, x, y); \
  }
HNN_LIFT(+)
HNN_LIFT(-)
HNN_LIFT(*)
HNN_LIFT(/)
HNN_LIFT(<)
HNN_LIFT(>)
HNN_LIFT(<=)
HNN_LIFT(>=)
#undef HNN_LIFT
#define HNN_LIFT(function)                                               \
  template <class V, int b>                                              \
  HNN_INLINE Pack<V, b> function(const Pack<V, b>& x) {                  \
    return lifted([](const V& p) HNN_LAMBDA { return function(p); }, x); \
  }
HNN_LIFT(abs_)
HNN_LIFT(exp2_)
HNN_LIFT(least_exponent)
HNN_LIFT(rounded)
HNN_LIFT(whole)
HNN_LIFT(round_)
#undef HNN_LIFT

template <class V, int b>
HNN_INLINE auto scalar_of(const Pack<V, b>&) {
  return scalar_of(V{});
}
template <class V, int b>
HNN_INLINE Pack<V, b> operator+(const Pack<V, b>& x, decltype(scalar_of(V{})) y) {
  return lifted([&](const V& p) HNN_LAMBDA { return p + y; }, x);
}
template <class V, int b>
HNN_INLINE Pack<V, b> max_(const Pack<V, b>& x, const Pack<V, b>& y) {
  return lifted([](const V& p, const V& q) HNN_LAMBDA { return max_(p, q); }, x, y);
}
template <class V, int b>
HNN_INLINE Pack<V, b> times_power(const Pack<V, b>& x, const Pack<V, b>& y) {
  return lifted([](const V& p, const V& q) HNN_LAMBDA { return times_power(p, q); }, x, y);
}
template <class V, int b>
HNN_INLINE Pack<V, b> fma_(const Pack<V, b>& x, const Pack<V, b>& y, const Pack<V, b>& z) {
  return lifted([](const V& p, const V& q, const V& r) HNN_LAMBDA { return fma_(p, q, r); }, x, y, z);
}
template <class Mask, class V, int b>
HNN_INLINE Pack<V, b> where_(const Pack<Mask, b>& chosen, const Pack<V, b>& x, const Pack<V, b>& y) {
  return lifted([](const Mask& m, const V& p, const V& q) HNN_LAMBDA { return m ? p : q; }, chosen, x, y);
}
template <int b>
HNN_INLINE Pack<VectorF, b> scaled_exp2_(const Pack<VectorF, b>& x, const Pack<VectorF, b>& scale) {
  return scaled_exp2_of(x, scale);
}

// The same value in all vectors of a pack.
template <int b, class V>
HNN_INLINE Pack<V, b> pack_of(const V& x) {
  Pack<V, b> result;
  unrolled<b>([&](auto k) HNN_LAMBDA { result.at[k] = x; });
  return result;
}

}  // namespace HNN_NAMESPACE
