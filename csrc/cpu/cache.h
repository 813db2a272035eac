// The size from which a train does not stay in the cache.
#pragma once

#include <cstdint>
#include <string>

namespace hnn {

// Trains of at least this many bytes are fetched ahead and written past the cache, and their rows are taken whole: 1 to
// 8 MiB, by the last level of the cache. `cpus` is the folder in which Linux describes the processors. Elsewhere, and
// where it says nothing, the answer is 2 MiB.
int64_t large_bytes(const std::string& cpus = "/sys/devices/system/cpu");

}  // namespace hnn
