// The operators hnn::lif_forward_cuda and hnn::lif_backward_cuda: allocate, describe the call, launch on the current
// stream, and add up the coefficients' gradients. Nothing waits for the device and all memory comes from torch, so a
// CUDA graph can capture a call. The arguments were checked in Python.
#include <algorithm>
#include <initializer_list>
#include <limits>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

#include "../tensors.h"
#include "lif.h"
#ifndef HNN_CUDA_ON_HOST
#include "device.h"
#endif
#include "kernels.cuh"

namespace hnn::cuda {
namespace {

// Outputs from this size on leave the L2 cache (50 MB on an H100) before anything reads them.
constexpr int64_t kStreamBytes = 32 << 20;

// -- from run-time options to a kernel --------------------------------------------------------------------------------

using Forward = void (*)(ForwardCall);
using Backward = void (*)(BackwardCall);

template <class T>
struct Type {
  using type = T;
};
template <auto kValue>
using Constant = std::integral_constant<decltype(kValue), kValue>;

template <class F>
auto choose_dtype(ScalarType dtype, F f) {
  switch (dtype) {
    case ScalarType::Double: return f(Type<double>{});
    case ScalarType::Float: return f(Type<float>{});
    case ScalarType::BFloat16: return f(Type<hnn_cuda::BFloat16>{});
    default: return f(Type<hnn_cuda::Half>{});
  }
}
template <class F>
auto choose_surrogate(int64_t number, F f) {
  switch (number) {
    default: return f(Constant<hnn_cuda::kGaussian>{});
  }
}
template <class F>
auto choose_reset_grad(int64_t number, F f) {
  switch (number) {
    case hnn_cuda::kOneStep: return f(Constant<static_cast<int>(hnn_cuda::kOneStep)>{});
    case hnn_cuda::kDetach: return f(Constant<static_cast<int>(hnn_cuda::kDetach)>{});
    default: return f(Constant<static_cast<int>(hnn_cuda::kFull)>{});
  }
}
template <class F>
auto choose(bool x, F f) {
  return x ? f(Constant<true>{}) : f(Constant<false>{});
}

Forward forward_kernel(ScalarType dtype, int64_t surrogate, bool smooth) {
  return choose_dtype(dtype, [&](auto io) {
    return choose_surrogate(surrogate, [&](auto s) {
      return choose(smooth, [&](auto is_smooth) -> Forward {
        return hnn_cuda::forward<typename decltype(io)::type, decltype(s)::value, decltype(is_smooth)::value>;
      });
    });
  });
}
Backward backward_kernel(ScalarType dtype, int64_t surrogate, bool smooth, int64_t reset_grad, bool learns) {
  return choose_dtype(dtype, [&](auto io) {
    return choose_surrogate(surrogate, [&](auto s) {
      return choose(smooth, [&](auto is_smooth) {
        return choose_reset_grad(reset_grad, [&](auto mode) {
          return choose(learns, [&](auto has_learnt) -> Backward {
            return hnn_cuda::backward<typename decltype(io)::type, decltype(s)::value, decltype(is_smooth)::value,
                                      decltype(mode)::value, decltype(has_learnt)::value>;
          });
        });
      });
    });
  });
}

// -- from tensors to the call -----------------------------------------------------------------------------------------

// `stride` of an operand for the axes of the numbering; `tensor`, after `skip` leading axes, is right-aligned with
// them.
void place(int64_t (&stride)[kMaxDims], const Numbering& n, const Tensor& tensor, int skip) {
  const auto sizes = tensor.sizes();
  const auto strides = tensor.strides();
  const int missing = n.dims - (static_cast<int>(sizes.size()) - skip);
  for (int i = 0; i < n.dims; ++i) {
    const int axis = n.axis[i] - missing + skip;
    stride[i] = axis < skip || sizes[axis] == 1 ? 0 : strides[axis];
  }
}
Train train(const Numbering& n, const Tensor& t, bool constant) {
  Train result;
  result.data = t.data_ptr();
  result.constant = constant;
  result.step = constant ? 0 : t.strides()[0];
  place(result.stride, n, t, constant ? 0 : 1);
  return result;
}
Train written(const Numbering& n, const Tensor& t, bool constant) {
  Train result = train(n, t, constant);
  result.streaming = t.numel() * static_cast<int64_t>(t.element_size()) >= kStreamBytes;
  return result;
}
PerNeuron per_neuron(const Numbering& n, const Optional& t, double value = 0) {
  PerNeuron result;
  result.value = value;
  if (t) {
    result.data = t->data_ptr();
    place(result.stride, n, *t, 0);
  }
  return result;
}

// Set the axes of the call: neighbours that advance together in every operand become one, and axes of size 1 none.
void merge_axes(Call& call, const Numbering& n, std::initializer_list<int64_t (*)[kMaxDims]> strides) {
  int last = -1;
  for (int i = 0; i < n.dims; ++i) {
    if (n.size[i] == 1) continue;
    const bool together = last >= 0 && std::all_of(strides.begin(), strides.end(), [&](const auto* stride) {
                            return (*stride)[last] == (*stride)[i] * n.size[i];
                          });
    if (!together) call.size[++last] = 1;
    call.size[last] *= n.size[i];
    for (const auto stride : strides) (*stride)[last] = (*stride)[i];
  }
  call.dims = last + 1;
}

void describe(Call& call, const Numbering& n, const Tensor& current, std::optional<int64_t> steps,
              const Optional& decay, const Optional& reset_decay, const Optional& threshold, double decay_value,
              double reset_decay_value, double threshold_value, const Optional& v, const Optional& r, double sigma) {
  const int64_t length = steps ? *steps : current.size(0);
  STD_TORCH_CHECK(length <= std::numeric_limits<int>::max(), "too many steps for the CUDA kernels: ", length);
  call.neurons = n.neurons;
  call.steps = static_cast<int>(length);
  call.few = n.neurons <= std::numeric_limits<uint32_t>::max();
  call.inverse_width = 1 / sigma;
  call.current = train(n, current, steps.has_value());
  call.decay = per_neuron(n, decay, decay_value);
  call.reset_decay = per_neuron(n, reset_decay, reset_decay_value);
  call.threshold = per_neuron(n, threshold, threshold_value);
  call.v = per_neuron(n, v);
  call.r = per_neuron(n, r);
}

// Add `partial`, [B, *features], up over the axes that the coefficient is broadcast over; B is always one of them.
// torch's sum takes the same order every time, so equal calls give equal bits.
void sum_to(Tensor& gradient, const Tensor& partial) {
  const auto sizes = gradient.sizes();
  const int64_t dims = partial.dim(), missing = dims - static_cast<int64_t>(sizes.size());
  std::vector<int64_t> shape(dims, 1), over;
  for (int64_t i = 0; i < dims; ++i) {
    if (i >= missing) shape[i] = sizes[i - missing];
    if (shape[i] == 1) over.push_back(i);
  }
  Tensor out = torch::stable::view(gradient, shape);
  torch::stable::sum_out(out, partial, over, /*keepdim=*/true);
}

std::tuple<Tensor, Tensor, Tensor> lif_forward(const Tensor& current, std::optional<int64_t> steps,
                                               const Optional& decay, const Optional& reset_decay,
                                               const Optional& threshold, double decay_value, double reset_decay_value,
                                               double threshold_value, const Optional& v, const Optional& r,
                                               double sigma, int64_t surrogate, bool count, bool smooth) {
  const Device device(current);
  Outputs result = allocate_outputs(current, steps, count);
  const Numbering n = number_neurons(current, steps ? 0 : 1);
  ForwardCall call;
  describe(call, n, current, steps, decay, reset_decay, threshold, decay_value, reset_decay_value, threshold_value, v,
           r, sigma);
  call.out = written(n, result.out, count);
  call.last_v = per_neuron(n, result.v);
  call.last_r = per_neuron(n, result.r);
  merge_axes(call, n,
             {&call.current.stride, &call.decay.stride, &call.reset_decay.stride, &call.threshold.stride,
              &call.v.stride, &call.r.stride, &call.out.stride, &call.last_v.stride});
  device.launch(forward_kernel(current.scalar_type(), surrogate, smooth), n.neurons, kForwardBlock, 0, call);
  return {result.out, result.v, result.r};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> lif_backward(
    const Optional& grad_out, const Optional& grad_v, const Optional& grad_r, const Tensor& current,
    std::optional<int64_t> steps, const Optional& decay, const Optional& reset_decay, const Optional& threshold,
    double decay_value, double reset_decay_value, double threshold_value, const Optional& v, const Optional& r,
    double sigma, int64_t surrogate, bool count, bool smooth, int64_t reset_grad, int64_t needs) {
  const Device device(current);
  const bool constant = steps.has_value(), learns = needs >> 1 & 7;
  Gradients6 g = allocate_gradients(current, constant, decay, reset_decay, threshold, needs);
  const Numbering n = number_neurons(current, constant ? 0 : 1);
  BackwardCall call;
  describe(call, n, current, steps, decay, reset_decay, threshold, decay_value, reset_decay_value, threshold_value, v,
           r, sigma);
  if (grad_out) call.grad_out = train(n, *grad_out, count);
  call.grad_last_v = per_neuron(n, grad_v);
  call.grad_last_r = per_neuron(n, grad_r);
  if (needs & 1) call.grad_current = written(n, g.current, constant);
  if (needs >> 4 & 1) call.grad_v = per_neuron(n, g.v);
  if (needs >> 5 & 1) call.grad_r = per_neuron(n, g.r);
  if (!call.grad_v.data) std::copy(call.grad_r.stride, call.grad_r.stride + kMaxDims, call.grad_v.stride);
  merge_axes(call, n,
             {&call.current.stride, &call.decay.stride, &call.reset_decay.stride, &call.threshold.stride,
              &call.v.stride, &call.r.stride, &call.grad_out.stride, &call.grad_current.stride,
              &call.grad_last_v.stride, &call.grad_last_r.stride, &call.grad_v.stride});

  Tensor* const sums[3] = {&g.decay, &g.reset_decay, &g.threshold};
  void** const partial_data[3] = {&call.partial_decay, &call.partial_reset_decay, &call.partial_threshold};
  Optional partials[3];
  for (int i = 0; i < 3; ++i) {
    if (needs >> (i + 1) & 1) {
      partials[i] = empty_in_order(current, n, state_dtype(current));
      *partial_data[i] = partials[i]->data_ptr();
    }
  }

  const int64_t row = kBackwardBlock * (state_dtype(current) == ScalarType::Double ? 8 : 4) * (learns ? 2 : 1);
  call.segment = static_cast<int>(std::min<int64_t>(call.steps, kSharedBytes / row));
  call.segments = call.steps ? (call.steps - 1) / call.segment + 1 : 0;
  Optional starts;
  if (call.segments > 1) {
    starts = torch::stable::new_empty(current, {call.segments - 1, 2, n.neurons}, state_dtype(current));
    call.starts = starts->data_ptr();
  }
  device.launch(backward_kernel(current.scalar_type(), surrogate, smooth, reset_grad, learns), n.neurons,
                kBackwardBlock, row * call.segment, call);

  for (int i = 0; i < 3; ++i) {
    if (partials[i]) sum_to(*sums[i], *partials[i]);
  }
  return {g.current, g.decay, g.reset_decay, g.threshold, g.v, g.r};
}

}  // namespace

std::vector<Kernel> kernels() {
  const std::pair<ScalarType, const char*> dtypes[] = {{ScalarType::Double, "float64"},
                                                       {ScalarType::Float, "float32"},
                                                       {ScalarType::BFloat16, "bfloat16"},
                                                       {ScalarType::Half, "float16"}};
  const char* const reset_grads[] = {"full", "one_step", "detach"};
  std::vector<Kernel> result;
  for (const auto& [dtype, name] : dtypes) {
    for (const bool smooth : {false, true}) {
      const std::string options = std::string(name) + (smooth ? ", smooth" : "");
      result.push_back({"forward<" + options + ">",
                        reinterpret_cast<const void*>(forward_kernel(dtype, hnn_cuda::kGaussian, smooth))});
      for (int reset_grad = 0; reset_grad < 3; ++reset_grad) {
        for (const bool learns : {false, true}) {
          result.push_back(
              {"backward<" + options + ", " + reset_grads[reset_grad] + (learns ? ", learns>" : ">"),
               reinterpret_cast<const void*>(backward_kernel(dtype, hnn_cuda::kGaussian, smooth, reset_grad, learns))});
        }
      }
    }
  }
  return result;
}

}  // namespace hnn::cuda

STABLE_TORCH_LIBRARY_IMPL(hnn, HNN_DISPATCH_KEY, m) {
  m.impl("lif_forward_cuda", TORCH_BOX(&hnn::cuda::lif_forward));
  m.impl("lif_backward_cuda", TORCH_BOX(&hnn::cuda::lif_backward));
}
