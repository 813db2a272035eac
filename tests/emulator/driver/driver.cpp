// The driver's part of the device that is not there: what Triton's launcher and torch ask libcuda.so.1 for.
#include <dlfcn.h>
#include <sys/mman.h>

#include <cstring>
#include <map>
#include <memory>
#include <mutex>

#include "graph.h"

namespace fake {
namespace {

constexpr size_t kTotalBytes = size_t{8} << 30;
// Between two blocks lies memory that may not be touched, so that an address a little off is in no block.
constexpr size_t kGap = 4096;

std::mutex memory_lock;
size_t used_bytes = 0;
struct Block {
  size_t bytes, mapped;
};
std::map<uint64_t, Block>& blocks() {
  static auto* const all = new std::map<uint64_t, Block>;  // never destroyed: threads may outlive the exit handlers
  return *all;
}

// Small blocks that were released, by their bytes, to be given again: a mapping takes longer than an operator.
constexpr size_t kKept = 64 << 10;
std::map<size_t, std::vector<char*>>& released() {
  static auto* const all = new std::map<size_t, std::vector<char*>>;
  return *all;
}

Hook hook = nullptr;
std::string& report() {
  static auto* const text = new std::string;
  return *text;
}

}  // namespace

const std::vector<Capability>& devices() {
  static const std::vector<Capability> all = [] {
    const char* given = std::getenv("HNN_EMULATE");
    std::vector<Capability> result;
    for (const char* at = given && *given ? given : "9.0"; at; at = std::strchr(at, ',')) {
      if (*at == ',') ++at;
      Capability one{9, 0};
      if (std::sscanf(at, "%d.%d", &one.major, &one.minor) == 2) result.push_back(one);
    }
    return result;
  }();
  return all;
}

int& current_device() {
  static thread_local int device = 0;
  return device;
}

void* allocate(size_t bytes) {
  const std::lock_guard<std::mutex> guard(memory_lock);
  const size_t mapped = (bytes + 4095) / 4096 * 4096 + 2 * kGap;
  if (used_bytes + mapped > kTotalBytes) return nullptr;
  auto& same = released()[mapped];
  char* base;
  if (same.empty()) {
    base = static_cast<char*>(
        mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    if (base == MAP_FAILED) return nullptr;
    mprotect(base, kGap, PROT_NONE);
    mprotect(base + mapped - kGap, kGap, PROT_NONE);
  } else {
    base = same.back();
    same.pop_back();
  }
  if (hook) std::memset(base + kGap, 0xFF, mapped - 2 * kGap);
  used_bytes += mapped;
  blocks()[reinterpret_cast<uint64_t>(base) + kGap] = {bytes, mapped};
  return base + kGap;
}

bool release(void* block) {
  const std::lock_guard<std::mutex> guard(memory_lock);
  const auto found = blocks().find(reinterpret_cast<uint64_t>(block));
  if (found == blocks().end()) return false;
  const size_t mapped = found->second.mapped;
  char* const base = static_cast<char*>(block) - kGap;
  if (mapped <= kKept) {
    released()[mapped].push_back(base);
  } else {
    munmap(base, mapped);
  }
  used_bytes -= mapped;
  blocks().erase(found);
  return true;
}

bool find(const void* address, uint64_t& start, uint64_t& bytes) {
  const std::lock_guard<std::mutex> guard(memory_lock);
  const uint64_t at = reinterpret_cast<uint64_t>(address);
  auto next = blocks().upper_bound(at);
  if (next == blocks().begin()) return false;
  --next;
  start = next->first;
  bytes = next->second.bytes;
  return at < start + (bytes ? bytes : 1);
}

size_t total_bytes() { return kTotalBytes; }
size_t free_bytes() {
  const std::lock_guard<std::mutex> guard(memory_lock);
  return kTotalBytes - used_bytes;
}

const char* error_text(int error) {
  if (error == CUDA_SUCCESS) return "no error";
  if (!report().empty()) return report().c_str();
  return error == CUDA_ERROR_NO_BINARY_FOR_GPU ? "no kernel image is available for execution on the device"
                                               : "an error of the device that is not there";
}

int launch(const Kernel& kernel, const Launch& geometry, void** params) {
  if (!hook) return enqueue([] { return 0; });
  if (!capturing()) return hook(kRun, kernel.name.c_str(), kernel.image, &geometry, params, nullptr);
  int id = 0;
  if (const int error = hook(kRecord, kernel.name.c_str(), kernel.image, &geometry, params, &id)) return error;
  return enqueue([id]() mutable { return hook(kReplay, nullptr, nullptr, nullptr, nullptr, &id); });
}

int attribute(int which, int device) {
  const Capability capability = devices().at(device);
  switch (which) {
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: return capability.major;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: return capability.minor;
    case CU_DEVICE_ATTRIBUTE_WARP_SIZE: return 32;
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: return 1;  // so that few neurons fill it
    case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK: return 1024;
    case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR: return 2048;
    case CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK: return 65536;
    case CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR: return 65536;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK: return 48 << 10;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN: return 227 << 10;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR: return 228 << 10;
    case CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE: return 50 << 20;
    case CU_DEVICE_ATTRIBUTE_CLOCK_RATE: return 1755000;
    case CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE: return 2619000;
    case CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH: return 5120;
    default: return 0;
  }
}

}  // namespace fake

// -- what Python sets and asks ----------------------------------------------------------------------------------------

extern "C" void hnn_fake_set_hook(fake::Hook hook) { fake::hook = hook; }
extern "C" void hnn_fake_report(const char* text) { fake::report() = text; }
// Writes the starts and sizes of at most `room` blocks of memory, in order; returns how many there are.
extern "C" size_t hnn_fake_blocks(uint64_t* starts, uint64_t* sizes, size_t room) {
  const std::lock_guard<std::mutex> guard(fake::memory_lock);
  size_t i = 0;
  for (const auto& [start, block] : fake::blocks()) {
    if (i < room) starts[i] = start, sizes[i] = block.bytes;
    ++i;
  }
  return i;
}

// -- the driver -------------------------------------------------------------------------------------------------------

#define DRIVER extern "C" CUresult CUDAAPI
namespace {
CUresult result(int error) { return static_cast<CUresult>(error); }
CUcontext context(int device) { return reinterpret_cast<CUcontext>(static_cast<intptr_t>(device + 1)); }
}  // namespace

DRIVER cuInit(unsigned) { return CUDA_SUCCESS; }
DRIVER cuDriverGetVersion(int* version) { return *version = CUDA_VERSION, CUDA_SUCCESS; }
DRIVER cuGetErrorString(CUresult error, const char** text) { return *text = fake::error_text(error), CUDA_SUCCESS; }
DRIVER cuGetErrorName(CUresult error, const char** text) { return cuGetErrorString(error, text); }

DRIVER cuDeviceGetCount(int* count) { return *count = static_cast<int>(fake::devices().size()), CUDA_SUCCESS; }
DRIVER cuDeviceGet(CUdevice* device, int ordinal) { return *device = ordinal, CUDA_SUCCESS; }
DRIVER cuDeviceGetAttribute(int* value, CUdevice_attribute which, CUdevice device) {
  return *value = fake::attribute(which, device), CUDA_SUCCESS;
}
DRIVER cuCtxGetCurrent(CUcontext* current) { return *current = context(fake::current_device()), CUDA_SUCCESS; }
DRIVER cuCtxSetCurrent(CUcontext chosen) {
  fake::current_device() = static_cast<int>(reinterpret_cast<intptr_t>(chosen)) - 1;
  return CUDA_SUCCESS;
}
DRIVER cuCtxGetDevice(CUdevice* device) { return *device = fake::current_device(), CUDA_SUCCESS; }
DRIVER cuCtxGetLimit(size_t* value, CUlimit) { return *value = size_t{1} << 20, CUDA_SUCCESS; }
DRIVER cuCtxSetLimit(CUlimit, size_t) { return CUDA_SUCCESS; }
DRIVER cuDevicePrimaryCtxRetain(CUcontext* retained, CUdevice device) {
  return *retained = context(device), CUDA_SUCCESS;
}
DRIVER cuDevicePrimaryCtxGetState(CUdevice, unsigned* flags, int* active) {
  *flags = 0;
  *active = 1;
  return CUDA_SUCCESS;
}

// A module is PTX as text (the suite has Triton leave out ptxas), or, where nothing is run, a cubin.
struct CUmod_st {
  std::string text;
  std::map<std::string, std::unique_ptr<fake::Kernel>> kernels;
};
DRIVER cuModuleLoadData(CUmodule* module, const void* data) {
  const char* text = static_cast<const char*>(data);
  *module = new CUmod_st{std::memcmp(text,
                                     "\x7f"
                                     "ELF",
                                     4)
                             ? text
                             : "",
                         {}};
  return CUDA_SUCCESS;
}
DRIVER cuModuleUnload(CUmodule) { return CUDA_SUCCESS; }  // a kernel may outlive it in a graph
DRIVER cuModuleGetFunction(CUfunction* function, CUmodule module, const char* name) {
  auto& kernel = module->kernels[name];
  if (!kernel) kernel.reset(new fake::Kernel{name, module->text.empty() ? nullptr : module->text.c_str()});
  *function = reinterpret_cast<CUfunction>(kernel.get());
  return CUDA_SUCCESS;
}
DRIVER cuFuncGetAttribute(int* value, CUfunction_attribute which, CUfunction) {
  *value = which == CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK ? 1024 : which == CU_FUNC_ATTRIBUTE_NUM_REGS ? 32 : 0;
  return CUDA_SUCCESS;
}
DRIVER cuFuncSetAttribute(CUfunction, CUfunction_attribute, int) { return CUDA_SUCCESS; }
DRIVER cuFuncSetCacheConfig(CUfunction, CUfunc_cache) { return CUDA_SUCCESS; }
DRIVER cuOccupancyMaxActiveClusters(int* count, CUfunction, const CUlaunchConfig*) { return *count = 1, CUDA_SUCCESS; }

DRIVER cuPointerGetAttribute(void* value, CUpointer_attribute which, CUdeviceptr address) {
  uint64_t start, bytes;
  if (!fake::find(reinterpret_cast<void*>(address), start, bytes)) return CUDA_ERROR_INVALID_VALUE;
  if (which == CU_POINTER_ATTRIBUTE_DEVICE_POINTER) std::memcpy(value, &address, sizeof address);
  return CUDA_SUCCESS;
}

DRIVER cuStreamSynchronize(CUstream) { return CUDA_SUCCESS; }
DRIVER cuStreamIsCapturing(CUstream, CUstreamCaptureStatus* status) {
  *status = fake::capturing() ? CU_STREAM_CAPTURE_STATUS_ACTIVE : CU_STREAM_CAPTURE_STATUS_NONE;
  return CUDA_SUCCESS;
}
DRIVER cuMemcpyDtoHAsync_v2(void* to, CUdeviceptr from, size_t bytes, CUstream) {
  return result(fake::enqueue([=] { return std::memcpy(to, reinterpret_cast<void*>(from), bytes), 0; }));
}
DRIVER cuLaunchKernelEx(const CUlaunchConfig* c, CUfunction function, void** params, void**) {
  const fake::Launch geometry{
      {c->gridDimX, c->gridDimY, c->gridDimZ}, {c->blockDimX, c->blockDimY, c->blockDimZ}, c->sharedMemBytes};
  return result(fake::launch(*reinterpret_cast<fake::Kernel*>(function), geometry, params));
}
DRIVER cuLaunchKernel(CUfunction function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                      unsigned shared, CUstream, void** params, void**) {
  const fake::Launch geometry{{gx, gy, gz}, {bx, by, bz}, shared};
  return result(fake::launch(*reinterpret_cast<fake::Kernel*>(function), geometry, params));
}
// Asked for by name when Triton loads, and never called.
DRIVER cuTensorMapEncodeTiled(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, const cuuint64_t*,
                              const cuuint64_t*, const cuuint32_t*, const cuuint32_t*, CUtensorMapInterleave,
                              CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill) {
  return CUDA_ERROR_NOT_SUPPORTED;
}
DRIVER cuTensorMapEncodeIm2col(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, const cuuint64_t*,
                               const cuuint64_t*, const int*, const int*, cuuint32_t, cuuint32_t, const cuuint32_t*,
                               CUtensorMapInterleave, CUtensorMapSwizzle, CUtensorMapL2promotion,
                               CUtensorMapFloatOOBfill) {
  return CUDA_ERROR_NOT_SUPPORTED;
}
