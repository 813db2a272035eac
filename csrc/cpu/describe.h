// Describes tensors as the trains and the operands that the tile kernels take.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>

#ifdef __linux__
#include <sys/mman.h>
#endif

#include "../tensors.h"
#include "arguments.h"
#include "cache.h"

namespace hnn {

// Outputs of at least this size ask for huge pages. Smaller ones get memory from the allocator that it has touched
// before.
constexpr int64_t kHugeBytes = 4 << 20;
// Trains of at least this size are fetched ahead backward, even where the last level of the cache has room for them: a
// cache for many cores answers late. Smaller ones are in the L2 caches.
constexpr int64_t kFetchedBytes = 2 << 20;

// Below, T is the type of a tensor: torch's, or a View of one (view.h).

template <class T>
DType dtype_of(const T& t) {
  switch (t.scalar_type()) {
    case ScalarType::Double: return kFloat64;
    case ScalarType::Float: return kFloat32;
    case ScalarType::BFloat16: return kBFloat16;
    default: return kFloat16;
  }
}
template <class T>
int64_t bytes_of(const T& t) {
  return t.numel() * static_cast<int64_t>(t.element_size());
}

// A train over time; `constant` says that the tensor has no time axis.
template <class T>
Train train(const Numbering& n, const T& t, bool constant) {
  Train result;
  result.data = t.data_ptr();
  result.constant = constant;
  result.step = constant ? 0 : t.strides()[0];
  result.layout = lay_out(n, t, constant ? 0 : 1);
  static const int64_t limit = large_bytes();
  result.fetched = bytes_of(t) >= std::min(limit, kFetchedBytes);
  result.large = bytes_of(t) >= limit;
  return result;
}
template <class T>
PerNeuron per_neuron(const Numbering& n, const std::optional<T>& t, double value = 0) {
  PerNeuron result;
  result.value = value;
  if (t) {
    result.data = t->data_ptr();
    result.layout = lay_out(n, *t, 0);
  }
  return result;
}
// A large tensor fresh from the system costs a page fault and a zeroed page per 4 KiB at the first write, more than the
// kernel itself. Asking for huge pages first makes that one per 2 MiB. It has no effect on pages that are there.
template <class T>
void prefer_huge_pages(const T& t) {
#ifdef __linux__
  constexpr uintptr_t kPage = 4096;
  if (bytes_of(t) < kHugeBytes) return;
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(t.data_ptr()) + kPage - 1) / kPage * kPage;
  madvise(reinterpret_cast<void*>(begin), bytes_of(t) - kPage, MADV_HUGEPAGE);
#endif
}

// A train to be written. It is written past the cache only where every row of a whole tile is aligned to a cache line.
template <class T>
Train written(const Numbering& n, const T& t, bool constant) {
  prefer_huge_pages(t);
  Train result = train(n, t, constant);
  result.large &= result.step * static_cast<int64_t>(t.element_size()) % 64 == 0 &&
                  reinterpret_cast<uintptr_t>(result.data) % 64 == 0;
  return result;
}

}  // namespace hnn
