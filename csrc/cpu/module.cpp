// The Python face of the CPU kernels. It tells how they were built, which instruction set this
// processor takes, and has the direct way of a call.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "../build_info.h"
#include "../direct.h"
#include "arguments.h"
#include "cache.h"

PYBIND11_MODULE(_cpu, m) {
  m.doc() = "The C++ CPU kernels. Importing registers them with torch.";
  m.def("build_info", [] {
    pybind11::dict info = hnn::build_info();
    info["instruction_set"] = hnn::kernels().name;
    return info;
  });
  m.def(
      "instruction_sets",
      [] {
        std::vector<std::string> names;
        for (const hnn::Kernels* one : hnn::usable_kernels()) names.emplace_back(one->name);
        return names;
      },
      "The instruction sets that this processor runs, the best first.");
  m.def("use_instruction_set", &hnn::choose_kernels, pybind11::arg("name"),
        "Lets the calls from now on take another instruction set, to measure it beside others.");
  m.def("large_bytes", &hnn::large_bytes, pybind11::arg("cpus") = "/sys/devices/system/cpu",
        "The bytes from which on a train is written past the cache, where `cpus` describes the processors.");
  hnn::define_direct(m);
  hnn::define_defined(m);
}
