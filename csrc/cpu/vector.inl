// The vector type of the instruction set being compiled, its functions, and the element types. Included into
// HNN_NAMESPACE once per instruction set (see kernels_*.cpp and isa.h).
//
// Included by body.inl, after the settings of kernels_*.cpp.
#ifndef HNN_NAMESPACE
#error "a part of csrc/cpu/kernels_*.cpp, by way of body.inl: see there"
#endif

#define HNN_INLINE inline __attribute__((always_inline))
#ifdef HNN_STREAM
#define HNN_STREAM_FENCE _mm_sfence
#else
#define HNN_STREAM_FENCE() ((void)0)
#endif

namespace HNN_NAMESPACE {

template <class C>
struct VectorOf {
  typedef C type __attribute__((vector_size(HNN_VECTOR_BYTES)));
};
template <class C>
using Vector = typename VectorOf<C>::type;
template <class C>
constexpr int kLanes = HNN_VECTOR_BYTES / sizeof(C);
template <class C>
constexpr int kVectors = hnn::kTile / kLanes<C>;

using VectorF = Vector<float>;
using VectorD = Vector<double>;
HNN_INLINE float scalar_of(VectorF) { return 0; }
HNN_INLINE double scalar_of(VectorD) { return 0; }

// Calls f(0), f(1) ... f(n - 1), each with its number as a constant. Arrays that are indexed by constants only live in
// registers.
template <class F, int... k>
HNN_INLINE void unrolled(F& f, std::integer_sequence<int, k...>) {
  (f(std::integral_constant<int, k>{}), ...);
}
template <int n, class F>
HNN_INLINE void unrolled(F f) {
  unrolled(f, std::make_integer_sequence<int, n>{});
}
#define HNN_LAMBDA __attribute__((always_inline))

template <class C>
HNN_INLINE Vector<C> load(const C* p) {
  Vector<C> v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
template <class V, class C>
HNN_INLINE void store(C* p, V v) {
  __builtin_memcpy(p, &v, sizeof v);
}
// Stores past the cache: the line is not read before it is written. `p` is aligned to the vector.
template <class V>
HNN_INLINE void stream(void* p, V v) {
#if defined(HNN_STREAM)
  HNN_STREAM(p, v);
#else
  __builtin_memcpy(p, &v, sizeof v);
#endif
}

// a * b + c, rounded once where the instruction set can do so. It serves gradients only, because spikes must be the
// same on every processor.
HNN_INLINE VectorF fma_(VectorF a, VectorF b, VectorF c) {
#ifdef HNN_FMA
  return (VectorF)HNN_INTRINSIC(fmadd_ps)(a, b, c);
#else
  return a * b + c;
#endif
}
HNN_INLINE VectorD fma_(VectorD a, VectorD b, VectorD c) {
#ifdef HNN_FMA
  return (VectorD)HNN_INTRINSIC(fmadd_pd)(a, b, c);
#else
  return a * b + c;
#endif
}

// The larger of the two; `b` where one is not a number.
HNN_INLINE VectorF max_(VectorF a, VectorF b) {
#ifdef HNN_INTRINSIC
  return (VectorF)HNN_INTRINSIC(max_ps)(a, b);  // for which compilers do not take the line below
#else
  return a > b ? a : b;
#endif
}

// The steps of scaled_exp2_ whose instructions differ. An integer n <= 0 is kept as it is, or in the low bits of n plus
// 1.5 * 2^23, which is what adding that number rounds to.
typedef int32_t Int32 __attribute__((vector_size(HNN_VECTOR_BYTES)));
HNN_INLINE VectorF least_exponent(VectorF scale) {
  return __builtin_convertvector(1 - ((Int32)scale >> 23), VectorF);  // scale * 2^x is a normal number from here on
}
#ifdef HNN_SCALE
HNN_INLINE VectorF rounded(VectorF x) { return (VectorF)HNN_ROUND(x); }
HNN_INLINE VectorF whole(VectorF rounded) { return rounded; }
HNN_INLINE VectorF times_power(VectorF x, VectorF rounded) { return (VectorF)HNN_SCALE(x, rounded); }
#else
HNN_INLINE VectorF rounded(VectorF x) { return x + 12582912.0f; }
HNN_INLINE VectorF whole(VectorF rounded) { return rounded - 12582912.0f; }
HNN_INLINE VectorF times_power(VectorF x, VectorF rounded) { return (VectorF)((Int32)x + ((Int32)rounded << 23)); }
#endif

// scale * 2^x for x <= 0 and a positive scale that is the same for many x, within 4 ulp down to 2^-126; below, the
// result is near 2^-126. The integer part of x goes into the exponent, the rest f into the polynomial that is nearest
// to 2^f on [-1/2, 1/2] (relative error 9e-8). Its coefficients take the scale, which so costs nothing in a loop.
// V is a vector or a pack.
template <class V>
HNN_INLINE V scaled_exp2_of(V x, V scale) {
  const auto c = [](float y) HNN_LAMBDA { return V{} + y; };
  x = max_(least_exponent(scale), x);
  const V n = rounded(x), f = x - whole(n);
  V p = fma_(f, scale * c(1.326472753262e-3f), scale * c(9.671512709486e-3f));
  p = fma_(p, f, scale * c(5.550733742004e-2f));
  p = fma_(p, f, scale * c(2.402224208385e-1f));
  p = fma_(p, f, scale * c(6.931469776003e-1f));
  p = fma_(p, f, scale);
  return times_power(p, n);
}
HNN_INLINE VectorF scaled_exp2_(VectorF x, VectorF scale) { return scaled_exp2_of(x, scale); }
HNN_INLINE VectorF exp2_(VectorF x) { return scaled_exp2_(x, VectorF{} + 1.0f); }
template <class V, class F>
HNN_INLINE V each_lane(V x, F f) {
  for (size_t i = 0; i < sizeof(V) / sizeof(x[0]); ++i) x[i] = f(x[i]);
  return x;
}
HNN_INLINE VectorD exp2_(VectorD x) {
  return each_lane(x, [](double y) { return std::exp2(y); });
}
template <class V>
HNN_INLINE V abs_(V x) {
  return x < V{} ? -x : x;
}
template <class V>
HNN_INLINE V erfc_(V x) {
  return each_lane(x, [](auto y) { return std::erfc(y); });
}
template <class V>
HNN_INLINE V atan_(V x) {
  return each_lane(x, [](auto y) { return std::atan(y); });
}
template <class V>
HNN_INLINE V round_(V x) {
  return each_lane(x, [](auto y) { return std::nearbyint(y); });
}

// -- the noise: vectors of 32-bit words; the even and the odd words also lie in the low halves of 64 bits each

using Words = Vector<uint32_t>;
using WideWords = Vector<uint64_t>;
HNN_INLINE VectorF float_of(Vector<int32_t> x) { return __builtin_convertvector(x, VectorF); }
HNN_INLINE Vector<int32_t> as_int(VectorF x) { return (Vector<int32_t>)x; }
HNN_INLINE VectorF as_float(Vector<int32_t> x) { return (VectorF)x; }
HNN_INLINE VectorF sqrt_(VectorF x) {
#ifdef HNN_INTRINSIC
  return (VectorF)HNN_INTRINSIC(sqrt_ps)(x);
#else
  return each_lane(x, [](float y) { return std::sqrt(y); });
#endif
}
// The product of the low words. The bits above the low word of an argument, or of `low`, are arbitrary.
HNN_INLINE void multiply(WideWords a, uint32_t b, WideWords& high, WideWords& low) {
#ifdef HNN_INTRINSIC
  typedef long long Int __attribute__((vector_size(HNN_VECTOR_BYTES)));
  low = (WideWords)HNN_INTRINSIC(mul_epu32)((Int)a, (Int)(WideWords{} + b));
#else
  low = (a & 0xFFFFFFFFu) * b;
#endif
  high = low >> 32;
}

// -- element types ----------------------------------------------------------------------------------------------------

struct BFloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};
template <class IO>
struct ComputeOf {
  using type = float;
};
template <>
struct ComputeOf<double> {
  using type = double;
};
template <class IO>
using Compute = typename ComputeOf<IO>::type;

HNN_INLINE uint32_t bits_of(float x) {
  uint32_t b;
  __builtin_memcpy(&b, &x, 4);
  return b;
}
HNN_INLINE float float_of(uint32_t b) {
  float x;
  __builtin_memcpy(&x, &b, 4);
  return x;
}

HNN_INLINE float widen(float x) { return x; }
HNN_INLINE double widen(double x) { return x; }
HNN_INLINE float widen(BFloat16 x) { return float_of(static_cast<uint32_t>(x.bits) << 16); }
HNN_INLINE float widen(Float16 x) {
  // Exponent and mantissa moved into place and rescaled by a product; subnormals by a difference of normal numbers.
  const uint32_t w = static_cast<uint32_t>(x.bits) << 16, sign = w & 0x80000000u, two_w = w + w;
  const float normal = float_of((two_w >> 4) + (0xE0u << 23)) * float_of(0x7800000u);
  const float subnormal = float_of((two_w >> 17) | (126u << 23)) - 0.5f;
  return float_of(sign | (two_w < (1u << 27) ? bits_of(subnormal) : bits_of(normal)));
}

template <class IO>
HNN_INLINE IO narrow(Compute<IO> x) {
  return x;
}
template <>
HNN_INLINE BFloat16 narrow<BFloat16>(float x) {
  const uint32_t b = bits_of(x);
  const uint32_t rounded = (b + 0x7FFFu + ((b >> 16) & 1)) >> 16;  // to nearest even
  return {static_cast<uint16_t>(x != x ? 0x7FC0u : rounded)};
}
template <>
HNN_INLINE Float16 narrow<Float16>(float x) {
  // Scaling up and down saturates to infinity; adding a power of two rounds the mantissa to nearest even.
  const uint32_t w = bits_of(x), sign = w & 0x80000000u, two_w = w + w;
  const float magnitude = float_of(w & 0x7FFFFFFFu) * float_of(0x77800000u) * float_of(0x08800000u);
  uint32_t bias = two_w & 0xFF000000u;
  bias = bias < 0x71000000u ? 0x71000000u : bias;
  const uint32_t b = bits_of(float_of((bias >> 1) + 0x07800000u) + magnitude);
  const uint32_t nonsign = ((b >> 13) & 0x7C00u) + (b & 0xFFFu);
  return {static_cast<uint16_t>((sign >> 16) | (two_w > 0xFF000000u ? 0x7E00u : nonsign))};
}

}  // namespace HNN_NAMESPACE
