// The runtime's part of the device that is not there. It takes the place of the functions of libcudart that torch and
// the CUDA module call, because this library is loaded before libcudart. What is not here is libcudart's own, and
// fails.
#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <mutex>
#include <unordered_map>
#include <unordered_set>

#include "graph.h"

namespace fake {

Graph*& captured() {
  static Graph* graph = nullptr;
  return graph;
}
int enqueue(std::function<int()> work) {
  if (!capturing()) return work();
  captured()->push_back(std::move(work));
  return 0;
}
int replay(const Graph& graph) {
  for (const auto& work : graph) {
    if (const int error = work()) return error;
  }
  return 0;
}

}  // namespace fake

#define RUNTIME extern "C" cudaError_t CUDARTAPI
namespace {

cudaError_t last_error = cudaSuccess;
cudaError_t result(int error) {
  if (error) last_error = static_cast<cudaError_t>(error);
  return static_cast<cudaError_t>(error);
}

template <class Handle>
Handle new_handle() {
  static std::atomic<intptr_t> next{1 << 16};
  return reinterpret_cast<Handle>(++next);
}

// The kernels that libraries registered, by the address of their host function.
std::mutex kernels_lock;
std::unordered_map<const void*, fake::Kernel>& kernels() {
  static auto* const all = new std::unordered_map<const void*, fake::Kernel>;
  return *all;
}
const fake::Kernel* kernel_of(const void* function) {
  const std::lock_guard<std::mutex> guard(kernels_lock);
  const auto found = kernels().find(function);
  return found == kernels().end() ? nullptr : &found->second;
}

// The carve-outs of shared memory that were asked for, by the kernels' names.
std::unordered_map<std::string, int>& carveouts() {
  static auto* const all = new std::unordered_map<std::string, int>;
  return *all;
}

cudaError_t launch(const fake::Kernel* kernel, dim3 grid, dim3 block, void** params, size_t shared) {
  if (!kernel) return result(cudaErrorInvalidDeviceFunction);
  const fake::Launch geometry{{grid.x, grid.y, grid.z}, {block.x, block.y, block.z}, static_cast<unsigned>(shared)};
  return result(fake::launch(*kernel, geometry, params));
}

using Clock = std::chrono::steady_clock;

}  // namespace

// -- kernels ----------------------------------------------------------------------------------------------------------

