// Sums the gradient of a coefficient over the neurons that share it, always in the same order, so that equal calls give
// equal bits on any number of threads. It is O(neurons), beside O(neurons * steps) of the kernel, so one thread does
// it.
#pragma once

#include <cstdint>
#include <vector>

#include "../layout.h"

namespace hnn {

// Sum of n values in 16 interleaved parts, which the compiler keeps in vector registers.
template <class C>
double sum(const C* x, int64_t n) {
  constexpr int kParts = 16;
  double part[kParts] = {};
  int64_t i = 0;
  for (; i + kParts <= n; i += kParts) {
    for (int j = 0; j < kParts; ++j) part[j] += x[i + j];
  }
  for (; i < n; ++i) part[i % kParts] += x[i];
  double total = 0;
  for (double p : part) total += p;
  return total;
}

template <class C>
void reduce(const C* partial, int64_t neurons, const Layout& layout, C* result, int64_t size) {
  std::vector<double> total(size, 0.0);
  if (layout.uniform()) {
    if (size) total[0] = sum(partial, neurons);
  } else {
    const int64_t row = layout.size[layout.dims - 1], stride = layout.stride[layout.dims - 1];
    for (int64_t m = 0; m < neurons; m += row) {
      double* at = total.data() + layout.offset(m);
      if (stride == 0) {
        *at += sum(partial + m, row);
      } else {
        for (int64_t i = 0; i < row; ++i) at[i * stride] += partial[m + i];
      }
    }
  }
  for (int64_t i = 0; i < size; ++i) result[i] = static_cast<C>(total[i]);
}

// `partial` holds one sum per neuron in the numbering's order; `layout` places the neurons in the dense `result`.
inline void reduce(const void* partial, bool is_double, int64_t neurons, const Layout& layout, void* result,
                   int64_t size) {
  if (is_double) {
    reduce(static_cast<const double*>(partial), neurons, layout, static_cast<double*>(result), size);
  } else {
    reduce(static_cast<const float*>(partial), neurons, layout, static_cast<float*>(result), size);
  }
}

}  // namespace hnn
