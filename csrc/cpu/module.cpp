// The Python face of the CPU kernels. It tells how they were built, and which instruction set this processor takes.
#include <pybind11/pybind11.h>

#include "../build_info.h"
#include "arguments.h"

PYBIND11_MODULE(_cpu, m) {
  m.doc() = "The C++ CPU kernels. Importing registers them with torch.";
  m.def("build_info", [] {
    pybind11::dict info = hnn::build_info();
    info["instruction_set"] = hnn::kernels().name;
    return info;
  });
}
