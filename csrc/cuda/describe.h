// Describes tensors as the calls that the kernels take.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <utility>
#include <vector>

#include "../operators.h"
#include "arguments.h"

namespace hnn::cuda {

// The dtypes that the kernels are compiled for, and their names in lists of kernels.
constexpr std::pair<ScalarType, const char*> kDtypes[] = {{ScalarType::Double, "float64"},
                                                          {ScalarType::Float, "float32"},
                                                          {ScalarType::BFloat16, "bfloat16"},
                                                          {ScalarType::Half, "float16"}};

using Strides = int64_t[kMaxDims];

// `stride` of an operand for the axes of the numbering; `tensor`, after `skip` leading axes, is right-aligned with
// them.
inline void place(Strides& stride, const Numbering& n, const View& tensor, int skip) {
  const auto sizes = tensor.sizes();
  const auto strides = tensor.strides();
  const int missing = n.dims - (static_cast<int>(sizes.size()) - skip);
  for (int i = 0; i < n.dims; ++i) {
    const int axis = n.axis[i] - missing + skip;
    stride[i] = axis < skip || sizes[axis] == 1 ? 0 : strides[axis];
  }
}
// The same for a row-major tensor of the shape of a step.
inline void place_dense(Strides& stride, const Numbering& n) {
  int64_t strides[kMaxDims];
  row_major(n, strides);
  for (int i = 0; i < n.dims; ++i) stride[i] = strides[n.axis[i]];
}

// Tells if the neurons lie one behind the other.
inline bool in_order(const Strides& stride, const Numbering& n) {
  int64_t next = 1;
  for (int i = n.dims - 1; i >= 0; --i) {
    if (n.size[i] != 1 && stride[i] != next) return false;
    next *= n.size[i];
  }
  return true;
}

// Sets the axes: neighbours that advance together in every operand become one, and axes of size 1 are dropped.
inline void merge_axes(Axes& axes, const Numbering& n, const std::vector<Strides*>& strides) {
  axes.neurons = n.neurons;
  axes.few = n.neurons <= std::numeric_limits<uint32_t>::max();
  int last = -1;
  for (int i = 0; i < n.dims; ++i) {
    if (n.size[i] == 1) continue;
    const bool together = last >= 0 && std::all_of(strides.begin(), strides.end(), [&](const Strides* stride) {
                            return (*stride)[last] == (*stride)[i] * n.size[i];
                          });
    if (!together) axes.size[++last] = 1;
    axes.size[last] *= n.size[i];
    for (Strides* stride : strides) (*stride)[last] = (*stride)[i];
  }
  axes.dims = last + 1;
}

inline Train train(const Numbering& n, const View& t, bool constant) {
  Train result;
  result.data = t.data_ptr();
  result.element_bytes = static_cast<int>(t.element_size());
  result.constant = constant;
  result.step = constant ? 0 : t.strides()[0];
  place(result.stride, n, t, constant ? 0 : 1);
  return result;
}
// `leading`: 1 for an operand of a filter, which has one axis in front.
inline void per_neuron(PerNeuron& result, const Numbering& n, const std::optional<View>& t, int leading = 0) {
  if (!t) return;
  result.data = t->data_ptr();
  if (leading) result.step = t->strides()[0];
  place(result.stride, n, *t, leading);
}
inline Coefficient coefficient(const Numbering& n, const std::optional<View>& t, double value) {
  Coefficient result;
  result.value = value;
  per_neuron(result, n, t);
  return result;
}

// A call, and the tensors that must live until its kernel is launched.
template <class Base>
struct Described : Base {
  std::vector<Tensor> scratch;

