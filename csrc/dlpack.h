// The part of DLPack's C interface by which a tensor of Python tells its address and its layout without a call into
// Python (dmlc/dlpack, version 1.3, Apache-2.0: the names and the order of the fields are its own). torch.Tensor has it
// as __dlpack_c_exchange_api__. torch's copy of the header is not part of the stable ABI.
#pragma once

#include <cstdint>

namespace hnn::dlpack {

constexpr char kCapsule[] = "dlpack_exchange_api";
constexpr uint32_t kMajor = 1;  // of the versions with this layout
constexpr int32_t kCpu = 1, kCuda = 2;
constexpr uint8_t kFloat = 2, kBFloat = 4;

struct Tensor {
  void* data;
  int32_t device_type, device;
  int32_t ndim;
  uint8_t code, bits;
  uint16_t lanes;
  int64_t *shape, *strides;
  uint64_t byte_offset;
};

struct Exchange {
  uint32_t major, minor;
  const Exchange* previous;
  void *allocate, *from_object, *to_object;
  // Describes the tensor `object`, which keeps what it points to. Returns 0, or sets an error of Python.
  int (*describe)(void* object, Tensor* result);
};

}  // namespace hnn::dlpack