extern "C" void** __cudaRegisterFatBinary(void* binary) { return new void*(binary); }
extern "C" void __cudaRegisterFatBinaryEnd(void**) {}
extern "C" void __cudaUnregisterFatBinary(void**) {}
extern "C" char __cudaInitModule(void**) { return 1; }
extern "C" void __cudaRegisterVar(void**, char*, char*, const char*, int, size_t, int, int) {}
extern "C" void __cudaRegisterFunction(void**, const char* function, char*, const char* name, int, uint3*, uint3*,
                                       dim3*, dim3*, int*) {
  const std::lock_guard<std::mutex> guard(kernels_lock);
  kernels().insert_or_assign(function, fake::Kernel{name, nullptr});
}
extern "C" cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* function) {
  *kernel = reinterpret_cast<cudaKernel_t>(const_cast<fake::Kernel*>(kernel_of(function)));
  return *kernel ? cudaSuccess : result(cudaErrorInvalidDeviceFunction);
}
struct Configuration {
  dim3 grid, block;
  size_t shared;
  void* stream;
};
static thread_local std::vector<Configuration> configurations;
extern "C" unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, void* stream) {
  configurations.push_back({grid, block, shared, stream});
  return 0;
}
extern "C" cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, size_t* shared, void* stream) {
  const Configuration& last = configurations.back();
  *grid = last.grid;
  *block = last.block;
  *shared = last.shared;
  *static_cast<void**>(stream) = last.stream;
  configurations.pop_back();
  return cudaSuccess;
}
extern "C" cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void** params, size_t shared,
                                          cudaStream_t) {
  return launch(reinterpret_cast<const fake::Kernel*>(kernel), grid, block, params, shared);
}
RUNTIME cudaLaunchKernel(const void* function, dim3 grid, dim3 block, void** params, size_t shared, cudaStream_t) {
  return launch(kernel_of(function), grid, block, params, shared);
}
RUNTIME cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* function, void** params) {
  return launch(kernel_of(function), config->gridDim, config->blockDim, params, config->dynamicSmemBytes);
}
RUNTIME cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void*) {
  *attributes = {};
  attributes->numRegs = 32;
  attributes->maxThreadsPerBlock = 1024;
  const fake::Capability capability = fake::devices().at(fake::current_device());
  attributes->binaryVersion = attributes->ptxVersion = capability.major * 10 + capability.minor;
  return cudaSuccess;
}
RUNTIME cudaFuncSetAttribute(const void* function, cudaFuncAttribute which, int value) {
  const fake::Kernel* kernel = kernel_of(function);
  if (!kernel) return result(cudaErrorInvalidDeviceFunction);
  const std::lock_guard<std::mutex> guard(kernels_lock);
  if (which == cudaFuncAttributePreferredSharedMemoryCarveout) carveouts()[kernel->name] = value;
  return cudaSuccess;
}
// What was asked for a kernel, in per cent of a multiprocessor's memory; -1 if nothing was.
extern "C" int hnn_fake_carveout(const char* name) {
  const std::lock_guard<std::mutex> guard(kernels_lock);
  const auto found = carveouts().find(name);
  return found == carveouts().end() ? -1 : found->second;
}
RUNTIME cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void*, int, size_t, unsigned) {
  return *blocks = 1, cudaSuccess;
}
RUNTIME cudaLaunchHostFunc(cudaStream_t, cudaHostFn_t function, void* data) {
  return result(fake::enqueue([=] { return function(data), 0; }));
}
RUNTIME cudaGetDriverEntryPointByVersion(const char* symbol, void** function, unsigned, unsigned long long,
                                         cudaDriverEntryPointQueryResult* status) {
  *function = dlsym(RTLD_DEFAULT, symbol);
  if (status) *status = *function ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
  return cudaSuccess;
}

// -- devices ----------------------------------------------------------------------------------------------------------

