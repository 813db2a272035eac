// The noise of the codings, of one element (or of a vector of them), for four steps at a time. hnn_kernels/_noise.py
// defines it, and every backend has the same bits. So only operations that are rounded exactly are used, each rounded
// once, in that file's order, and contraction into FMA is off. W holds words of Philox in its low 32 bits, V holds
// floats, U and I as many unsigned and signed 32-bit integers.
//
// No include guard, as in neuron.h, which is included before. The including file has defined, for its types,
// multiply(W, uint32_t, W& high, W& low), sqrt_(V), float_of(I) (the number), and as_int(V) and as_float(I) (the bits).
#ifndef HNN_NAMESPACE
#error "included by csrc/cpu/body.inl and csrc/cuda/coding.cuh, after neuron.h"
#endif

namespace HNN_NAMESPACE {

// Philox4x32-10: the counter becomes four random words.
template <class W>
HNN_INLINE void philox(W (&c)[4], uint64_t key) {
  uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    W high0, low0, high2, low2;
    multiply(c[0], 0xD2511F53u, high0, low0);
    multiply(c[2], 0xCD9E8D57u, high2, low2);
    c[0] = high2 ^ c[1] ^ k0;
    c[1] = low2;
    c[2] = high0 ^ c[3] ^ k1;
    c[3] = low0;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
}

template <class V>
HNN_INLINE V polynomial(V, V y) {
  return y;
}
// (y * x + next) * x + ...
template <class V, class... More>
HNN_INLINE V polynomial(V x, V y, double next, More... more) {
  return polynomial(x, y * x + broadcast<V>(next), more...);
}

// Two independent standard normal numbers from two words (Box and Muller).
template <class I, class U, class V>
HNN_INLINE void normals(U radius, U angle, V& first, V& second) {
  const V one = broadcast<V>(1);
  const V u = float_of((I)(radius >> 1)) + broadcast<V>(0.5);
  const I bits = as_int(u), shifted = bits - 0x3F3504F3;
  const V f = as_float(bits - (shifted & -0x800000)) - one;
  const V log_m = f + f * f *
                          polynomial(f, broadcast<V>(0.08734841104200014), -0.14307520964404502, 0.14917973940519852,
                                     -0.16570508284949248, 0.19962072114179255, -0.2500175524950008,
                                     0.33333950222089354, -0.4999999160642517);
  const V length = sqrt_(float_of(31 - (shifted >> 23)) * broadcast<V>(0.6931471805599453) - log_m);
  const V d = float_of((I)(angle & 0x3FFFFFFFu) - 0x20000000) * broadcast<V>(1.4629180792671596e-09);
  const V z = d * d;
  const V sin =
      d + d * (z * polynomial(z, broadcast<V>(-0.00019504021998962504), 0.008332036875148635, -0.16666650699202343));
  const V cos = one + z * polynomial(z, broadcast<V>(-0.0013585908508208667), 0.04165502688406858, -0.4999985669584427);
  first = as_float(as_int(length * (cos + sin)) ^ (I)(angle & 0x80000000u));
  second = as_float(as_int(length * (cos - sin)) ^ (I)((angle << 1) & 0x80000000u));
}

// Uniform on the multiples of 2^-24 in [0, 1).
template <class V, class I, class U>
HNN_INLINE V uniform(U word) {
  return float_of((I)(word >> 8)) * broadcast<V>(5.9604644775390625e-08);
}

// exp(x) in float32; 0 below 2^-126 and infinity from 3.4e38 on.
template <class I, class U, class V>
HNN_INLINE V exp_of(V x) {
  const V low = broadcast<V>(-87.3), high = broadcast<V>(88.72), one = broadcast<V>(1);
  const V shift = broadcast<V>(12582912);  // 1.5 * 2^23: adding it rounds to an integer in the low bits
  const V inside = x < low ? low : x > high ? high : x;
  const V shifted = inside * broadcast<V>(1.4426950408889634) + shift, n = shifted - shift;
  const V f = inside - n * broadcast<V>(0.693359375) - n * broadcast<V>(-2.12194440e-4);
  const V p = one + (f + f * f *
                             polynomial(f, broadcast<V>(0.0013950602284401132), 0.008368953512663022,
                                        0.041666204138832666, 0.16666518306017716, 0.5000000095700851));
  const V y = as_float((I)((U)(as_int(p)) + ((U)(as_int(shifted)) << 23)));
  return x != x ? x : x > high ? broadcast<V>(__builtin_inff()) : x < low ? V{} : y;
}

}  // namespace HNN_NAMESPACE
