// The direct way of a call, without torch's dispatcher (direct.cpp), for the module's Python face.
#pragma once

#include <pybind11/pybind11.h>

namespace hnn {

void define_direct(pybind11::module_& m);

}  // namespace hnn
