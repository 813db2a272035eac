// The access of one thread to trains (tensors over time): the elements of its neurons, step by step.
#pragma once

#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <cstdint>
#include <type_traits>

#include "arguments.h"
#include "lanes.cuh"

namespace HNN_NAMESPACE {

using torch::headeronly::BFloat16;
using torch::headeronly::Half;

// -- element types ----------------------------------------------------------------------------------------------------

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

// The elements of `n` neurons, which one access loads or stores. Bits: the type that registers hold between load and
// use. A conversion at the load would wait for the load.
template <class IO, int n>
struct Packed {
  static_assert(n == 2 && sizeof(IO) == 2);
  using Bits = unsigned;
  static HNN_INLINE Lanes<float, 2> widen(Bits x) {
    // bfloat16 is the upper half of float32.
    if (std::is_same_v<IO, BFloat16>) return {__int_as_float(x << 16), __int_as_float(x & 0xFFFF0000u)};
    return {Element<IO>::widen(static_cast<unsigned short>(x)),
            Element<IO>::widen(static_cast<unsigned short>(x >> 16))};
  }
  static HNN_INLINE Bits narrow(Lanes<float, 2> x) { return bits(IO(), x.lane[0], x.lane[1]); }

 private:
  // The conversion of two takes one instruction.
#ifdef __CUDA_ARCH__
  static HNN_INLINE Bits bits(BFloat16, float low, float high) {
    const __nv_bfloat162 both = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const Bits*>(&both);
  }
  static HNN_INLINE Bits bits(Half, float low, float high) {
    const __half2 both = __floats2half2_rn(low, high);
    return *reinterpret_cast<const Bits*>(&both);
  }
#else
  static Bits bits(IO, float low, float high) {
    return Element<IO>::narrow(low) | static_cast<Bits>(Element<IO>::narrow(high)) << 16;
  }
#endif
};
template <class IO>
struct Packed<IO, 1> : Element<IO> {};
template <>
struct Packed<float, 2> {
  using Bits = float2;
  static HNN_INLINE Lanes<float, 2> widen(Bits x) { return {x.x, x.y}; }
  static HNN_INLINE Bits narrow(Lanes<float, 2> x) { return {x.lane[0], x.lane[1]}; }
};
template <class IO>
struct Packed<IO, 4> {
  using Bits = uint2;
  using Two = Packed<IO, 2>;
  static HNN_INLINE Lanes<float, 4> widen(Bits x) {
    const Lanes<float, 2> low = Two::widen(x.x), high = Two::widen(x.y);
    return {low.lane[0], low.lane[1], high.lane[0], high.lane[1]};
  }
  static HNN_INLINE Bits narrow(Lanes<float, 4> x) {
    return {Two::narrow({x.lane[0], x.lane[1]}), Two::narrow({x.lane[2], x.lane[3]})};
  }
};

// -- trains -----------------------------------------------------------------------------------------------------------

constexpr int kSectorBytes = 32;  // of the L2 cache, what a request to the memory fetches
// What the threads of a multiprocessor ask for ahead of a train: several times what the memory's latency needs, and two
// fifths of an H100's cache.
constexpr int kAskedBytes = 160 << 10;

// Goes through a train step by step. Where a thread has several neurons, the host has checked that 32 bits hold the
// bytes from one step to the next. Then an address takes one instruction, a multiply-add by a factor of 1 that the
// compiler does not know. Otherwise it takes two, hidden from the compiler, which would compute some addresses from
// others and keep more registers.
template <int kLanes, class Bits>
class Walk {
 public:
  HNN_INLINE Walk(const hnn::cuda::Train& train, int64_t at, int sign, int bytes)
      : data_(static_cast<char*>(train.data) + at * static_cast<int64_t>(sizeof(Bits))),
        at_(data_),
        step_(static_cast<Step>(sign * train.step * bytes)),
        one_(train.one) {}
  HNN_INLINE char* at(int t, int sign) const { return data_ + bytes(t * sign); }
  HNN_INLINE int64_t bytes(int steps) const { return steps * static_cast<int64_t>(step_); }
  HNN_INLINE const char* behind(int steps) const { return at_ + bytes(steps); }
  HNN_INLINE void start(int t, int sign) { at_ = at(t, sign); }
  HNN_INLINE Bits* here() const {
#ifdef __CUDA_ARCH__
    __builtin_assume(__isGlobal(at_));  // what the assembly below hides
#endif
    return reinterpret_cast<Bits*>(at_);
  }
  HNN_INLINE void next() {
#ifdef __CUDA_ARCH__
    if constexpr (kLanes > 1) {
      asm("mad.wide.s32 %0, %1, %2, %0;" : "+l"(at_) : "r"(step_), "r"(one_));
    } else {
      asm("add.s64 %0, %0, %1;" : "+l"(at_) : "l"(step_));
    }
#else
    at_ += step_;
#endif
  }

