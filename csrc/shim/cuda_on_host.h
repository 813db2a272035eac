// The part of CUDA that csrc/cuda uses, on the host. A grid is a loop over its blocks, and a block is a loop over its
// threads, one after the other. That is faithful as long as a thread reads only what threads before it wrote. It is for
// tests, not for speed.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "../view.h"

#define HNN_CUDA_ON_HOST
#define HNN_DISPATCH_KEY CPU

#define __global__
#define __host__
#define __device__
#define __forceinline__ inline __attribute__((always_inline))
#define __grid_constant__
#define __launch_bounds__(...)

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
};
inline thread_local dim3 threadIdx, blockIdx, blockDim, gridDim;

struct alignas(8) float2 {
  float x, y;
};
struct alignas(8) uint2 {
  unsigned x, y;
};

template <class T>
inline T __ldg(const T* p) {
  return *p;
}

inline void __syncthreads() {}

inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>(static_cast<uint64_t>(a) * b >> 32); }
inline int __float_as_int(float x) {
  int bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}
inline float __int_as_float(int bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

#define HNN_SHARED(type, name) type* const name = reinterpret_cast<type*>(hnn::cuda::shared_memory.data())

namespace hnn::cuda {

// The text of the first assertion that failed. A launch reports it, as a device does once the host waits for it.
inline std::atomic<const char*> failed_assertion{nullptr};
#define HNN_ASSERT(condition, text) (condition) ? (void)0 : hnn::cuda::failed_assertion.store(text)

// The running block's dynamic shared memory.
inline thread_local std::vector<uint64_t> shared_memory;

class Device {
 public:
  explicit Device(const View&) {}

  struct Size {
    int multiprocessors = 1, shared_bytes = 228 << 10;
  };
  Size size() const { return {}; }

  template <class Call>
  void launch(void (*kernel)(Call), int64_t threads, int block, int64_t shared_bytes, const Call& call) const {
    const int64_t blocks = (threads + block - 1) / block;
    torch::stable::parallel_for(0, blocks, 1, [&](int64_t begin, int64_t end) {
      blockDim.x = block;
      gridDim.x = static_cast<unsigned>(blocks);
      const size_t words = shared_bytes / sizeof(uint64_t) + 1;
      for (int64_t b = begin; b < end; ++b) {
        blockIdx.x = static_cast<unsigned>(b);
        // On a device the memory is undefined at first. Here it is NaN in every dtype, which no test overlooks.
        shared_memory.assign(words, ~uint64_t{0});
        for (threadIdx.x = 0; threadIdx.x < blockDim.x; ++threadIdx.x) kernel(call);
      }
    });
    const char* const failed = failed_assertion.exchange(nullptr);
    STD_TORCH_CHECK(!failed, failed);
  }
};

}  // namespace hnn::cuda
