// Compiles the kernels of one dtype in every form. Each dtype is a source of its own (lif_float32.cu, ...), so that
// several are compiled at once.
#pragma once

#ifndef HNN_CUDA_ON_HOST
#include "device.h"
#endif
#include "backward.cuh"
#include "choose.h"
#include "forward.cuh"

namespace hnn::cuda {

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

}  // namespace hnn::cuda