 private:
  using Step = std::conditional_t<(kLanes > 1), int32_t, int64_t>;
  char* data_;
  char* at_;
  Step step_;
  int32_t one_;
};

// The values of `count` steps, one behind the other.
template <class V, int kCount>
struct Steps {
  static constexpr int count = kCount;
  V of[kCount];
};

// Reads the train of a thread's neurons, forwards in time or (kSign = -1) backwards. The steps are loaded in groups,
// two of which are on their way or in use, so that the next is loaded into the registers that the last one leaves. The
// code that uses them is compiled once for each step of two groups (kUnroll), or, where that would be too much code,
// once for all. What is left behind the last two groups has code for each of its steps, or (kRolls) for one.
//
// Where two groups of every thread on a multiprocessor are fewer bytes than the memory's latency needs, what is read
// next can be asked for. It comes as far as the L2 cache, which takes no register. kThreads of a multiprocessor share
// kAskedBytes: each asks for kAhead steps at once, and then (kFollows) for those that lie so far behind what it loads.
template <class IO, int kLanes, int kSign, bool kUnroll, bool kRolls, int kThreads = 0, bool kFollows = false>
class Reader {
  using Pack = Packed<IO, kLanes>;
  using Bits = typename Pack::Bits;
  using V = Neurons<typename Element<IO>::Compute, kLanes>;
  // 32 bytes, where a thread has several neurons. With one it has half of that at most: more would be too much code.
  static constexpr int kGroup = !kUnroll ? 1 : kLanes > 1 ? 32 / sizeof(Bits) : 4;
  static constexpr int kTurns = kSectorBytes / sizeof(Bits);
  static constexpr int kAhead = kThreads == 0 ? 0 : kAskedBytes / kThreads / (2 * kGroup * sizeof(Bits)) * (2 * kGroup);

 public:
  // `at` counts threads' elements.
  HNN_INLINE Reader(const hnn::cuda::Train& train, int64_t at)
      : walk_(train, at, kSign, sizeof(IO)), varies_(train.data && !train.constant) {
    if (train.data && train.constant) value_ = __ldg(walk_.here());
  }
  // Asks for the first of `count` steps, from step t on. The neighbours whose elements share a sector of the cache,
  // where they lie together, take turns in time: each asks for its own element's sector.
  HNN_INLINE void ask(int t, int count) const {
    if (kThreads == 0 || !varies_) return;
    const char* at = walk_.at(t + kSign * turn(), kSign);
    const int64_t bytes = walk_.bytes(kTurns);
#pragma unroll 1
    for (int left = (count < kAhead ? count : kAhead) - turn(); left > 0; left -= kTurns, at += bytes) fetch(at);
  }
  // Begins to load `count` steps, from step t on.
  HNN_INLINE void start(int t, int count) {
    walk_.start(t, kSign);
    left_ = count;
    unread_ = varies_ ? count : 0;
#pragma unroll
    for (int i = 0; i < kGroup; ++i) first_[i] = second_[i] = value_;
    load(first_);
    load(second_);
  }
  // Calls f(steps, i) for the values of some of these steps after others, the first of which is step i. Between calls
  // of passed(k), i counts from 0; k steps are over then.
  template <class F>
  HNN_INLINE void each(F f) {
    each(f, [](int) {});
  }
  template <class F, class Passed>
  HNN_INLINE void each(F f, Passed passed) {
    if constexpr (kUnroll) {
#pragma unroll 1
      for (; left_ >= 2 * kGroup; left_ -= 2 * kGroup) {
        f(widened(first_), 0);
        if constexpr (kFollows) ask_on();
        load(first_);
        f(widened(second_), kGroup);
        load(second_);
        passed(2 * kGroup);
      }
      if constexpr (kRolls) {
#pragma unroll 1
        for (; left_ > 0; --left_) {
          f(Steps<V, 1>{Pack::widen(first_[0])}, 0);
          passed(1);
#pragma unroll
          for (int i = 1; i < 2 * kGroup; ++i) loaded(i - 1) = loaded(i);
        }
      } else {
#pragma unroll
        for (int i = 0; i < 2 * kGroup - 1; ++i) {
          if (i >= left_) break;
          f(Steps<V, 1>{Pack::widen(loaded(i))}, i);
        }
        passed(left_);
      }
    } else {
#pragma unroll 1
      for (; left_ > 0; --left_) {
        const Bits now = first_[0];
        first_[0] = second_[0];
        load(second_);
        f(Steps<V, 1>{Pack::widen(now)}, 0);
        passed(1);
      }
    }
  }

