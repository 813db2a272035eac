// The Python face of the CPU kernels. It tells how they were built, which instruction set this
// processor takes, and has the direct way of a call.
#include <pybind11/pybind11.h>

#include "../build_info.h"
#include "arguments.h"
#include "direct.h"

PYBIND11_MODULE(_cpu, m) {
  m.doc() = "The C++ CPU kernels. Importing registers them with torch.";
  m.def("build_info", [] {
    pybind11::dict info = hnn::build_info();
    info["instruction_set"] = hnn::kernels().name;
    return info;
  });
  hnn::define_direct(m);
}
