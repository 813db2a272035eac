// Reads the caches of the processor from Linux. glibc's sysconf is not asked: under a hypervisor it has told ten times
// the size of the last level.
#include "cache.h"

#include <algorithm>
#include <fstream>
#include <sstream>

#ifdef __linux__
#include <sched.h>
#endif

namespace hnn {
namespace {

// A training step has four trains per layer: the current, the spikes, and their gradients. Where they fill more than a
// quarter of the cache, what else the step does lets some of them go before they are read again, and loses less of its
// own where they are written past it.
constexpr int64_t kTrains = 4, kParts = 4 * kTrains;
// Smaller trains are in the L2 caches. Larger ones, on a server of many cores, do not have its last level to
// themselves.
constexpr int64_t kLeastLarge = 1 << 20, kMostLarge = 8 << 20;
constexpr int64_t kAssumed = 32 << 20;  // of a last level that is not known

#ifdef __linux__
std::string first_line(const std::string& path) {
  std::string line;
  std::ifstream file(path);
  std::getline(file, line);
  return line;
}

// Calls f(i) for each number of a list such as "0-3,8".
template <class F>
void each_number(const std::string& list, F f) {
  std::istringstream ranges(list);
  for (std::string range; std::getline(ranges, range, ',');) {
    int first = 0, last = 0;
    char dash = 0;
    std::istringstream numbers(range);
    if (!(numbers >> first)) continue;
    if (!(numbers >> dash >> last)) last = first;
    for (int i = first; i <= last; ++i) f(i);
  }
}

// The part of the last level that belongs to the processors that this thread may run on; 0 if Linux does not tell.
int64_t own_part_of_cache(const std::string& cpus) {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (sched_getaffinity(0, sizeof allowed, &allowed)) return 0;
  int own = 0;
  while (own < CPU_SETSIZE && !CPU_ISSET(own, &allowed)) ++own;
  int64_t bytes = 0;
  int highest = 0;
  for (int i = 0;; ++i) {
    const std::string index = cpus + "/cpu" + std::to_string(own) + "/cache/index" + std::to_string(i) + "/";
    int level = 0;
    int64_t size = 0;
    char unit = 0;
    if (!(std::istringstream(first_line(index + "level")) >> level)) return bytes;
    std::istringstream number(first_line(index + "size"));
    if (level <= highest || !(number >> size)) continue;
    number >> unit;  // none is there for bytes
    highest = level;
    bytes = size << (unit == 'K' ? 10 : unit == 'M' ? 20 : 0);
    int64_t sharing = 0, ours = 0;
    each_number(first_line(index + "shared_cpu_list"), [&](int cpu) {
      ++sharing;
      ours += cpu < CPU_SETSIZE && CPU_ISSET(cpu, &allowed);
    });
    if (sharing > 0 && ours > 0) bytes = bytes * ours / sharing;
  }
}
#else
int64_t own_part_of_cache(const std::string&) { return 0; }
#endif

}  // namespace

int64_t large_bytes(const std::string& cpus) {
  const int64_t known = own_part_of_cache(cpus);
  return std::clamp((known > 0 ? known : kAssumed) / kParts, kLeastLarge, kMostLarge);
}

}  // namespace hnn
