// The CUDA kernels: one thread takes one neuron through all steps, forward, and for the gradient forward again (the
// potentials of a segment go to shared memory) and then backward. Threads exchange nothing: a thread's column of the
// shared memory is its own, so there is no synchronisation, and the host shim can run one thread after the other.
//
// Shared memory rather than registers, because its rows may be indexed by a loop: the segment is as long as the call
// needs, no unrolled step is wasted, and the registers are free for the loads in flight.
#pragma once

#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <cmath>
#include <cstdint>

#include "arguments.h"

#define HNN_NAMESPACE hnn_cuda
#define HNN_INLINE __device__ __forceinline__

namespace HNN_NAMESPACE {

HNN_INLINE float scalar_of(float x) { return x; }
HNN_INLINE double scalar_of(double x) { return x; }
HNN_INLINE float fma_(float a, float b, float c) { return fmaf(a, b, c); }
HNN_INLINE double fma_(double a, double b, double c) { return fma(a, b, c); }
HNN_INLINE float exp2_(float x) { return exp2f(x); }
HNN_INLINE double exp2_(double x) { return exp2(x); }
HNN_INLINE float erfc_(float x) { return erfcf(x); }
HNN_INLINE double erfc_(double x) { return erfc(x); }

}  // namespace HNN_NAMESPACE

#include "../neuron.h"

namespace HNN_NAMESPACE {

using torch::headeronly::BFloat16;
using torch::headeronly::Half;

// Steps that are loaded together, while those of the batch before are computed.
constexpr int kBatch = 8;

// -- element types ----------------------------------------------------------------------------------------------------

// Bits: what a register holds between load and use. A conversion at the load would wait for it.
template <class IO>
struct Element {
  using Compute = float;
  using Bits = unsigned short;
  static HNN_INLINE float widen(Bits x) { return IO(x, IO::from_bits()); }
  static HNN_INLINE Bits narrow(float x) { return IO(x).x; }
};
template <class C>
struct PlainElement {
  using Compute = C;
  using Bits = C;
  static HNN_INLINE C widen(C x) { return x; }
  static HNN_INLINE C narrow(C x) { return x; }
};
template <>
struct Element<float> : PlainElement<float> {};
template <>
struct Element<double> : PlainElement<double> {};

// -- operands ---------------------------------------------------------------------------------------------------------

template <class Unsigned, class F>
HNN_INLINE void each_axis(const hnn::cuda::Call& call, Unsigned m, F f) {
#pragma unroll 1
  for (int axis = call.dims - 1; axis > 0; --axis) {
    const Unsigned size = static_cast<Unsigned>(call.size[axis]), rest = m / size;
    f(axis, static_cast<int64_t>(m - rest * size));
    m = rest;
  }
  f(0, static_cast<int64_t>(m));
}
// f(axis, index of neuron m along it). The 32-bit division is several times as fast.
template <class F>
HNN_INLINE void each_axis(const hnn::cuda::Call& call, int64_t m, F f) {
  if (call.few) {
    each_axis(call, static_cast<uint32_t>(m), f);
  } else {
    each_axis(call, static_cast<uint64_t>(m), f);
  }
}

template <class C>
HNN_INLINE C read(const hnn::cuda::PerNeuron& operand, int64_t at) {
  return operand.data ? __ldg(static_cast<const C*>(operand.data) + at) : static_cast<C>(operand.value);
}
template <class C>
HNN_INLINE void write(void* data, int64_t at, C x) {
  if (data) static_cast<C*>(data)[at] = x;
}

// Reads one neuron's train, forwards in time or (kSign = -1) backwards, a batch of steps ahead of their use.
template <class IO, int kSign>
class Reader {
  using Bits = typename Element<IO>::Bits;

 public:
  HNN_INLINE Reader(const hnn::cuda::Train& train, int64_t at) : step_(train.step) {
    if (!train.data) return;
    data_ = static_cast<const Bits*>(train.data) + at;
    varies_ = !train.constant;
    if (train.constant) value_ = __ldg(data_);
  }
  // Begin to load `count` steps, from step t on.
  HNN_INLINE void start(int t, int count) {
    at_ = data_ + t * step_;
    count_ = count;
    unread_ = varies_ ? count : 0;
    load();
  }
  // f(x) for each of these steps.
  template <class F>
  HNN_INLINE void each(F f) {
    for (int left = count_; left > 0; left -= kBatch) {
      Bits now[kBatch];
#pragma unroll
      for (int i = 0; i < kBatch; ++i) now[i] = next_[i];
      load();
      if (left >= kBatch) {
#pragma unroll
        for (int i = 0; i < kBatch; ++i) f(Element<IO>::widen(now[i]));
        continue;
      }
#pragma unroll 1
      for (int i = 0; i < left; ++i) {
        f(Element<IO>::widen(now[0]));
#pragma unroll
        for (int j = 0; j + 1 < kBatch; ++j) now[j] = now[j + 1];  // registers have no run-time index
      }
    }
  }

