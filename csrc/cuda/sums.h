// The gradients of a call's coefficients: backward leaves a sum over time for each neuron, and one kernel adds these up
// over the neurons that share a coefficient.
#pragma once

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "describe.h"
#include "sums.cuh"

namespace hnn::cuda {

class Sums {
 public:
  explicit Sums(const Numbering& n) : n_(n) {}

  bool empty() const { return learnt_.empty(); }
  // Takes a coefficient's gradient. `partial` receives the place of its sums per neuron. The gradients of a filter's
  // coefficients have an axis of taps in front (`leading`).
  void add(const View& gradient, bool leading, void*& partial) {
    learnt_.push_back({&gradient, &partial, leading, leading ? gradient.size(0) : 1});
  }
  // Allocates the sums per neuron: neuron m of the numbering is the m-th.
  void allocate(Described<BackwardCall>& call, const View& current) {
    int64_t taps = 0;
    for (const Learnt& one : learnt_) taps += one.taps;
    char* at = static_cast<char*>(call.workspace(current, taps));
    for (const Learnt& one : learnt_) {
      *one.partial = at;
      at += one.taps * n_.neurons * bytes(current);
    }
  }
  // Launches the kernel once, or again where there are more values than one block should add.
  void add_up(const Device& device, Described<BackwardCall>& call, const View& current) const {
    SumCall now{call.few};
    for (const Learnt& one : learnt_) now.sums[now.count++] = describe(one);
    while (now.count) {
      SumCall next{call.few};
      for (int i = 0; i < now.count; ++i) {
        Sum& sum = now.sums[i];
        if (sum.chunks > 1) next.sums[next.count++] = divide(sum, call, current);
      }
      int64_t blocks = 0;
      for (int i = 0; i < now.count; ++i) blocks += now.sums[i].blocks();
      const auto kernel =
          state_dtype(current) == ScalarType::Double ? hnn_cuda::add_up<double> : hnn_cuda::add_up<float>;
      device.launch<SumCall>(kernel, blocks * kSumBlock, kSumBlock, kSumBlock * bytes(current), now);
      now = next;
    }
  }

 private:
  struct Learnt {
    const View* gradient;
    void** partial;
    bool leading;
    int64_t taps;
  };

  static int64_t bytes(const View& current) { return state_dtype(current) == ScalarType::Double ? 8 : 4; }

  static int64_t power_of_two(int64_t least) {
    int64_t result = 1;
    while (result < least) result *= 2;
    return result;
  }
  // The threads of a block that a sum has, and its blocks. `neighbours`: results lie one behind the other.
  static void share(Sum& sum, bool neighbours) {
    sum.width = static_cast<int>(kSumBlock / power_of_two(std::clamp<int64_t>(sum.values, 1, kSumBlock)));
    if (neighbours) {
      const int64_t together = power_of_two(std::clamp<int64_t>(sum.results, 1, kSumTogether));
      sum.width = std::max(sum.width, static_cast<int>(together));
    }
    sum.chunk = int64_t{kSumBlock / sum.width} * kSumMost;
    const int64_t chunks = std::max<int64_t>((sum.values + sum.chunk - 1) / sum.chunk, 1);
    const int64_t tiles = (sum.results + sum.width - 1) / sum.width;
    STD_TORCH_CHECK(sum.taps * chunks * tiles <= std::numeric_limits<int32_t>::max(),
                    "too many neurons to add up: ", sum.values);
    sum.chunks = static_cast<uint32_t>(chunks);
    sum.tiles = static_cast<uint32_t>(tiles);
  }
  // Adds an axis inside of the last one, or makes that one longer where it goes on there.
  static void append(Layout& layout, int64_t size, int64_t stride, bool goes_on = false) {
    const int axis = goes_on ? layout.dims - 1 : layout.dims++;
    layout.size[axis] = goes_on ? layout.size[axis] * size : size;
    layout.stride[axis] = stride;
  }

  Sum describe(const Learnt& one) const {
    Sum sum;
    sum.from = *one.partial;
    sum.from_step = n_.neurons;
    sum.to = one.gradient->data_ptr();
    sum.to_step = one.leading ? one.gradient->strides()[0] : 0;
    sum.taps = static_cast<uint32_t>(one.taps);
    Strides stride;
    place(stride, n_, *one.gradient, one.leading);
    int64_t step = n_.neurons;
    int outer = -1;
    for (int i = 0; i < n_.dims; ++i) {
      const int64_t size = n_.size[i];
      if (size == 1) continue;
      step = size ? step / size : 0;
      const bool goes_on = outer >= 0 && stride[outer] == stride[i] * size;
      if (stride[i]) {
        append(sum.place, size, step, goes_on);
        sum.to_stride[sum.place.dims - 1] = stride[i];
        sum.results *= size;
      } else {
        append(sum.shared, size, step, goes_on);
        sum.values *= size;
      }
      outer = i;
    }
    share(sum, outer < 0 || stride[outer]);
    return sum;
  }
  // The strides of results that lie one behind the other.
  static void row_major(const Layout& place, Strides& stride) {
    int64_t next = 1;
    for (int i = place.dims - 1; i >= 0; --i) {
      stride[i] = next;
      next *= place.size[i];
    }
  }
  // Lets a sum go to scratch, [taps, chunks, results], and returns the sum of that.
  static Sum divide(Sum& sum, Described<BackwardCall>& call, const View& current) {
    Sum rest = sum;
    const int64_t size = int64_t{sum.taps} * sum.chunks * sum.results;
    sum.to = call.new_scratch(current, size).data_ptr();
    sum.to_step = sum.chunks * sum.results;
    row_major(sum.place, sum.to_stride);
    rest.from = sum.to;
    rest.from_step = sum.to_step;
    rest.values = sum.chunks;
    std::copy_n(sum.to_stride, kMaxDims, rest.place.stride);
    rest.shared = {};
    append(rest.shared, sum.chunks, sum.results);
    share(rest, /*neighbours=*/true);
    return rest;
  }

  const Numbering& n_;
  std::vector<Learnt> learnt_;
};

}  // namespace hnn::cuda
