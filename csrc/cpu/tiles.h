// The tiles of a call are shared among the threads of torch.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>

#include "operands.h"

namespace hnn {

// Calls run(scratch, begin, end) for parts of the tiles, each with scratch of its own. A thread is woken for some 32k
// neuron-steps, which take 10 us.
template <class Run>
void share_tiles(int64_t neurons, int64_t steps, int64_t scratch_bytes, Run run) {
  const int64_t bytes = (scratch_bytes + 63) / 64 * 64;
  const int64_t tiles = (neurons + kTile - 1) / kTile;
  const int64_t grain = std::max<int64_t>(1, 32768 / (kTile * std::max<int64_t>(1, steps)));
  torch::stable::parallel_for(0, tiles, grain, [&](int64_t begin, int64_t end) {
    const std::unique_ptr<void, decltype(&std::free)> scratch(std::aligned_alloc(64, bytes), &std::free);
    STD_TORCH_CHECK(scratch || !bytes, "out of memory: ", bytes, " bytes of scratch");
    run(scratch.get(), begin, end);
  });
}

}  // namespace hnn
