// The Python face of the CUDA kernels. It tells how they were built, and the registers and memory that each takes on
// this machine's GPU.
#include <cuda_runtime_api.h>
#include <pybind11/pybind11.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "../build_info.h"
#include "../direct.h"
#include "lif.h"

namespace {

pybind11::dict kernel_attributes() {
  pybind11::dict result;
  std::vector<hnn::cuda::Kernel> kernels = hnn::cuda::kernels();
  for (const hnn::cuda::Kernel& kernel : hnn::cuda::coding_kernels()) kernels.push_back(kernel);
  for (const hnn::cuda::Kernel& kernel : kernels) {
    cudaFuncAttributes attributes;
    const cudaError_t error = cudaFuncGetAttributes(&attributes, kernel.function);
    if (error != cudaSuccess) {
      cudaGetLastError();  // so that a later check does not report it again
      throw std::runtime_error(std::string("kernel_attributes asks the GPU, and: ") + cudaGetErrorString(error));
    }
    pybind11::dict one;
    one["registers"] = attributes.numRegs;
    one["local_bytes"] = attributes.localSizeBytes;
    one["shared_bytes"] = attributes.sharedSizeBytes;
    one["max_threads"] = attributes.maxThreadsPerBlock;
    one["binary"] = attributes.binaryVersion;
    result[kernel.name.c_str()] = one;
  }
  return result;
}

}  // namespace

PYBIND11_MODULE(_cuda, m) {
  m.doc() = "The CUDA kernels. Importing registers them with torch.";
  m.def("build_info", [] {
    pybind11::dict info = hnn::build_info();
    info["cuda"] = std::to_string(CUDART_VERSION / 1000) + "." + std::to_string(CUDART_VERSION % 1000 / 10);
    info["architectures"] = HNN_CUDA_ARCHITECTURES;
    return info;
  });
  hnn::define_direct(m);
  m.def(
      "kernel_attributes", &kernel_attributes,
      "By kernel: registers and bytes of local (spilled) memory per thread, bytes of static shared memory per block,\n"
      "the threads that a block may have, and the architecture of the binary (90 for sm_90) that this GPU takes.");
}
