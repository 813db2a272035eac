// The numbering of the neurons of a step, and the place of neuron m in each operand. Neurons are numbered in the memory
// order of the current, so that a dense tensor in any permutation of its axes is walked from front to back.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define HNN_HOST_DEVICE __host__ __device__
#else
#define HNN_HOST_DEVICE
#endif

namespace hnn {

constexpr int kMaxDims = 8;

// The axes of one step, outermost first: axis i of the numbering is axis axis[i] of the tensor.
struct Numbering {
  int dims = 0;
  int axis[kMaxDims] = {};
  int64_t size[kMaxDims] = {};
  int64_t neurons = 1;
};

// `sizes` and `strides` are those of one step of the current; `dims` is at most kMaxDims.
inline Numbering number_neurons(int dims, const int64_t* sizes, const int64_t* strides) {
  Numbering n;
  n.dims = dims;
  for (int i = 0; i < dims; ++i) {
    // Insertion sort by descending stride: stable, so that axes that tie (expanded ones) keep their order.
    int place = i;
    for (; place > 0 && strides[n.axis[place - 1]] < strides[i]; --place) n.axis[place] = n.axis[place - 1];
    n.axis[place] = i;
    n.neurons *= sizes[i];
  }
  for (int i = 0; i < dims; ++i) n.size[i] = sizes[n.axis[i]];
  return n;
}

// The strides, by axis of the tensor, of a row-major tensor of the shape of a step.
inline void row_major(const Numbering& n, int64_t* strides) {
  int64_t sizes[kMaxDims], next = 1;
  for (int i = 0; i < n.dims; ++i) sizes[n.axis[i]] = n.size[i];
  for (int axis = n.dims - 1; axis >= 0; --axis) {
    strides[axis] = next;
    next *= sizes[axis];
  }
}

// The place of neuron m in one operand, in elements. Neighbouring axes that advance together are merged.
struct Layout {
  int dims = 0;
  int64_t size[kMaxDims] = {};
  int64_t stride[kMaxDims] = {};

  HNN_HOST_DEVICE bool dense() const { return dims == 0 || (dims == 1 && stride[0] == 1); }
  HNN_HOST_DEVICE bool uniform() const { return dims == 0 || (dims == 1 && stride[0] == 0); }

  HNN_HOST_DEVICE int64_t offset(int64_t m) const {
    if (dense()) return m;
    int64_t at = 0;
    for (int i = dims - 1; i >= 0; --i) {
      const int64_t rest = m / size[i];
      at += (m - rest * size[i]) * stride[i];
      m = rest;
    }
    return at;
  }
};

// `strides` are the operand's for the axes of one step, 0 where it is broadcast.
inline Layout lay_out(const Numbering& n, const int64_t* strides) {
  Layout l;
  for (int i = 0; i < n.dims; ++i) {
    const int64_t size = n.size[i], stride = strides[n.axis[i]];
    if (size == 1) continue;
    if (l.dims > 0 && l.stride[l.dims - 1] == stride * size) {
      l.size[l.dims - 1] *= size;
      l.stride[l.dims - 1] = stride;
    } else {
      l.size[l.dims] = size;
      l.stride[l.dims] = stride;
      ++l.dims;
    }
  }
  return l;
}

}  // namespace hnn
