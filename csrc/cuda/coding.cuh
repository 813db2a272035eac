// The kernels of the codings: one thread takes one element through all steps, four at a time.
#pragma once

#include "kernels.cuh"

namespace HNN_NAMESPACE {

HNN_INLINE float float_of(int32_t x) { return static_cast<float>(x); }
HNN_INLINE int32_t as_int(float x) { return __float_as_int(x); }
HNN_INLINE float as_float(int32_t x) { return __int_as_float(x); }
HNN_INLINE float sqrt_(float x) { return sqrtf(x); }
HNN_INLINE void multiply(uint32_t a, uint32_t b, uint32_t& high, uint32_t& low) {
  high = __umulhi(a, b);
  low = a * b;
}

}  // namespace HNN_NAMESPACE

#include "../noise.h"

namespace HNN_NAMESPACE {

HNN_INLINE float exp_(float x) { return exp_of<int32_t, uint32_t>(x); }
HNN_INLINE double exp_(double x) { return exp(x); }

// The noise of one element, in groups of four steps: those groups that contain a step of the call.
class Noise {
 public:
  HNN_INLINE Noise(const hnn::cuda::CodingCall& call, int64_t element)
      : seed_(static_cast<uint64_t>(__ldg(call.seed))),
        element_(static_cast<uint64_t>(call.first_element) + element),
        group_(call.first_step / 4),
        begin_(group_ * 4 - call.first_step),
        steps_(call.steps) {}

  HNN_INLINE bool left() const { return begin_ < steps_; }
  // True if step i of the group belongs to the call.
  HNN_INLINE bool has(int i) const { return begin_ + i >= 0 && begin_ + i < steps_; }
  template <bool kNormal>
  HNN_INLINE void generate(float (&x)[4]) const {
    uint32_t c[4] = {static_cast<uint32_t>(element_), static_cast<uint32_t>(element_ >> 32),
                     static_cast<uint32_t>(group_), static_cast<uint32_t>(group_ >> 32)};
    philox(c, seed_);
    if (kNormal) {
      normals<int32_t>(c[0], c[1], x[0], x[1]);
      normals<int32_t>(c[2], c[3], x[2], x[3]);
    } else {
#pragma unroll
      for (int i = 0; i < 4; ++i) x[i] = uniform<float, int32_t>(c[i]);
    }
  }
  HNN_INLINE void go_on() {
    ++group_;
    begin_ += 4;
  }

 private:
  uint64_t seed_, element_;
  int64_t group_, begin_, steps_;  // the group's number, and its first step within the call
};

template <class IO>
HNN_INLINE typename Element<IO>::Compute read(const hnn::cuda::Operand& operand, int64_t at) {
  return Element<IO>::widen(__ldg(static_cast<const typename Element<IO>::Bits*>(operand.data) + at));
}
template <class IO>
HNN_INLINE void write(const hnn::cuda::Operand& operand, int64_t at, typename Element<IO>::Compute x) {
  if (operand.data) static_cast<typename Element<IO>::Bits*>(operand.data)[at] = Element<IO>::narrow(x);
}

// out[t] = value(noise[t])
template <bool kNormal, class IO, class Value>
HNN_INLINE void encode(const hnn::cuda::CodingCall& call, int64_t element, int64_t at_out, Value value) {
  Writer<IO, 1, 1> out(call.out, at_out);
  for (Noise noise(call, element); noise.left(); noise.go_on()) {
    float x[4];
    noise.generate<kNormal>(x);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (noise.has(i)) out.put(value(x[i]));
    }
  }
}

template <class IO>
__global__ void __launch_bounds__(hnn::cuda::kForwardBlock)
    encode_gaussian(const __grid_constant__ hnn::cuda::CodingCall call) {
  using C = typename Element<IO>::Compute;
  const int64_t m = this_thread();
  if (m >= call.neurons) return;
  int64_t element = 0, at_mean = 0, at_log_std = 0, at_out = 0;
  each_axis(call, m, [&](int axis, int64_t index) {
    element += index * call.element[axis];
    at_mean += index * call.value.stride[axis];
    at_log_std += index * call.log_std.stride[axis];
    at_out += index * call.out.stride[axis];
  });
  const C mean = read<IO>(call.value, at_mean), std = exp_(read<IO>(call.log_std, at_log_std));
  encode<true, IO>(call, element, at_out, [&](float x) { return mean + std * static_cast<C>(x); });
}

template <class IO>
__global__ void __launch_bounds__(hnn::cuda::kForwardBlock)
    encode_poisson(const __grid_constant__ hnn::cuda::CodingCall call) {
  using C = typename Element<IO>::Compute;
  const int64_t m = this_thread();
  if (m >= call.neurons) return;
  int64_t element = 0, at_value = 0, at_out = 0;
  each_axis(call, m, [&](int axis, int64_t index) {
    element += index * call.element[axis];
    at_value += index * call.value.stride[axis];
    at_out += index * call.out.stride[axis];
  });
  const C p = read<IO>(call.value, at_value);
  HNN_ASSERT(p >= 0 && p <= 1, HNN_NO_PROBABILITY);
  encode<false, IO>(call, element, at_out, [&](float x) { return static_cast<C>(x) < p ? C(1) : C(0); });
}

template <class IO>
__global__ void __launch_bounds__(hnn::cuda::kForwardBlock)
    gaussian_backward(const __grid_constant__ hnn::cuda::CodingCall call) {
  using C = typename Element<IO>::Compute;
  using Bits = typename Element<IO>::Bits;
  const int64_t m = this_thread();
  if (m >= call.neurons) return;
  int64_t element = 0, at_log_std = 0, at_grad_out = 0, at_grad_mean = 0, at_grad_log_std = 0;
  each_axis(call, m, [&](int axis, int64_t index) {
    element += index * call.element[axis];
    at_log_std += index * call.log_std.stride[axis];
    at_grad_out += index * call.grad_out.stride[axis];
    at_grad_mean += index * call.grad_mean.stride[axis];
    at_grad_log_std += index * call.grad_log_std.stride[axis];
  });
  const Bits* next = static_cast<const Bits*>(call.grad_out.data) + at_grad_out;
  C sum = 0, weighted = 0;
  for (Noise noise(call, element); noise.left(); noise.go_on()) {
    Bits grad[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {  // all loads before the arithmetic, which hides them
      grad[i] = {};
      if (!noise.has(i)) continue;
      grad[i] = __ldg(next);
      next += call.grad_out.step;
    }
    float x[4] = {};
    if (call.grad_log_std.data) noise.generate<true>(x);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const C g = Element<IO>::widen(grad[i]);
      sum += g;
      weighted += g * static_cast<C>(x[i]);
    }
  }
  write<IO>(call.grad_mean, at_grad_mean, sum);
  write<IO>(call.grad_log_std, at_grad_log_std, exp_(read<IO>(call.log_std, at_log_std)) * weighted);
}

}  // namespace HNN_NAMESPACE
