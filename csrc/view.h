// A tensor as the hosts read it: an address, a layout and a device. It is made of a tensor of torch, or of Python's,
// and keeps neither. It has the names of torch::stable::Tensor that the hosts use.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <numeric>
#include <vector>

#include "dlpack.h"
#include "tensors.h"

namespace hnn {

class View {
 public:
  static constexpr int kMost = kMaxDims + 2;  // a filter's coefficients and state have an axis in front, a train time

  View() = default;
  View(const Tensor& t)  // NOLINT: implicit, so that a host's functions take tensors, too
      : data_(t.data_ptr()), gpu_(t.is_cuda()), device_(gpu_ ? t.get_device_index() : 0), type_(t.scalar_type()) {
    const auto sizes = t.sizes(), strides = t.strides();
    STD_TORCH_CHECK(sizes.size() <= kMost, "the input has ", sizes.size() - 1, " axes per step; at most ", kMaxDims,
                    " are supported");
    dims_ = static_cast<int>(sizes.size());
    std::copy(sizes.begin(), sizes.end(), sizes_);
    std::copy(strides.begin(), strides.end(), strides_);
  }

  // False where the tensor has no memory of the CPU or of a GPU, is not of a dtype that the kernels take, or has too
  // many axes.
  bool take(const dlpack::Tensor& t) {
    gpu_ = t.device_type == dlpack::kCuda;
    device_ = gpu_ ? t.device : 0;
    if ((t.device_type != dlpack::kCpu && !gpu_) || t.lanes != 1 || t.ndim > kMost || (t.ndim > 0 && !t.strides)) {
      return false;
    }
    if (t.code == dlpack::kFloat) {
      if (t.bits != 64 && t.bits != 32 && t.bits != 16) return false;
      type_ = t.bits == 64 ? ScalarType::Double : t.bits == 32 ? ScalarType::Float : ScalarType::Half;
    } else if (t.code == dlpack::kBFloat && t.bits == 16) {
      type_ = ScalarType::BFloat16;
    } else {
      return false;
    }
    dims_ = t.ndim;
    for (int i = 0; i < dims_; ++i) {
      sizes_[i] = t.shape[i];
      strides_[i] = t.strides[i];
    }
    data_ = static_cast<char*>(t.data) + t.byte_offset;
    return t.data || numel() == 0;
  }

  void* data_ptr() const { return data_; }
  bool is_cuda() const { return gpu_; }
  int32_t get_device_index() const { return device_; }  // 0 for the CPU
  ScalarType scalar_type() const { return type_; }
  size_t element_size() const { return type_ == ScalarType::Double ? 8 : type_ == ScalarType::Float ? 4 : 2; }
  torch::headeronly::IntHeaderOnlyArrayRef sizes() const { return {sizes_, static_cast<size_t>(dims_)}; }
  torch::headeronly::IntHeaderOnlyArrayRef strides() const { return {strides_, static_cast<size_t>(dims_)}; }
  int64_t size(int64_t axis) const { return sizes_[axis]; }
  int64_t numel() const {
    return std::accumulate(sizes_, sizes_ + dims_, static_cast<int64_t>(1), std::multiplies<int64_t>());
  }

 private:
  void* data_ = nullptr;
  bool gpu_ = false;
  int32_t device_ = 0;
  int dims_ = 0;
  ScalarType type_ = ScalarType::Float;
  int64_t sizes_[kMost], strides_[kMost];
};

// -- torch's memory for views of states and coefficients ---------------------------------------------------------------

// torch's number of a state's dtype.
inline int32_t dtype_number(ScalarType dtype) {
  return dtype == ScalarType::Double ? aoti_torch_dtype_float64() : aoti_torch_dtype_float32();
}
inline int32_t device_type(const View& view) {
  return view.is_cuda() ? aoti_torch_device_type_cuda() : aoti_torch_device_type_cpu();
}

// Memory of torch on the device of `like`, for the current stream. It may be given up once the kernels that use it are
// launched.
inline Tensor new_empty_strided(const View& like, const std::vector<int64_t>& sizes,
                                const std::vector<int64_t>& strides, ScalarType dtype) {
  AtenTensorHandle result;
  TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(sizes.size(), sizes.data(), strides.data(), dtype_number(dtype),
                                                  device_type(like), like.get_device_index(), &result));
  return Tensor(result);
}
// The memory of a view that is row-major, as a tensor of another shape. It does not keep the memory.
inline Tensor dense_tensor(const View& view, const std::vector<int64_t>& sizes) {
  std::vector<int64_t> strides(sizes.size());
  int64_t stride = 1;
  for (size_t i = sizes.size(); i-- > 0; stride *= sizes[i]) strides[i] = stride;
  AtenTensorHandle result;
  TORCH_ERROR_CODE_CHECK(aoti_torch_create_tensor_from_blob(view.data_ptr(), sizes.size(), sizes.data(), strides.data(),
                                                            0, dtype_number(view.scalar_type()), device_type(view),
                                                            view.get_device_index(), &result));
  return Tensor(result);
}

}  // namespace hnn
