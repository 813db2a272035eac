// A View of a tensor of Python, for the functions of the module's Python face.
#pragma once

#include "python.h"
#include "view.h"

namespace hnn {

// False where the tensor has no numbers in memory, or none that the kernels take (direct.inl).
bool view(PyObject* tensor, View& result);

}  // namespace hnn

template <>
struct hnn::python::Value<hnn::View> {
  static View of(PyObject* v) {
    View result;
    if (!view(v, result)) throw Mismatch{"a dense tensor of floating point on a CPU or a GPU"};
    return result;
  }
};
