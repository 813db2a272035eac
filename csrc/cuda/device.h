// The launch of a kernel on the device. Only these lines differ between the GPU and the host shim, which includes
// ../shim/cuda_on_host.h in place of this file.
#pragma once

#include <cuda_runtime.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/macros.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/macros/Macros.h>

#include <cstdint>
#include <limits>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <utility>

#include "../view.h"

#define HNN_DISPATCH_KEY CUDA
// A condition that ends the kernel and, once the host waits for it, the program's use of the device.
#define HNN_ASSERT(condition, text) CUDA_KERNEL_ASSERT_MSG(condition, text)

namespace hnn::cuda {

// The device of a tensor, current as long as this lives, and its current stream.
class Device {
 public:
  explicit Device(const View& tensor) : index_(tensor.get_device_index()), guard_(tensor.get_device_index()) {
    void* stream = nullptr;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(tensor.get_device_index(), &stream));
    stream_ = static_cast<cudaStream_t>(stream);
  }

  // What a multiprocessor has, and how many there are.
  struct Size {
    int multiprocessors = 0, shared_bytes = 0;
  };
  Size size() const {
    static std::mutex lock;
    static std::map<int, Size> known;
    const std::lock_guard<std::mutex> guard(lock);
    Size& size = known[index_];
    if (!size.multiprocessors) {
      STD_CUDA_CHECK(cudaDeviceGetAttribute(&size.multiprocessors, cudaDevAttrMultiProcessorCount, index_));
      STD_CUDA_CHECK(cudaDeviceGetAttribute(&size.shared_bytes, cudaDevAttrMaxSharedMemoryPerMultiprocessor, index_));
    }
    return size;
  }

  // Launches the kernel, or nothing for no threads. It does not wait.
  template <class Call>
  void launch(void (*kernel)(Call), int64_t threads, int block, int64_t shared_bytes, const Call& call) const {
    const int64_t blocks = (threads + block - 1) / block;
    if (blocks == 0) return;
    STD_TORCH_CHECK(blocks <= std::numeric_limits<int32_t>::max(), "too many neurons for one launch: ", threads);
    if (shared_bytes) prefer_shared(reinterpret_cast<const void*>(kernel));
    kernel<<<static_cast<unsigned>(blocks), block, shared_bytes, stream_>>>(call);
    STD_CUDA_KERNEL_LAUNCH_CHECK();
  }

 private:
  // Asks that the multiprocessors give the kernel as much of their memory as they can, not as much as one block needs.
  void prefer_shared(const void* kernel) const {
    static std::mutex lock;
    static std::set<std::pair<const void*, int>> asked;
    const std::lock_guard<std::mutex> guard(lock);
    if (!asked.emplace(kernel, index_).second) return;
    STD_CUDA_CHECK(
        cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout, cudaSharedmemCarveoutMaxShared));
  }

  int index_;
  torch::stable::accelerator::DeviceGuard guard_;
  cudaStream_t stream_;
};

}  // namespace hnn::cuda
