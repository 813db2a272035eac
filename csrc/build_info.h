// The facts that every compiled module tells about its build.
#pragma once

#include <pybind11/pybind11.h>
#include <torch/headeronly/version.h>

#include <string>

#include "layer.h"
#include "sources.h"  // HNN_SOURCES, which setup.py writes for each module

namespace hnn {

inline pybind11::dict build_info() {
  pybind11::dict info;
#ifdef __clang__
  info["compiler"] = "clang " __clang_version__;
#else
  info["compiler"] = "gcc " __VERSION__;
#endif
  info["torch"] = std::to_string(TORCH_VERSION_MAJOR) + "." + std::to_string(TORCH_VERSION_MINOR) + "." +
                  std::to_string(TORCH_VERSION_PATCH);
  info["layer"] = HNN_LAYER;
  info["sources"] = HNN_SOURCES;
  return info;
}

}  // namespace hnn