 private:
  HNN_INLINE void load() {
    if (unread_ >= kBatch) {
#pragma unroll
      for (int i = 0; i < kBatch; ++i, at_ += kSign * step_) next_[i] = __ldg(at_);
    } else {
#pragma unroll
      for (int i = 0; i < kBatch; ++i, at_ += kSign * step_) next_[i] = i < unread_ ? __ldg(at_) : value_;
    }
    unread_ -= kBatch;
  }
  const Bits* data_ = nullptr;
  const Bits* at_ = nullptr;
  int64_t step_;
  int count_ = 0, unread_ = 0;
  bool varies_ = false;
  Bits value_{};  // of every step of a train that is constant in time, or absent
  Bits next_[kBatch];
};

// Writes one neuron's train step by step in the direction of kSign; drops it where the train is absent.
template <class IO, int kSign>
class Writer {
  using Bits = typename Element<IO>::Bits;
  using Compute = typename Element<IO>::Compute;

 public:
  HNN_INLINE Writer(const hnn::cuda::Train& train, int64_t at) : step_(train.step) {
    data_ = static_cast<Bits*>(train.data) + at;
    at_ = data_;
    present_ = train.data && !train.constant;
    streaming_ = present_ && train.streaming;
    plain_ = present_ && !train.streaming;
  }
  HNN_INLINE void start(int t) { at_ = data_ + t * step_; }
  HNN_INLINE void put(Compute x) {
    const Bits bits = Element<IO>::narrow(x);
    if (streaming_) __stcs(at_, bits);
    if (plain_) *at_ = bits;
    at_ += kSign * step_;
  }

