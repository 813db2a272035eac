// A View of a tensor of Python, for the functions of the module's Python face.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "view.h"

namespace hnn {

// False where the tensor has no numbers in memory, or none that the kernels take (direct.inl).
bool view(PyObject* tensor, View& result);

}  // namespace hnn

// A View is made of a tensor of Python.
template <>
struct pybind11::detail::type_caster<hnn::View> {
  PYBIND11_TYPE_CASTER(hnn::View, const_name("torch.Tensor"));
  bool load(handle tensor, bool) { return hnn::view(tensor.ptr(), value); }
};
