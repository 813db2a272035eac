// Chooses a kernel for run-time options.
#pragma once

#include "../operators.h"
#include "describe.h"
#include "kernels.cuh"
#include "lif.h"

namespace hnn::cuda {

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
  if (a.potential != kPotentialNone) return a.synapse.present() || a.axon.present() ? kGeneral : kReadOut;
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

// The kernel for a call. `which` takes the one of a direction from those of a form. Threads take several neurons where
// these lie together and the device is full of such threads.
template <class Call, class Which>
auto choose(const Described<Call>& call, ScalarType dtype, Form form, int multiprocessors, Which which) {
  const Form wide = form == kPlain                                    ? kWidePlain
                    : form == kUsualAxon20                            ? kWideUsualAxon20
                    : form == kSynapse20 && call.reset == kNoMembrane ? kWideIir20
                                                                      : form;
  const auto several = which(kernels_of(dtype, wide));
  const int64_t enough = int64_t{multiprocessors} * kWideThreads * several.lanes;
  return call.neurons >= enough && call.packs(several.lanes) ? several : which(kernels_of(dtype, form));
}

}  // namespace hnn::cuda
