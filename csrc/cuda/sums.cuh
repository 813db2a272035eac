// The kernel that sums the gradients of coefficients over the neurons that share them.
#pragma once

#include "kernels.cuh"

namespace HNN_NAMESPACE {

// Takes all sums of a call at once. A block has rows of `width` threads, a thread for each of so many results. The rows
// share the values of a result; then the last row of each group adds up its group, and the last row of all the groups.
// The order depends on the sizes alone. A thread reads only what threads before it wrote, so the host shim, in which
// one runs after the other, gets the same bits.
template <class C>
__global__ void __launch_bounds__(hnn::cuda::kSumBlock) add_up(const __grid_constant__ hnn::cuda::SumCall call) {
  constexpr int kGroup = 16;  // the root of the most rows
  uint32_t block = blockIdx.x;
  int which = 0;
  while (block >= call.sums[which].blocks()) block -= call.sums[which++].blocks();
  const hnn::cuda::Sum& sum = call.sums[which];
  const uint32_t tile = block % sum.tiles, rest = block / sum.tiles, chunk = rest % sum.chunks, tap = rest / sum.chunks;
  const int column = threadIdx.x % sum.width, row = threadIdx.x / sum.width, rows = hnn::cuda::kSumBlock / sum.width;
  const int64_t result = static_cast<int64_t>(tile) * sum.width + column;
  const bool there = result < sum.results;
  int64_t at = tap * sum.to_step + chunk * sum.results;
  C total = 0;
  if (there) {
    const C* from = static_cast<const C*>(sum.from) + tap * sum.from_step;
    each_axis(sum.place.size, sum.place.dims, call.few, result, [&](int axis, int64_t i) {
      from += i * sum.place.stride[axis];
      at += i * sum.to_stride[axis];
    });
    const int64_t begin = chunk * sum.chunk, end = begin + sum.chunk < sum.values ? begin + sum.chunk : sum.values;
#pragma unroll 8
    for (int64_t value = begin + row; value < end; value += rows) {
      const C* here = from;
      each_axis(sum.shared.size, sum.shared.dims, call.few, value,
                [&](int axis, int64_t i) { here += i * sum.shared.stride[axis]; });
      total += __ldg(here);
    }
  }
  HNN_SHARED(C, totals);
  C* const mine = totals + threadIdx.x;
  *mine = total;
  __syncthreads();
  const bool last = row == rows - 1, leads = last || row % kGroup == kGroup - 1;
  if (leads) {
    for (int i = row % kGroup; i > 0; --i) total += mine[-i * sum.width];
    *mine = total;
  }
  __syncthreads();
  if (!last || !there) return;
  for (int leader = kGroup - 1; leader < row; leader += kGroup) total += totals[leader * sum.width + column];
  static_cast<C*>(sum.to)[at] = total;
}

}  // namespace HNN_NAMESPACE
