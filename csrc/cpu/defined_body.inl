// The kernels of a defined neuron, without the neuron. The source that hnn_kernels/_define/cpp.py writes includes this
// file after isa.h, in the place that body.inl has for the built-in layer.
#ifndef HNN_NAMESPACE
#error "a part of the kernels of defined neurons: see hnn_kernels/_define/cpp.py"
#endif

// clang-format off
#include "vector.inl"    // the vector type and its functions
#include "rows.inl"      // a tile's rows in memory
#include "functions.inl" // more functions of vectors
#include "../formula.h"  // what formulas need beside them
#include "segments.inl"  // blocks of steps, and the way back through a call
#include "defined.inl"   // a tile through all steps, and back
// clang-format on
