// The Python face of the CUDA kernels. It tells how they were built, and for the inspection module the registers and
// memory that each takes on this machine's GPU.
#include <cuda_runtime_api.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "../build_info.h"
#include "../direct.h"
#include "../inspection.h"
#include "lif.h"

namespace {

std::vector<hnn::KernelAttributes> kernel_attributes() {
  std::vector<hnn::KernelAttributes> result;
  std::vector<hnn::cuda::Kernel> kernels = hnn::cuda::kernels();
  for (const hnn::cuda::Kernel& kernel : hnn::cuda::coding_kernels()) kernels.push_back(kernel);
  for (const hnn::cuda::Kernel& kernel : kernels) {
    cudaFuncAttributes found;
    const cudaError_t error = cudaFuncGetAttributes(&found, kernel.function);
    if (error != cudaSuccess) {
      cudaGetLastError();  // so that a later check does not report it again
      throw std::runtime_error(std::string("kernel_attributes asks the GPU, and: ") + cudaGetErrorString(error));
    }
    result.push_back({kernel.name, found.numRegs, static_cast<int>(found.localSizeBytes),
                      static_cast<int>(found.sharedSizeBytes), found.maxThreadsPerBlock, found.binaryVersion});
  }
  return result;
}

hnn::python::Facts build_info() {
  hnn::python::Facts info = hnn::build_info();
  info.emplace_back("cuda", std::to_string(CUDART_VERSION / 1000) + "." + std::to_string(CUDART_VERSION % 1000 / 10));
  info.emplace_back("architectures", HNN_CUDA_ARCHITECTURES);
  return info;
}
hnn::python::Object inspection() {
  static hnn::AttributesOfKernels function = &kernel_attributes;
  return hnn::python::Object::take(PyCapsule_New(&function, hnn::kInspection, nullptr));
}

}  // namespace

// The name that torch's build sets has the major version of CUDA: an installation may have a module for each.
#define HNN_INIT_OF(name) PyInit_##name
#define HNN_INIT(name) HNN_INIT_OF(name)

PyMODINIT_FUNC HNN_INIT(TORCH_EXTENSION_NAME)() {
  using hnn::python::function;
  static PyMethodDef functions[] = {
      function<&build_info>("build_info", "How this module was built, by name."),
      function<&hnn::cuda::own_forms>("own_forms", "What of a layer has kernels of its own: hnn_kernels/_dispatch.py."),
      function<&inspection>("inspection", "The capsule from which the inspection module has the kernels' attributes."),
      {}};
  return hnn::make_module(HNN_NAME_OF(TORCH_EXTENSION_NAME), "The CUDA kernels. Importing registers them with torch.",
                          functions, {hnn::define_direct});
}
