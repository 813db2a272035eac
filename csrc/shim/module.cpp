// The Python face of the host shim.
#include "../build_info.h"
#include "../direct.h"

PyMODINIT_FUNC PyInit__shim() {
  static PyMethodDef functions[] = {
      hnn::python::function<&hnn::build_info>("build_info", "How this module was built, by name."), {}};
  return hnn::make_module(
      "_shim",
      "The sources of the CUDA kernels, compiled for the host. Importing registers them with torch for CPU tensors.",
      functions, {hnn::define_direct});
}
