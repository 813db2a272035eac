// The Python face of the CPU kernels. It tells how they were built, which instruction set this
// processor takes, and has the direct way of a call.
#include <optional>
#include <string>
#include <vector>

#include "../build_info.h"
#include "../direct.h"
#include "arguments.h"
#include "cache.h"

namespace {

hnn::python::Facts build_info() {
  hnn::python::Facts info = hnn::build_info();
  info.emplace_back("instruction_set", hnn::kernels().name);
  return info;
}
std::vector<std::string> instruction_sets() {
  std::vector<std::string> names;
  for (const hnn::Kernels* one : hnn::usable_kernels()) names.emplace_back(one->name);
  return names;
}
hnn::python::Object why_not(const std::string& name) { return hnn::python::text(hnn::why_not(name)); }
int64_t large_bytes(const std::optional<std::string>& cpus) {
  return cpus ? hnn::large_bytes(*cpus) : hnn::large_bytes();
}

}  // namespace

PyMODINIT_FUNC PyInit__cpu() {
  using hnn::python::function;
  static PyMethodDef functions[] = {
      function<&build_info>("build_info", "How this module was built, by name."),
      function<&instruction_sets>("instruction_sets", "The instruction sets that this processor runs, the best first."),
      function<&why_not>("why_not", "Why the instruction set of this name cannot be taken; nothing if it can."),
      function<&hnn::choose_kernels>("use_instruction_set",
                                     "Lets the calls from now on take another one, to measure it beside others."),
      function<&large_bytes>("large_bytes",
                             "The bytes from which on a train is written past the cache, where the folder of this\n"
                             "name describes the processors."),
      {}};
  return hnn::make_module("_cpu", "The C++ CPU kernels. Importing registers them with torch.", functions,
                          {hnn::define_direct, hnn::define_defined});
}