 private:
  int64_t step_;
  Bits* data_;
  Bits* at_;
  bool present_, streaming_, plain_;
};

// -- kernels ----------------------------------------------------------------------------------------------------------

HNN_INLINE int64_t this_neuron() { return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; }

template <class IO, int kSurrogate, bool kSmooth>
__global__ void __launch_bounds__(hnn::cuda::kForwardBlock)
    forward(const __grid_constant__ hnn::cuda::ForwardCall call) {
  using C = typename Element<IO>::Compute;
  const int64_t m = this_neuron();
  if (m >= call.neurons) return;
  struct {
    int64_t current, out, decay, reset_decay, threshold, v, r, last;
  } at = {};
  each_axis(call, m, [&](int axis, int64_t index) {
    at.current += index * call.current.stride[axis];
    at.out += index * call.out.stride[axis];
    at.decay += index * call.decay.stride[axis];
    at.reset_decay += index * call.reset_decay.stride[axis];
    at.threshold += index * call.threshold.stride[axis];
    at.v += index * call.v.stride[axis];
    at.r += index * call.r.stride[axis];
    at.last += index * call.last_v.stride[axis];
  });
  Reader<IO, 1> current(call.current, at.current);
  current.start(0, call.steps);
  Writer<IO, 1> out(call.out, at.out);
  const Coefficients<C> c = {read<C>(call.decay, at.decay), read<C>(call.reset_decay, at.reset_decay),
                             read<C>(call.threshold, at.threshold)};
  const C inverse_width = static_cast<C>(call.inverse_width);
  State<C> s = {read<C>(call.v, at.v), read<C>(call.r, at.r)};
  C count = 0;
  current.each([&](C x) {
    const C spike = forward_step<kSurrogate, kSmooth>(s, x, c, inverse_width);
    count += spike;
    out.put(spike);
  });
  if (call.out.constant) write(call.out.data, at.out, Element<IO>::narrow(count));
  write(call.last_v.data, at.last, s.v);
  write(call.last_r.data, at.last, s.r);
}

// Blocks per multiprocessor that the registers must allow: 80 registers a thread and 768 threads, 128 and 512 in
// float64. Left alone, ptxas spills a few bytes to get a little lower, or takes 110 for a schedule of no use here.
template <class IO>
constexpr int kBackwardBlocks = sizeof(IO) == 8 ? 8 : 12;

template <class IO, int kSurrogate, bool kSmooth, int kResetGrad, bool kLearns>
__global__ void __launch_bounds__(hnn::cuda::kBackwardBlock, kBackwardBlocks<IO>)
    backward(const __grid_constant__ hnn::cuda::BackwardCall call) {
  using C = typename Element<IO>::Compute;
  const int64_t m = this_neuron();
  if (m >= call.neurons) return;
  struct {
    int64_t current, grad_out, grad_current, decay, reset_decay, threshold, v, r, grad_last_v, grad_last_r, grad;
  } at = {};
  each_axis(call, m, [&](int axis, int64_t index) {
    at.current += index * call.current.stride[axis];
    at.grad_out += index * call.grad_out.stride[axis];
    at.grad_current += index * call.grad_current.stride[axis];
    at.decay += index * call.decay.stride[axis];
    at.reset_decay += index * call.reset_decay.stride[axis];
    at.threshold += index * call.threshold.stride[axis];
    at.v += index * call.v.stride[axis];
    at.r += index * call.r.stride[axis];
    at.grad_last_v += index * call.grad_last_v.stride[axis];
    at.grad_last_r += index * call.grad_last_r.stride[axis];
    at.grad += index * call.grad_v.stride[axis];
  });
  Reader<IO, 1> current(call.current, at.current);
  Reader<IO, -1> grad_out(call.grad_out, at.grad_out);
  Writer<IO, -1> grad_current(call.grad_current, at.grad_current);
  const Coefficients<C> c = {read<C>(call.decay, at.decay), read<C>(call.reset_decay, at.reset_decay),
                             read<C>(call.threshold, at.threshold)};
  const C inverse_width = static_cast<C>(call.inverse_width);
  State<C> s = {read<C>(call.v, at.v), read<C>(call.r, at.r)};
  Adjoint<C> adjoint = {read<C>(call.grad_last_v, at.grad_last_v), read<C>(call.grad_last_r, at.grad_last_r)};
  Coefficients<C> sum = {};
  C total = 0;  // of a constant current's gradient

  constexpr int kRow = hnn::cuda::kBackwardBlock;
  HNN_SHARED(C, shared);
  C* const v = shared + threadIdx.x;                         // V[t] is v[(t - begin) * kRow]
  C* const r = kLearns ? v + call.segment * kRow : nullptr;  // R[t] likewise
  C* const starts = static_cast<C*>(call.starts) + m;
  const auto begin_of = [&](int segment) {
    const int begin = call.steps - (call.segments - segment) * call.segment;
    return begin > 0 ? begin : 0;
  };

  for (int i = 0; i + 1 < call.segments; ++i) {
    C* const start = starts + 2 * i * call.neurons;
    start[0] = s.v;
    start[call.neurons] = s.r;
    const int begin = begin_of(i);
    current.start(begin, begin_of(i + 1) - begin);
    current.each([&](C x) { forward_step<kSurrogate, kSmooth>(s, x, c, inverse_width); });
  }
  for (int i = call.segments - 1; i >= 0; --i) {
    const int begin = begin_of(i), end = begin_of(i + 1);
    current.start(begin, end - begin);
    grad_out.start(end - 1, end - begin);  // before they are needed, so that their latency passes in the loop below
    grad_current.start(end - 1);
    if (i + 1 < call.segments) {
      const C* const start = starts + 2 * i * call.neurons;
      s = {start[0], start[call.neurons]};
    }
    const C before = s.v;
    int row = 0;
    current.each([&](C x) {
      if constexpr (kLearns) r[row] = s.r;
      forward_step<kSurrogate, kSmooth>(s, x, c, inverse_width);
      v[row] = s.v;
      row += kRow;
    });
    C v_t = s.v;
    grad_out.each([&](C grad) {
      row -= kRow;
      const C previous_v = row > 0 ? v[row - kRow] : before, next_r = adjoint.r;
      C through_spike;
      const C grad_v = backward_step<kSurrogate, kResetGrad>(adjoint, grad, v_t, c, inverse_width, through_spike);
      if constexpr (kLearns) accumulate(sum, grad_v, through_spike, next_r, previous_v, r[row]);
      v_t = previous_v;
      total += grad_v;
      grad_current.put(grad_v);
    });
  }

  if (call.current.constant) write(call.grad_current.data, at.grad_current, Element<IO>::narrow(total));
  write(call.grad_v.data, at.grad, adjoint.v);
  write(call.grad_r.data, at.grad, adjoint.r);
  if constexpr (kLearns) {
    write(call.partial_decay, m, sum.decay);
    write(call.partial_reset_decay, m, sum.reset_decay);
    write(call.partial_threshold, m, sum.threshold);
  }
}

}  // namespace HNN_NAMESPACE
