// The facts that every compiled module tells about its build.
#pragma once

#include <torch/headeronly/version.h>

#include <string>

#include "layer.h"
#include "python.h"
#include "sources.h"  // HNN_SOURCES, which setup.py writes for each module

namespace hnn {

inline python::Facts build_info() {
#ifdef __clang__
  const std::string compiler = "clang " __clang_version__;
#else
  const std::string compiler = "gcc " __VERSION__;
#endif
  const std::string torch = std::to_string(TORCH_VERSION_MAJOR) + "." + std::to_string(TORCH_VERSION_MINOR) + "." +
                            std::to_string(TORCH_VERSION_PATCH);
  return {{"compiler", compiler}, {"torch", torch}, {"layer", HNN_LAYER}, {"sources", HNN_SOURCES}};
}

}  // namespace hnn