RUNTIME cudaGetDeviceCount(int* count) { return *count = static_cast<int>(fake::devices().size()), cudaSuccess; }
RUNTIME cudaGetDevice(int* device) { return *device = fake::current_device(), cudaSuccess; }
RUNTIME cudaSetDevice(int device) {
  if (device < 0 || device >= static_cast<int>(fake::devices().size())) return result(cudaErrorInvalidDevice);
  fake::current_device() = device;
  return cudaSuccess;
}
RUNTIME cudaGetDeviceProperties(cudaDeviceProp* p, int device) {
  std::memset(p, 0, sizeof *p);
  const auto get = [&](int which) { return fake::attribute(which, device); };
  p->major = get(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
  p->minor = get(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
  std::snprintf(p->name, sizeof p->name, "no device, as sm_%d%d", p->major, p->minor);
  p->totalGlobalMem = fake::total_bytes();
  p->warpSize = 32;
  p->multiProcessorCount = get(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
  p->maxThreadsPerBlock = get(CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK);
  p->maxThreadsPerMultiProcessor = get(CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR);
  p->maxThreadsDim[0] = p->maxThreadsDim[1] = 1024, p->maxThreadsDim[2] = 64;
  p->maxGridSize[0] = 0x7fffffff, p->maxGridSize[1] = p->maxGridSize[2] = 65535;
  p->regsPerBlock = get(CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK);
  p->regsPerMultiprocessor = get(CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR);
  p->sharedMemPerBlock = get(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK);
  p->sharedMemPerBlockOptin = get(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN);
  p->sharedMemPerMultiprocessor = get(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR);
  p->l2CacheSize = get(CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE);
  return cudaSuccess;
}
RUNTIME cudaDeviceGetAttribute(int* value, cudaDeviceAttr which, int device) {
  return *value = fake::attribute(which, device), cudaSuccess;
}
RUNTIME cudaDeviceGetStreamPriorityRange(int* least, int* greatest) { return *least = *greatest = 0, cudaSuccess; }
RUNTIME cudaDeviceCanAccessPeer(int* can, int, int) { return *can = 1, cudaSuccess; }
RUNTIME cudaDeviceEnablePeerAccess(int, unsigned) { return cudaSuccess; }
RUNTIME cudaDeviceSynchronize() { return cudaSuccess; }
RUNTIME cudaDriverGetVersion(int* version) { return *version = CUDART_VERSION, cudaSuccess; }
RUNTIME cudaRuntimeGetVersion(int* version) { return *version = CUDART_VERSION, cudaSuccess; }
RUNTIME cudaProfilerStart() { return cudaSuccess; }
RUNTIME cudaProfilerStop() { return cudaSuccess; }
RUNTIME cudaGetLastError() {
  const cudaError_t error = last_error;
  return last_error = cudaSuccess, error;
}
RUNTIME cudaPeekAtLastError() { return last_error; }
extern "C" const char* CUDARTAPI cudaGetErrorString(cudaError_t error) { return fake::error_text(error); }
extern "C" const char* CUDARTAPI cudaGetErrorName(cudaError_t error) { return fake::error_text(error); }

// -- memory -----------------------------------------------------------------------------------------------------------

// What is allocated during a capture is kept: every replay uses it. (torch's allocator keeps it in the graph's pool.)
static std::mutex of_graphs_lock;
static std::unordered_set<void*> of_graphs;

RUNTIME cudaMalloc(void** block, size_t bytes) {
  *block = fake::allocate(bytes);
  if (fake::capturing()) {
    std::lock_guard guard(of_graphs_lock);
    of_graphs.insert(*block);
  }
  return *block ? cudaSuccess : result(cudaErrorMemoryAllocation);
}
RUNTIME cudaFree(void* block) {
  {
    std::lock_guard guard(of_graphs_lock);
    if (of_graphs.count(block)) return cudaSuccess;
  }
  return !block || fake::release(block) ? cudaSuccess : result(cudaErrorInvalidValue);
}
RUNTIME cudaMallocAsync(void** block, size_t bytes, cudaStream_t) { return cudaMalloc(block, bytes); }
RUNTIME cudaFreeAsync(void* block, cudaStream_t) { return cudaFree(block); }
RUNTIME cudaHostAlloc(void** block, size_t bytes, unsigned) {
  return *block = std::aligned_alloc(4096, (bytes + 4095) / 4096 * 4096), cudaSuccess;
}
RUNTIME cudaFreeHost(void* block) { return std::free(block), cudaSuccess; }
RUNTIME cudaHostRegister(void*, size_t, unsigned) { return cudaSuccess; }
RUNTIME cudaHostUnregister(void*) { return cudaSuccess; }
RUNTIME cudaMemGetInfo(size_t* free, size_t* total) {
  *free = fake::free_bytes();
  *total = fake::total_bytes();
  return cudaSuccess;
}
RUNTIME cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t) {
  return result(fake::enqueue([=] { return std::memmove(to, from, bytes), 0; }));
}
RUNTIME cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind) {
  return std::memmove(to, from, bytes), cudaSuccess;
}
RUNTIME cudaMemcpyPeerAsync(void* to, int, const void* from, int, size_t bytes, cudaStream_t stream) {
  return cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream);
}
RUNTIME cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t) {
  return result(fake::enqueue([=] { return std::memset(to, value, bytes), 0; }));
}
RUNTIME cudaMemset(void* to, int value, size_t bytes) { return std::memset(to, value, bytes), cudaSuccess; }
RUNTIME cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* address) {
  uint64_t start, bytes;
  *attributes = {};
  const bool ours = fake::find(address, start, bytes);
  attributes->type = ours ? cudaMemoryTypeDevice : cudaMemoryTypeUnregistered;
  attributes->devicePointer = ours ? const_cast<void*>(address) : nullptr;
  return cudaSuccess;
}

