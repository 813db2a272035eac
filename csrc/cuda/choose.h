// Chooses a kernel for run-time options.
#pragma once

#include <string>
#include <vector>

#include "../operators.h"
#include "kernels.cuh"
#include "lif.h"

namespace hnn::cuda {

using ForwardKernel = void (*)(ForwardCall);
using BackwardKernel = void (*)(BackwardCall);

struct Kernels {
  const char* form;
  ForwardKernel forward;
  BackwardKernel backward[2];  // [1]: with gradients of coefficients
};

// clang-format off
enum Form { kPlain, kNoFilters, kSynapse10, kSynapse20, kAxon10, kAxon20, kUsualAxon20, kAxon21, kGeneral, kForms };
// clang-format on

// The kernels of a dtype. They are defined in instances.cuh, and each dtype is compiled in a source of its own.
template <class IO>
const Kernels& kernels_of(Form form);
inline const Kernels& kernels_of(ScalarType dtype, Form form) {
  switch (dtype) {
    case ScalarType::Double: return kernels_of<double>(form);
    case ScalarType::Float: return kernels_of<float>(form);
    case ScalarType::BFloat16: return kernels_of<hnn_cuda::BFloat16>(form);
    default: return kernels_of<hnn_cuda::Half>(form);
  }
}

// The form whose constants the call has.
inline Form form_of(const Arguments& a) {
  const bool usual = a.options().usual();
  if (a.smooth || (a.synapse.present() && a.axon.present())) return kGeneral;
  const auto orders = [](const FilterArguments& filter, int64_t feedback, int64_t feedforward) {
    return filter.taps_back() == feedback && filter.taps_forward() == feedforward + 1;
  };
  if (a.synapse.present()) {
    return orders(a.synapse, 1, 0) ? kSynapse10 : orders(a.synapse, 2, 0) ? kSynapse20 : kGeneral;
  }
  if (a.axon.present()) {
    if (orders(a.axon, 2, 0)) return usual ? kUsualAxon20 : kAxon20;
    return orders(a.axon, 1, 0) ? kAxon10 : orders(a.axon, 2, 1) ? kAxon21 : kGeneral;
  }
  return usual ? kPlain : kNoFilters;
}

}  // namespace hnn::cuda