  Tensor& new_scratch(const View& like, int64_t size) {
    scratch.push_back(new_empty_strided(like, {size}, {1}, state_dtype(like)));
    return scratch.back();
  }
  void taps(Taps& result, const Numbering& n, const std::optional<View>& t, const std::vector<double>& values,
            const View& current) {
    per_neuron(result, n, t, 1);
    result.count = static_cast<int>(t ? t->size(0) : values.size());
    if (t) return;
    if (result.count <= kListed) {
      std::copy(values.begin(), values.end(), result.values);
      return;
    }
    Tensor& list = new_scratch(current, result.count);
    for (int i = 0; i < result.count; ++i) torch::stable::fill_(torch::stable::narrow(list, 0, i, 1), values[i]);
    result.data = list.data_ptr();
    result.step = 1;
  }
  void filter(Filter& result, const Numbering& n, const FilterArguments& a, const View& current) {
    result.present = a.present();
    if (!result.present) return;
    taps(result.feedback, n, a.feedback, a.feedback_values, current);
    taps(result.feedforward, n, a.feedforward, a.feedforward_values, current);
    per_neuron(result.state, n, a.state, 1);
  }
  // Allocates `slots` values for every neuron.
  void* workspace(const View& current, int64_t slots) { return new_scratch(current, slots * this->neurons).data_ptr(); }

  Described(const Arguments& a, const Numbering& n) {
    const int64_t steps = a.length();
    STD_TORCH_CHECK(steps <= std::numeric_limits<int>::max(), "too many steps for the CUDA kernels: ", steps);
    this->neurons = n.neurons;
    this->steps = static_cast<int>(steps);
    this->window = static_cast<int>(a.window());
    this->windows = static_cast<int>(a.checkpoints()) + 1;
    this->depth = static_cast<int>(a.state_depth());
    static_cast<Options&>(*this) = a.options();
    this->inverse_width = 1 / a.width;
    this->scale = a.scale;
    this->current = train(n, a.current, a.constant());
#define HNN_DESCRIBE(name, Name) this->name = coefficient(n, a.name, a.name##_value);
    HNN_COEFFICIENTS(HNN_DESCRIBE)
#undef HNN_DESCRIBE
#define HNN_DESCRIBE(name, Name) per_neuron(this->name, n, a.name);
    HNN_STATES(HNN_DESCRIBE)
#undef HNN_DESCRIBE
#define HNN_DESCRIBE(name, Name) filter(this->name, n, a.name, a.current);
    HNN_FILTERS(HNN_DESCRIBE)
#undef HNN_DESCRIBE
    place_dense(this->dense, n);
  }

  // Sets the axes. `others`: the trains beside the current; `more`: gradients of states.
  void arrange(const Numbering& n, const std::vector<Train*>& others, std::vector<PerNeuron*> more = {}) {
    trains_ = others;
    this->stateless = std::none_of(more.begin(), more.end(), [](const PerNeuron* operand) { return operand->data; });
#define HNN_ADD(name, Name) this->stateless &= !this->name.data;
    HNN_STATES(HNN_ADD)
#undef HNN_ADD
#define HNN_ADD(name, Name) this->stateless &= !this->name.state.data && !this->name.grad_after.data;
    HNN_FILTERS(HNN_ADD)
#undef HNN_ADD
    trains_.push_back(&this->current);
#define HNN_ADD(name, Name) more.push_back(&this->name);
    HNN_COEFFICIENTS(HNN_ADD)
    HNN_STATES(HNN_ADD)
#undef HNN_ADD
#define HNN_ADD(name, Name) \
  more.insert(more.end(), {&this->name.feedback, &this->name.feedforward, &this->name.state, &this->name.grad_after});
    HNN_FILTERS(HNN_ADD)
#undef HNN_ADD
    std::vector<Strides*> strides{&this->dense};
    in_order_ = in_order(this->dense, n);
    for (Train* train : trains_) {
      in_order_ &= !train->data || in_order(train->stride, n);
      strides.push_back(&train->stride);
    }
    this->simple = in_order_;
    for (PerNeuron* operand : more) {
      this->simple &= !operand->data;
      strides.push_back(&operand->stride);
    }
    merge_axes(*this, n, strides);
  }
  // Tells if a thread can take `lanes` neurons: one access to a train takes all of them.
  bool packs(int lanes) const {
    return in_order_ && this->few && this->dims > 0 && this->size[this->dims - 1] % lanes == 0 &&
           std::all_of(trains_.begin(), trains_.end(), [&](const Train* train) {
             const int64_t bytes = train->step * train->element_bytes;
             return reinterpret_cast<uintptr_t>(train->data) % (lanes * train->element_bytes) == 0 &&
                    train->step % lanes == 0 && std::abs(bytes) <= std::numeric_limits<int32_t>::max();
           });
  }

 private:
  std::vector<Train*> trains_;
  bool in_order_ = false;
};

}  // namespace hnn::cuda