// -- streams and events -----------------------------------------------------------------------------------------------

RUNTIME cudaStreamCreate(cudaStream_t* stream) { return *stream = new_handle<cudaStream_t>(), cudaSuccess; }
RUNTIME cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) { return cudaStreamCreate(stream); }
RUNTIME cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned, int) { return cudaStreamCreate(stream); }
RUNTIME cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }
RUNTIME cudaStreamGetPriority(cudaStream_t, int* priority) { return *priority = 0, cudaSuccess; }
RUNTIME cudaStreamQuery(cudaStream_t) { return cudaSuccess; }
RUNTIME cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
RUNTIME cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return cudaSuccess; }

RUNTIME cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  return *event = reinterpret_cast<cudaEvent_t>(new Clock::time_point(Clock::now())), cudaSuccess;
}
RUNTIME cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, 0); }
RUNTIME cudaEventDestroy(cudaEvent_t event) { return delete reinterpret_cast<Clock::time_point*>(event), cudaSuccess; }
RUNTIME cudaEventQuery(cudaEvent_t) { return cudaSuccess; }
RUNTIME cudaEventSynchronize(cudaEvent_t) { return cudaSuccess; }
RUNTIME cudaEventRecord(cudaEvent_t event, cudaStream_t) {
  return *reinterpret_cast<Clock::time_point*>(event) = Clock::now(), cudaSuccess;
}
RUNTIME cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned) {
  return cudaEventRecord(event, stream);
}
RUNTIME cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  const auto time = [](cudaEvent_t event) { return *reinterpret_cast<Clock::time_point*>(event); };
  *milliseconds = std::chrono::duration<float, std::milli>(time(end) - time(start)).count();
  return cudaSuccess;
}

// -- graphs -----------------------------------------------------------------------------------------------------------

RUNTIME cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* status) {
  *status = fake::capturing() ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
RUNTIME cudaStreamGetCaptureInfo(cudaStream_t stream, cudaStreamCaptureStatus* status, unsigned long long* id,
                                 cudaGraph_t* graph, const cudaGraphNode_t** nodes, const cudaGraphEdgeData** edges,
                                 size_t* count) {
  if (id) *id = reinterpret_cast<uintptr_t>(fake::captured());
  if (graph) *graph = reinterpret_cast<cudaGraph_t>(fake::captured());
  if (nodes) *nodes = nullptr;
  if (edges) *edges = nullptr;
  if (count) *count = 0;
  return cudaStreamIsCapturing(stream, status);
}
RUNTIME cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode) {
  return fake::captured() = new fake::Graph, cudaSuccess;
}
RUNTIME cudaStreamEndCapture(cudaStream_t, cudaGraph_t* graph) {
  *graph = reinterpret_cast<cudaGraph_t>(fake::captured());
  return fake::captured() = nullptr, cudaSuccess;
}
RUNTIME cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode*) { return cudaSuccess; }
RUNTIME cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t*, size_t* count) {
  return *count = reinterpret_cast<fake::Graph*>(graph)->size(), cudaSuccess;
}
RUNTIME cudaGraphInstantiateWithFlags(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  *executable = reinterpret_cast<cudaGraphExec_t>(new fake::Graph(*reinterpret_cast<fake::Graph*>(graph)));
  return cudaSuccess;
}
RUNTIME cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t) {
  return result(fake::replay(*reinterpret_cast<fake::Graph*>(executable)));
}
RUNTIME cudaGraphDestroy(cudaGraph_t graph) { return delete reinterpret_cast<fake::Graph*>(graph), cudaSuccess; }
RUNTIME cudaGraphExecDestroy(cudaGraphExec_t executable) {
  return delete reinterpret_cast<fake::Graph*>(executable), cudaSuccess;
}