 private:
  HNN_INLINE void load(Bits (&group)[kGroup]) {
    if (unread_ >= kGroup) {
#pragma unroll
      for (int i = 0; i < kGroup; ++i) group[i] = read();
    } else {
#pragma unroll
      for (int i = 0; i < kGroup - 1; ++i) {
        if (i >= unread_) break;
        group[i] = read();
      }
    }
    unread_ -= kGroup;
  }
  HNN_INLINE Bits& loaded(int i) { return i < kGroup ? first_[i] : second_[i - kGroup]; }
  static HNN_INLINE Steps<V, kGroup> widened(const Bits (&group)[kGroup]) {
    Steps<V, kGroup> steps;
#pragma unroll
    for (int i = 0; i < kGroup; ++i) steps.of[i] = Pack::widen(group[i]);
    return steps;
  }
  HNN_INLINE Bits read() {
    const Bits x = __ldg(walk_.here());
    walk_.next();
    return x;
  }
  static HNN_INLINE int turn() {
#ifdef __CUDA_ARCH__
    return threadIdx.x % kTurns;
#else
    return 0;
#endif
  }
  static HNN_INLINE void fetch(const char* at) {
#ifdef __CUDA_ARCH__
    asm volatile("prefetch.global.L2 [%0];" ::"l"(at));
#endif
  }
  // Asks for as many steps as the two groups that are loaded next, behind those that were asked for.
  HNN_INLINE void ask_on() const {
    constexpr int kSteps = 2 * kGroup;
#pragma unroll
    for (int i = 0; i < kSteps; i += kTurns) {
      const int step = i + turn(), further = kAhead - kSteps + step;
      if (step < kSteps && further < unread_) fetch(walk_.behind(further));
    }
  }

  Walk<kLanes, Bits> walk_;
  int left_ = 0, unread_ = 0;
  bool varies_;
  Bits value_{};  // of every step of a train that is constant in time, or absent
  Bits first_[kGroup], second_[kGroup];
};

// Reads a train beside another one, which leads: one value ahead.
template <class IO, int kSign>
class Beside {
  using Pack = Packed<IO, 1>;
  using V = typename Element<IO>::Compute;

 public:
  HNN_INLINE Beside(const hnn::cuda::Train& train, int64_t at)
      : walk_(train, at, kSign, sizeof(IO)), varies_(train.data && !train.constant) {
    if (train.data && train.constant) ahead_ = __ldg(walk_.here());
  }
  HNN_INLINE void start(int t, int count) {
    walk_.start(t, kSign);
    left_ = varies_ ? count : 0;
    load();
  }
  HNN_INLINE V next() {
    const V x = Pack::widen(ahead_);
    load();
    return x;
  }

 private:
  HNN_INLINE void load() {
    if (left_-- <= 0) return;
    ahead_ = __ldg(walk_.here());
    walk_.next();
  }

  Walk<1, typename Pack::Bits> walk_;
  int left_ = 0;
  bool varies_;
  typename Pack::Bits ahead_{};
};

// Writes the train of a thread's neurons step by step in the direction of kSign. Where it is absent, the values are
// dropped.
template <class IO, int kLanes, int kSign>
class Writer {
  using Pack = Packed<IO, kLanes>;
  using Bits = typename Pack::Bits;
  using V = Neurons<typename Element<IO>::Compute, kLanes>;

 public:
  HNN_INLINE Writer(const hnn::cuda::Train& train, int64_t at)
      : walk_(train, at, kSign, sizeof(IO)), present_(train.data && !train.constant) {}
  HNN_INLINE void start(int t) { walk_.start(t, kSign); }
  HNN_INLINE void put(V x) {
    const Bits bits = Pack::narrow(x);
    if (present_) *walk_.here() = bits;
    walk_.next();
  }

 private:
  Walk<kLanes, Bits> walk_;
  bool present_;
};

}  // namespace HNN_NAMESPACE
