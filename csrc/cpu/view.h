// A tensor of Python as the CPU's host reads it: an address and a layout. It has the names of torch::stable::Tensor
// that the host uses, so that the same functions take both.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <numeric>

#include "../tensors.h"
#include "dlpack.h"

namespace hnn {

class View {
 public:
  static constexpr int kMost = kMaxDims + 2;  // a filter's coefficients and state have an axis in front, a train time

  // False where the tensor has no memory of the CPU, is not of a dtype that the kernels take, or has too many axes.
  bool take(const dlpack::Tensor& t) {
    if (t.device_type != dlpack::kCpu || t.lanes != 1 || t.ndim > kMost || (t.ndim > 0 && !t.strides)) return false;
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
  int dims_ = 0;
  ScalarType type_ = ScalarType::Float;
  int64_t sizes_[kMost], strides_[kMost];
};

}  // namespace hnn
