// The inspection module, which a build from source adds: what the CUDA kernels take, and a report of the build. It is
// of one Python and needs pybind11; the modules with kernels do not.
#include <pybind11/pybind11.h>

#include "../inspection.h"
#include "../layer.h"
#include "sources.h"  // HNN_SOURCES, which setup.py writes

namespace py = pybind11;

namespace {

py::dict kernel_attributes(const py::capsule& inspection) {
  const auto function =
      *static_cast<hnn::AttributesOfKernels*>(PyCapsule_GetPointer(inspection.ptr(), hnn::kInspection));
  py::dict result;
  for (const hnn::KernelAttributes& found : function()) {
    py::dict one;
    one["registers"] = found.registers;
    one["local_bytes"] = found.local_bytes;
    one["shared_bytes"] = found.shared_bytes;
    one["max_threads"] = found.max_threads;
    one["binary"] = found.binary;
    result[py::str(found.name)] = one;
  }
  return result;
}

// What this build was made with, beside what each module tells of itself.
py::dict build_info() {
  py::dict info;
  info["layer"] = HNN_LAYER;
  info["sources"] = HNN_SOURCES;
  info["python"] = PY_VERSION;
  info["pybind11"] = PYBIND11_TOSTRING(PYBIND11_VERSION_MAJOR) "." PYBIND11_TOSTRING(PYBIND11_VERSION_MINOR);
  info["standard"] = __cplusplus;
  return info;
}

}  // namespace

PYBIND11_MODULE(_inspect, m) {
  m.doc() = "The attributes of the CUDA kernels on this machine's GPU, and a report of the build.";
  m.def("build_info", &build_info, "How this module was built, by name.");
  m.def(
      "kernel_attributes", &kernel_attributes, py::arg("inspection"),
      "By kernel: registers and bytes of local (spilled) memory per thread, bytes of static shared memory per block,\n"
      "the threads that a block may have, and the architecture of the binary (90 for sm_90) that this GPU takes.\n"
      "`inspection` is what the CUDA module's function of this name returns.");
}
