// Turns torch tensors into plain pointers and layouts, for the CPU and the CUDA host. Uses LibTorch's stable ABI alone.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <array>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "layout.h"

namespace hnn {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using Optional = std::optional<Tensor>;

template <class T>
ScalarType state_dtype(const T& current) {
  return current.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

// The axes [B, *features] of one step: those of the current after `skip` leading ones (its time axis).
template <class T>
Numbering number_neurons(const T& current, int skip) {
  const auto sizes = current.sizes();
  const auto strides = current.strides();
  const int dims = static_cast<int>(sizes.size()) - skip;
  STD_TORCH_CHECK(dims <= kMaxDims, "the input has ", dims, " axes per step; at most ", kMaxDims, " are supported");
  return number_neurons(dims, sizes.data() + skip, strides.data() + skip);
}

// `tensor`, after `skip` leading axes, is right-aligned with the axes of a step and broadcast over those it lacks.
template <class T>
Layout lay_out(const Numbering& numbering, const T& tensor, int skip) {
  const auto sizes = tensor.sizes();
  const auto strides = tensor.strides();
  const int dims = static_cast<int>(sizes.size()) - skip, missing = numbering.dims - dims;
  int64_t full[kMaxDims] = {};
  for (int i = 0; i < dims; ++i) full[missing + i] = sizes[skip + i] == 1 ? 0 : strides[skip + i];
  return lay_out(numbering, full);
}

inline Tensor new_empty_strided(const Tensor& like, const std::vector<int64_t>& sizes,
                                const std::vector<int64_t>& strides, std::optional<ScalarType> dtype = std::nullopt) {
  using torch::stable::detail::from;
  std::array<StableIValue, 7> stack{from(like),         from(sizes),        from(strides),     from(dtype),
                                    from(std::nullopt), from(std::nullopt), from(std::nullopt)};
  TORCH_ERROR_CODE_CHECK(torch_call_dispatcher("aten::new_empty_strided", "", stack.data(), TORCH_ABI_VERSION));
  return torch::stable::detail::to<Tensor>(stack[0]);
}

// Empty spike train for a current that is constant in time: each step laid out as the current is.
inline Tensor empty_train(const Tensor& current, int64_t steps) {
  const Tensor step = torch::stable::empty_like(current);
  std::vector<int64_t> sizes{steps}, strides{current.numel()};
  for (int64_t size : current.sizes()) sizes.push_back(size);
  for (int64_t stride : step.strides()) strides.push_back(stride);
  return new_empty_strided(current, sizes, strides);
}

// Empty `[*leading, B, *features]` that keeps neuron m (of each index of `leading`) as its m-th element.
template <class T>
Tensor empty_in_order(const T& like, const Numbering& numbering, ScalarType dtype, std::vector<int64_t> leading = {}) {
  const size_t first = leading.size();
  std::vector<int64_t> sizes = std::move(leading);
  sizes.resize(first + numbering.dims);
  std::vector<int64_t> strides(sizes.size());
  int64_t stride = 1;
  const auto place = [&](size_t axis) {
    strides[axis] = stride;
    stride *= sizes[axis];
  };
  for (int i = numbering.dims - 1; i >= 0; --i) {
    sizes[first + numbering.axis[i]] = numbering.size[i];
    place(first + numbering.axis[i]);
  }
  for (size_t i = first; i-- > 0;) place(i);
  return new_empty_strided(like, sizes, strides, dtype);
}

}  // namespace hnn
