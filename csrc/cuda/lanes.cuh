// The neurons of one thread as one value: a number for one neuron, Lanes for several. The formulas of ../neuron.h take
// either.
#pragma once

#include <type_traits>
#include <utility>

namespace HNN_NAMESPACE {

template <class C, int n>
struct alignas(n * sizeof(C)) Lanes {
  C lane[n];
};
template <class C, int n>
using Neurons = std::conditional_t<n == 1, C, Lanes<C, n>>;

template <class V>
struct Of {
  using Scalar = V;
};
template <class C, int n>
struct Of<Lanes<C, n>> {
  using Scalar = C;
};
template <class V>
using Scalar = typename Of<V>::Scalar;
template <class V>
constexpr int kLanesOf = sizeof(V) / sizeof(Scalar<V>);

template <class C>
HNN_INLINE C& lane(C& x, int) {
  return x;
}
template <class C, int n>
HNN_INLINE C& lane(Lanes<C, n>& x, int i) {
  return x.lane[i];
}
template <class C, int n>
HNN_INLINE const C& lane(const Lanes<C, n>& x, int i) {
  return x.lane[i];
}

// The value whose lanes are f(0), f(1) ... Loops in their place, which the compiler has to unroll, would make up a
// third of the time of compiling all kernels.
template <class V, class F, int... kLane>
HNN_INLINE V make(F f, std::integer_sequence<int, kLane...>) {
  if constexpr (kLanesOf<V> == 1) {
    return f(0);
  } else {
    return {{f(kLane)...}};
  }
}
template <class V, class F>
HNN_INLINE V make(F f) {
  return make<V>(f, std::make_integer_sequence<int, kLanesOf<V>>());
}
template <class V>
HNN_INLINE V same(Scalar<V> x) {
  return make<V>([&](int) { return x; });
}
template <class C, int n>
HNN_INLINE C scalar_of(Lanes<C, n>) {
  return C{};
}

// The value whose lanes are those of f.
#define HNN_EACH_LANE(Result, f) make<Lanes<Result, n>>([&](int i) { return f; })
#define HNN_OPERATOR(Result, op)                                          \
  template <class C, int n>                                               \
  HNN_INLINE Lanes<Result, n> operator op(Lanes<C, n> a, Lanes<C, n> b) { \
    return HNN_EACH_LANE(Result, a.lane[i] op b.lane[i]);                 \
  }
HNN_OPERATOR(C, +)
HNN_OPERATOR(C, -)
HNN_OPERATOR(C, *)
HNN_OPERATOR(C, /)
HNN_OPERATOR(bool, >=)
HNN_OPERATOR(bool, <=)
HNN_OPERATOR(bool, >)
HNN_OPERATOR(bool, <)
#undef HNN_OPERATOR
template <class C, int n>
HNN_INLINE Lanes<C, n> operator-(Lanes<C, n> a) {
  return HNN_EACH_LANE(C, -a.lane[i]);
}
template <class C, int n>
HNN_INLINE Lanes<C, n> operator+(Lanes<C, n> a, C b) {
  return HNN_EACH_LANE(C, a.lane[i] + b);
}
template <class C, int n>
HNN_INLINE Lanes<C, n>& operator+=(Lanes<C, n>& a, Lanes<C, n> b) {
  return a = a + b;
}
template <class C, int n>
HNN_INLINE Lanes<C, n> where_(Lanes<bool, n> chosen, Lanes<C, n> a, Lanes<C, n> b) {
  return HNN_EACH_LANE(C, chosen.lane[i] ? a.lane[i] : b.lane[i]);
}
template <class C, int n>
HNN_INLINE Lanes<C, n> fma_(Lanes<C, n> a, Lanes<C, n> b, Lanes<C, n> c) {
  return HNN_EACH_LANE(C, fma_(a.lane[i], b.lane[i], c.lane[i]));
}
#define HNN_FUNCTION(f)                     \
  template <class C, int n>                 \
  HNN_INLINE Lanes<C, n> f(Lanes<C, n> x) { \
    return HNN_EACH_LANE(C, f(x.lane[i]));  \
  }
HNN_FUNCTION(abs_)
HNN_FUNCTION(exp2_)
HNN_FUNCTION(erfc_)
HNN_FUNCTION(atan_)
HNN_FUNCTION(round_)
#undef HNN_FUNCTION
#undef HNN_EACH_LANE

}  // namespace HNN_NAMESPACE
