// Compiles the kernels of one dtype in every form. Each dtype is a source of its own (lif_float32.cu, ...), so that
// several are compiled at once.
#pragma once

#include "backward.cuh"
#include "forward.cuh"
#include "lif.h"

namespace hnn::cuda {

// The neurons of a thread of the wide forms: accesses of 64 bits. Kernels that learn have two at most, for the sake of
// their registers.
template <class IO>
constexpr int kWide = 8 / sizeof(IO);

template <class IO, class F, int kLanes = 1>
constexpr Kernels instances(const char* name) {
  constexpr int kLearning = kLanes > 2 ? 2 : kLanes;
  return {name,
          {hnn_cuda::forward<IO, F, kLanes>, kLanes},
          {{hnn_cuda::backward<IO, F, kLanes, false>, kLanes}, {hnn_cuda::backward<IO, F, kLearning, true>, kLearning}},
          F::kBack};
}
// One kernel for backward, which learns, is enough where speed is not asked for.
template <class IO>
constexpr Kernels anything_instances(const char* name) {
  using F = hnn_cuda::Anything;
  constexpr Launchable<BackwardCall> kLearns = {hnn_cuda::backward<IO, F, 1, true>, 1};
  return {name, {hnn_cuda::forward<IO, F, 1>, 1}, {kLearns, kLearns}, F::kBack};
}
// The filter alone: its coefficients are learnt by the kernels for one neuron.
template <class IO>
constexpr Kernels filter_instances(const char* name) {
  constexpr int kLanes = kWide<IO>;
  using F = hnn_cuda::Iir20;
  using One = hnn_cuda::OnlySynapse<2, 0>;
  return {name,
          {hnn_cuda::forward<IO, F, kLanes>, kLanes},
          {{hnn_cuda::backward<IO, F, kLanes, false>, kLanes}, {hnn_cuda::backward<IO, One, 1, true>, 1}},
          One::kBack};
}
template <class IO>
const Kernels& kernels_of(Form form) {
  using namespace hnn_cuda;
  static const Kernels anything = anything_instances<IO>("anything");
  if constexpr (kHasEveryForm<IO>) {
    static const Kernels table[kForms] = {instances<IO, Plain>("plain"),
                                          instances<IO, NoFilters>("no filters"),
                                          instances<IO, OnlySynapse<1, 0>>("synapse (1, 0)"),
                                          instances<IO, OnlySynapse<2, 0>>("synapse (2, 0)"),
                                          instances<IO, OnlyAxon<1, 0>>("axon (1, 0)"),
                                          instances<IO, OnlyAxon<2, 0>>("axon (2, 0)"),
                                          instances<IO, UsualAxon20>("usual, axon (2, 0)"),
                                          instances<IO, OnlyAxon<2, 1>>("axon (2, 1)"),
                                          instances<IO, ReadOut>("read-out"),
                                          instances<IO, General>("general"),
                                          anything,
                                          instances<IO, Plain, kWide<IO>>("wide, plain"),
                                          instances<IO, UsualAxon20, kWide<IO>>("wide, usual, axon (2, 0)"),
                                          filter_instances<IO>("wide, iir (2, 0)")};
    return table[form];
  } else {
    return anything;
  }
}

}  // namespace hnn::cuda
