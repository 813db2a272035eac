// Generated from hnn_kernels/surrogates.py by `make generate`.
// P(x) and scale * P'(x) of the distance x = V - V_th to the threshold. The period is that of their peaks.
#ifndef HNN_NAMESPACE
#error "included by neuron.h: see there"
#endif

namespace HNN_NAMESPACE {

enum Surrogate {
  kGaussian,
  kSigmoid,
  kArctan,
  kFastSigmoid,
  kTriangle,
  kRectangle,
  kExponential,
  kPeriodicExponential,
  kSurrogates
};  // the last counts them

template <class V>
HNN_INLINE V primitive(int surrogate, V x, V inverse_width, V period) {
  switch (surrogate) {
    default: {  // kGaussian
      return broadcast<V>(0.5) * erfc_(x * inverse_width * broadcast<V>(-0.7071067811865476));
    }
    case kSigmoid: {
      const auto a = exp2_(abs_(x * inverse_width) * broadcast<V>(-1.4426950408889634));
      return where_(x >= V{}, broadcast<V>(1.0), a) / (broadcast<V>(1.0) + a);
    }
    case kArctan: {
      return broadcast<V>(0.5) + atan_(x * inverse_width) * broadcast<V>(0.3183098861837907);
    }
    case kFastSigmoid: {
      const auto a = x * inverse_width;
      return broadcast<V>(0.5) + broadcast<V>(0.5) * a / (broadcast<V>(1.0) + abs_(a));
    }
    case kTriangle: {
      const auto a = broadcast<V>(1.0) - abs_(x * inverse_width);
      const auto b = where_(a > V{}, a, V{});
      const auto c = broadcast<V>(0.5) * (b * b);
      return where_(x >= V{}, broadcast<V>(1.0) - c, c);
    }
    case kRectangle: {
      const auto a = x * inverse_width;
      const auto b = broadcast<V>(1.0) + a;
      return where_(a >= broadcast<V>(1.0), broadcast<V>(1.0), broadcast<V>(0.5) * where_(b > V{}, b, V{}));
    }
    case kExponential: {
      const auto a = x * inverse_width;
      const auto b = broadcast<V>(0.5) * exp2_(abs_(a) * broadcast<V>(-1.4426950408889634));
      return where_(a >= V{}, broadcast<V>(1.0) - b, b);
    }
    case kPeriodicExponential: {
      const auto a = where_(x > V{}, round_(x / period), V{});
      const auto b = (x - a * period) * inverse_width;
      const auto c = broadcast<V>(0.5) * exp2_(abs_(b) * broadcast<V>(-1.4426950408889634));
      return a * (broadcast<V>(1.0) -
                  exp2_(abs_(broadcast<V>(0.5) * period * inverse_width) * broadcast<V>(-1.4426950408889634))) +
             where_(b >= V{}, broadcast<V>(1.0) - c, c);
    }
  }
}

template <class V>
HNN_INLINE V density(int surrogate, V x, V inverse_width, V scale, V period) {
  switch (surrogate) {
    default: {  // kGaussian
      return scaled_exp2_(x * (inverse_width * inverse_width * broadcast<V>(-0.7213475204444817)) * x,
                          scale * inverse_width * broadcast<V>(0.3989422804014327));
    }
    case kSigmoid: {
      const auto a = exp2_(abs_(x * inverse_width) * broadcast<V>(-1.4426950408889634));
      const auto b = broadcast<V>(1.0) + a;
      return scale * inverse_width * a / (b * b);
    }
    case kArctan: {
      const auto a = x * inverse_width;
      return scale * inverse_width * broadcast<V>(0.3183098861837907) / fma_(a, a, broadcast<V>(1.0));
    }
    case kFastSigmoid: {
      const auto a = broadcast<V>(1.0) + abs_(x * inverse_width);
      return broadcast<V>(0.5) * (scale * inverse_width) / (a * a);
    }
    case kTriangle: {
      const auto a = broadcast<V>(1.0) - abs_(x * inverse_width);
      return scale * inverse_width * where_(a > V{}, a, V{});
    }
    case kRectangle: {
      return where_(abs_(x * inverse_width) < broadcast<V>(1.0), broadcast<V>(0.5) * (scale * inverse_width), V{});
    }
    case kExponential: {
      return broadcast<V>(0.5) * (scale * inverse_width) *
             exp2_(abs_(x * inverse_width) * broadcast<V>(-1.4426950408889634));
    }
    case kPeriodicExponential: {
      return broadcast<V>(0.5) * (scale * inverse_width) *
             exp2_(abs_((x - where_(x > V{}, round_(x / period), V{}) * period) * inverse_width) *
                   broadcast<V>(-1.4426950408889634));
    }
  }
}

}  // namespace HNN_NAMESPACE
