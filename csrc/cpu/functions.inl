// The functions of vectors that the step of a defined neuron may call, beside those of vector.inl. Those of float are
// written without FMA, because a spike may depend on them: so they are the same on every processor.
//
// Included by the source that hnn_kernels/_define/cpp.py writes, after vector.inl.
#ifndef HNN_NAMESPACE
#error "a part of the kernels of defined neurons: see hnn_kernels/_define/cpp.py"
#endif

namespace HNN_NAMESPACE {

// e^x within 2 ulp: x = n ln 2 + r with |r| <= ln(2) / 2, and a polynomial of r (Cephes' expf). The power of two is
// multiplied in two halves, so that the result reaches down to the subnormal numbers and up to infinity.
HNN_INLINE VectorF exp_(VectorF x) {
  typedef int32_t Int __attribute__((vector_size(HNN_VECTOR_BYTES)));
  const auto c = [](float y) { return VectorF{} + y; };
  const VectorF low = c(-104.0f), high = c(89.0f);
  VectorF bounded = x < low ? low : x;
  bounded = bounded > high ? high : bounded;
  const VectorF shift = c(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer in the low bits
  const VectorF shifted = bounded * c(1.44269504088896341f) + shift, n = shifted - shift;
  VectorF r = bounded - n * c(0.693359375f);
  r = r - n * c(-2.12194440e-4f);
  VectorF p = c(1.9875691500e-4f);
  p = p * r + c(1.3981999507e-3f);
  p = p * r + c(8.3334519073e-3f);
  p = p * r + c(4.1665795894e-2f);
  p = p * r + c(1.6666665459e-1f);
  p = p * r + c(5.0000001201e-1f);
  p = (p * (r * r) + r) + c(1.0f);
  const Int whole = __builtin_convertvector(n, Int), half = whole >> 1;
  const auto power = [](Int exponent) { return (VectorF)((exponent + 127) << 23); };
  return x == x ? p * power(half) * power(whole - half) : x;
}
HNN_INLINE VectorD exp_(VectorD x) {
  return each_lane(x, [](double y) { return std::exp(y); });
}

// tanh(x) within 3 ulp: a polynomial near 0 (Cephes' tanhf), else 1 - 2 / (e^2|x| + 1).
HNN_INLINE VectorF tanh_(VectorF x) {
  const auto c = [](float y) { return VectorF{} + y; };
  const VectorF size = abs_(x), square = x * x;
  VectorF p = c(-5.70498872745e-3f);
  p = p * square + c(2.06390887954e-2f);
  p = p * square + c(-5.37397155531e-2f);
  p = p * square + c(1.33314422036e-1f);
  p = p * square + c(-3.33332819422e-1f);
  const VectorF near = p * square * x + x;
  const VectorF far = c(1.0f) - c(2.0f) / (exp_(size + size) + c(1.0f));
  return size < c(0.625f) ? near : x < VectorF{} ? -far : far;
}
HNN_INLINE VectorD tanh_(VectorD x) {
  return each_lane(x, [](double y) { return std::tanh(y); });
}
HNN_INLINE VectorD sqrt_(VectorD x) {
#ifdef HNN_INTRINSIC
  return (VectorD)HNN_INTRINSIC(sqrt_pd)(x);
#else
  return each_lane(x, [](double y) { return std::sqrt(y); });
#endif
}

#define HNN_EACH_LANE(name)                                   \
  template <class V>                                          \
  HNN_INLINE V name##_(V x) {                                 \
    return each_lane(x, [](auto y) { return std::name(y); }); \
  }
HNN_EACH_LANE(log)
HNN_EACH_LANE(sin)
HNN_EACH_LANE(cos)
HNN_EACH_LANE(floor)
HNN_EACH_LANE(ceil)
#undef HNN_EACH_LANE
// To the nearest, and half to even, as torch does.
template <class V>
HNN_INLINE V pow_(V x, V y) {
  for (size_t i = 0; i < sizeof(V) / sizeof(x[0]); ++i) x[i] = std::pow(x[i], y[i]);
  return x;
}

}  // namespace HNN_NAMESPACE
