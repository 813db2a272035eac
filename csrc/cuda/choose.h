// Chooses a kernel for run-time options.
#pragma once

#include "../operators.h"
#include "describe.h"
#include "kernels.cuh"
#include "lif.h"

namespace hnn::cuda {

// Calls f with a value of the type of a dtype's elements.
template <class F>
auto with_element(ScalarType dtype, F f) -> decltype(f(double())) {
  switch (dtype) {
    case ScalarType::Double: return f(double());
    case ScalarType::Float: return f(float());
    case ScalarType::BFloat16: return f(hnn_cuda::BFloat16());
    default: return f(hnn_cuda::Half());
  }
}
inline const Kernels& kernels_of(ScalarType dtype, Form form) {
  return with_element(dtype, [=](auto element) -> const Kernels& { return kernels_of<decltype(element)>(form); });
}
inline bool has_form(ScalarType dtype, Form form) {
  return form == kAnything || with_element(dtype, [](auto element) { return kHasEveryForm<decltype(element)>; });
}

// What of a layer has kernels of its own, and their forms: with the usual options, and with others.
struct OwnForm {
  int64_t synapse[2], axon[2];  // P and Q + 1; zeros where there is no filter
  bool reads;                   // a read-out of the potential
  Form usual, other;
};
constexpr OwnForm kOwnForms[] = {
    {{0, 0}, {0, 0}, false, kPlain, kNoFilters},     {{1, 1}, {0, 0}, false, kSynapse10, kSynapse10},
    {{2, 1}, {0, 0}, false, kSynapse20, kSynapse20}, {{0, 0}, {1, 1}, false, kAxon10, kAxon10},
    {{0, 0}, {2, 1}, false, kUsualAxon20, kAxon20},  {{0, 0}, {2, 2}, false, kAxon21, kAxon21},
    {{0, 0}, {0, 0}, true, kReadOut, kReadOut},
};

// The form whose constants the call has.
inline Form form_of(const Arguments& a) {
  if (a.smooth) return kAnything;
  const auto dtype = a.current.scalar_type();
  const auto has = [](const FilterArguments& filter, const int64_t (&orders)[2]) {
    return filter.taps_back() == orders[0] && filter.taps_forward() == orders[1];
  };
  for (const OwnForm& own : kOwnForms) {
    if (has(a.synapse, own.synapse) && has(a.axon, own.axon) && own.reads == (a.potential != kPotentialNone)) {
      const Form form = a.options().usual() ? own.usual : own.other;
      return has_form(dtype, form) ? form : kAnything;
    }
  }
  const auto short_enough = [](const FilterArguments& filter) {
    return filter.taps_back() <= kMostOrder && filter.taps_forward() <= kMostOrder + 1;
  };
  const bool general = has_form(dtype, kGeneral) && short_enough(a.synapse) && short_enough(a.axon);
  return general ? kGeneral : kAnything;
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
