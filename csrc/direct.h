// Parts of a module's Python face: the direct way of a call, without torch's dispatcher (direct.inl), and on the CPU
// the calls of defined neurons (cpu/defined.cpp).
#pragma once

#include <pybind11/pybind11.h>

namespace hnn {

void define_direct(pybind11::module_& m);
void define_defined(pybind11::module_& m);

}  // namespace hnn
