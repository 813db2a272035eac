// The access of one thread to trains (tensors over time): the elements of its neuron, step by step.
#pragma once

#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <cstdint>

#include "arguments.h"

namespace HNN_NAMESPACE {

using torch::headeronly::BFloat16;
using torch::headeronly::Half;

// -- element types ----------------------------------------------------------------------------------------------------

// Bits: the type that a register holds between load and use. A conversion at the load would wait for the load.
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

// -- trains -----------------------------------------------------------------------------------------------------------

// Reads one neuron's train, forwards in time or (kSign = -1) backwards, a batch of steps ahead of their use. The code
// that uses a batch is compiled once for each of its steps (kUnroll), or, where that would be too much code, once for
// all.
template <class IO, int kSign, bool kUnroll>
class Reader {
  using Bits = typename Element<IO>::Bits;
  // Steps that are loaded together, while those of the batch before are computed.
  static constexpr int kBatch = kUnroll ? 8 : 2;

 public:
  HNN_INLINE Reader(const hnn::cuda::Train& train, int64_t at) : step_(train.step) {
    if (!train.data) return;
    data_ = static_cast<const Bits*>(train.data) + at;
    varies_ = !train.constant;
    if (train.constant) value_ = __ldg(data_);
  }
  // Begins to load `count` steps, from step t on.
  HNN_INLINE void start(int t, int count) {
    at_ = data_ + t * step_;
    count_ = count;
    unread_ = varies_ ? count : 0;
    load();
  }
  // Begins to load the `count` steps that follow those of the last start.
  HNN_INLINE void go_on(int count) {
    // The loads ran ahead by a batch, and by the surplus steps of the last batch.
    at_ -= kSign * step_ * (kBatch + (kBatch - count_ % kBatch) % kBatch);
    count_ = count;
    unread_ = varies_ ? count : 0;
    load();
  }
  // Calls f(x) for each of these steps.
  template <class F>
  HNN_INLINE void each(F f) {
    for (int left = count_; left > 0; left -= kBatch) {
      Bits now[kBatch];
#pragma unroll
      for (int i = 0; i < kBatch; ++i) now[i] = next_[i];
      load();
      if (kUnroll && left >= kBatch) {
#pragma unroll
        for (int i = 0; i < kBatch; ++i) f(Element<IO>::widen(now[i]));
        continue;
      }
      const int count = left < kBatch ? left : kBatch;
#pragma unroll 1
      for (int i = 0; i < count; ++i) {
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

// Writes one neuron's train step by step in the direction of kSign. Where the train is absent, the values are dropped.
template <class IO, int kSign>
class Writer {
  using Bits = typename Element<IO>::Bits;
  using Compute = typename Element<IO>::Compute;

 public:
  HNN_INLINE Writer(const hnn::cuda::Train& train, int64_t at) : step_(train.step) {
    data_ = static_cast<Bits*>(train.data) + at;
    at_ = data_;
    present_ = train.data && !train.constant;
  }
  HNN_INLINE void start(int t) { at_ = data_ + t * step_; }
  HNN_INLINE void put(Compute x) {
    if (present_) *at_ = Element<IO>::narrow(x);
    at_ += kSign * step_;
  }

 private:
  int64_t step_;
  Bits* data_;
  Bits* at_;
  bool present_;
};

}  // namespace HNN_NAMESPACE
