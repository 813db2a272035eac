// The Python face of the host shim.
#include <pybind11/pybind11.h>

#include "../build_info.h"
#include "../direct.h"

PYBIND11_MODULE(_shim, m) {
  m.doc() =
      "The sources of the CUDA kernels, compiled for the host. Importing registers them with torch for CPU tensors.";
  m.def("build_info", &hnn::build_info);
  hnn::define_direct(m);
}
