// Graphs of the device that is not there: a list of work that is done again.
#pragma once

#include <cuda.h>

#include <cstdio>
#include <cstdlib>

#include "fake.h"

namespace fake {

using Graph = std::vector<std::function<int()>>;

// The graph that takes what is enqueued now; null while nothing is captured.
Graph*& captured();
inline bool capturing() { return captured() != nullptr; }
int replay(const Graph& graph);

}  // namespace fake
