// The operators of the codings. They allocate, describe the call, and launch on the current stream. As in lif.cu,
// nothing waits for the device and all memory comes from torch. The arguments were checked in Python, except for the
// values of the probabilities, which the kernel asserts.
#include <string>
#include <type_traits>
#include <vector>

#include "../codings.h"
#include "lif.h"
#ifndef HNN_CUDA_ON_HOST
#include "device.h"
#endif
#include "coding.cuh"
#include "describe.h"

namespace hnn::cuda {
namespace {

using CodingKernel = void (*)(CodingCall);

struct CodingKernels {
  CodingKernel gaussian, gaussian_backward, poisson;
};
template <class IO>
constexpr CodingKernels kCodingKernels = {hnn_cuda::encode_gaussian<IO>, hnn_cuda::gaussian_backward<IO>,
                                          hnn_cuda::encode_poisson<IO>};

const CodingKernels& kernels_of(ScalarType dtype) {
  switch (dtype) {
    case ScalarType::Double: return kCodingKernels<double>;
    case ScalarType::Float: return kCodingKernels<float>;
    case ScalarType::BFloat16: return kCodingKernels<hnn_cuda::BFloat16>;
    default: return kCodingKernels<hnn_cuda::Half>;
  }
}

CodingCall describe(const Numbering& n, const Noise& noise, int64_t steps) {
  CodingCall call;
  call.steps = steps;
  call.seed = static_cast<const int64_t*>(noise.seed.data_ptr());
  call.first_step = noise.first_step;
  call.first_element = noise.first_element;
  place_dense(call.element, n);
  return call;
}
Operand operand(const Numbering& n, const Tensor& t) {
  Operand result;
  result.data = t.data_ptr();
  place(result.stride, n, t, 0);
  return result;
}

Tensor gaussian(Tensor mean, Tensor log_std, Tensor seed, int64_t steps, int64_t first_step, int64_t first_element) {
  const Device device(mean);
  Tensor out = empty_train(mean, steps);
  const Numbering n = number_neurons(mean, 0);
  CodingCall call = describe(n, {seed, first_step, first_element}, steps);
  call.value = operand(n, mean);
  call.log_std = operand(n, log_std);
  call.out = train(n, out, false);
  merge_axes(call, n, {&call.element, &call.value.stride, &call.log_std.stride, &call.out.stride});
  device.launch(kernels_of(mean.scalar_type()).gaussian, n.neurons, kForwardBlock, 0, call);
  return out;
}

std::vector<Tensor> backward(Tensor grad_out, Tensor log_std, Tensor seed, int64_t first_step, int64_t first_element,
                             int64_t needs) {
  const Device device(grad_out);
  const GaussianGradients g(log_std, needs);
  const Numbering n = number_neurons(grad_out, 1);
  CodingCall call = describe(n, {seed, first_step, first_element}, grad_out.size(0));
  call.log_std = operand(n, log_std);
  call.grad_out = train(n, grad_out, false);
  if (g.mean) call.grad_mean = operand(n, *g.mean);
  if (g.log_std) call.grad_log_std = operand(n, *g.log_std);
  merge_axes(
      call, n,
      {&call.element, &call.log_std.stride, &call.grad_out.stride, &call.grad_mean.stride, &call.grad_log_std.stride});
  device.launch(kernels_of(log_std.scalar_type()).gaussian_backward, n.neurons, kForwardBlock, 0, call);
  return g.needed();
}

Tensor poisson(Tensor probability, Tensor seed, int64_t steps, int64_t first_step, int64_t first_element) {
  const Device device(probability);
  Tensor out = empty_train(probability, steps);
  const Numbering n = number_neurons(probability, 0);
  CodingCall call = describe(n, {seed, first_step, first_element}, steps);
  call.value = operand(n, probability);
  call.out = train(n, out, false);
  merge_axes(call, n, {&call.element, &call.value.stride, &call.out.stride});
  device.launch(kernels_of(probability.scalar_type()).poisson, n.neurons, kForwardBlock, 0, call);
  return out;
}

}  // namespace

std::vector<Kernel> coding_kernels() {
  std::vector<Kernel> result;
  for (const auto& [dtype, name] : kDtypes) {
    const CodingKernels& kernels = kernels_of(dtype);
    const std::string options = std::string("<") + name + ">";
    result.push_back({"encode_gaussian" + options, reinterpret_cast<const void*>(kernels.gaussian)});
    result.push_back({"gaussian_backward" + options, reinterpret_cast<const void*>(kernels.gaussian_backward)});
    result.push_back({"encode_poisson" + options, reinterpret_cast<const void*>(kernels.poisson)});
  }
  return result;
}

}  // namespace hnn::cuda

STABLE_TORCH_LIBRARY_IMPL(hnn, HNN_DISPATCH_KEY, m) {
  m.impl("gaussian_forward_cuda", TORCH_BOX(&hnn::cuda::gaussian));
  m.impl("gaussian_backward_cuda", TORCH_BOX(&hnn::cuda::backward));
  m.impl("poisson_forward_cuda", TORCH_BOX(&hnn::cuda::poisson));
}
