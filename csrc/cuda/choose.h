// Chooses a kernel for run-time options.
#pragma once

#include <string>
#include <type_traits>
#include <vector>

#include "../operators.h"
#include "backward.cuh"
#include "forward.cuh"
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

template <class IO, class F>
constexpr Kernels instances(const char* name) {
  return {name, hnn_cuda::forward<IO, F>, {hnn_cuda::backward<IO, F, false>, hnn_cuda::backward<IO, F, true>}};
}
template <class IO>
const Kernels& kernels_of(Form form) {
  using namespace hnn_cuda;
  static const Kernels table[kForms] = {instances<IO, Plain>("plain"),
                                        instances<IO, NoFilters>("no filters"),
                                        instances<IO, OnlySynapse<1, 0>>("synapse (1, 0)"),
                                        instances<IO, OnlySynapse<2, 0>>("synapse (2, 0)"),
                                        instances<IO, OnlyAxon<1, 0>>("axon (1, 0)"),
                                        instances<IO, OnlyAxon<2, 0>>("axon (2, 0)"),
                                        instances<IO, UsualAxon20>("usual, axon (2, 0)"),
                                        instances<IO, OnlyAxon<2, 1>>("axon (2, 1)"),
                                        instances<IO, General>("general")};
  return table[form];
}
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
