// A CUDA device that is not there. The runtime (runtime.cpp) and the driver (driver.cpp) share what this header
// declares: device memory is host memory, a stream finishes its work at once, and a launch is handed to a hook, or does
// nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace fake {

// A device's compute capability, from HNN_EMULATE: "9.0", or "9.0,7.5" for two devices.
struct Capability {
  int major, minor;
};
const std::vector<Capability>& devices();

// The calling thread's current device.
int& current_device();

// A kernel: its mangled name; the text of its module if it came as PTX, else null.
struct Kernel {
  std::string name;
  const char* image;
};

struct Launch {
  unsigned grid[3], block[3], shared;
};

// Runs, records or replays a launch; returns CUDA's error number. Without a hook a launch does nothing.
//   run:     the kernel, its launch, its parameters (a pointer to each).
//   record:  keeps a copy of the parameters for a graph; the number of that copy goes to `id`.
//   replay:  runs the copy `id`.
enum Action { kRun, kRecord, kReplay };
using Hook = int (*)(int action, const char* name, const char* image, const Launch* launch, void** params, int* id);
int launch(const Kernel& kernel, const Launch& launch, void** params);

// Work on a stream: done now, or while a stream is captured, kept for the graph.
int enqueue(std::function<int()> work);

// Memory of the device. A new block is NaN in every dtype. Null if it is too much.
void* allocate(size_t bytes);
// False if no block begins there.
bool release(void* block);
// The block that holds an address, as its start and bytes; false if there is none.
bool find(const void* address, uint64_t& start, uint64_t& bytes);
size_t total_bytes();
size_t free_bytes();

// The text of an error: that of the hook's last report, if it made one.
const char* error_text(int error);

// The attribute of a device by the driver's number of it. The runtime's numbers are the same.
int attribute(int which, int device);

}  // namespace fake
