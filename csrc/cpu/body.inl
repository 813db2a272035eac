// The CPU kernels of one instruction set. kernels_*.cpp includes this file last, and this file includes neuron.h,
// noise.h and the other .inl files into the namespace HNN_NAMESPACE. None of them compiles alone: each uses those
// before it. To read one in an editor, open kernels_default.cpp first.
//
// Two files are compiled of it, so that two cores share the work: with HNN_FLOAT64_ALONE (kernels_*_float64.cpp) the
// layer in float64, without it all else.
//
// The including file has set HNN_NAMESPACE and the target, and has included isa.h. It has included the standard headers
// before it set the target: otherwise the linker could keep their functions compiled for a newer processor as the one
// copy for all.
#ifndef HNN_NAMESPACE
#error "a part of csrc/cpu/kernels_*.cpp; define HNN_NAMESPACE and include isa.h as kernels_default.cpp does"
#endif

// clang-format off
#include "vector.inl"    // the vector type and its functions
#include "pack.inl"      // several vectors in step
#include "rows.inl"      // a tile's rows in memory
#include "../neuron.h"   // one step of the layer, and of its adjoint
#include "../noise.h"    // the noise of the codings
#include "segments.inl"  // blocks of steps, and the way back through a call
#include "stages.inl"    // the steps of a block, stage by stage
#include "forward.inl"   // a tile through all steps
#include "backward.inl"  // and back
#include "choose.inl"    // from run-time options to the stages
#ifndef HNN_FLOAT64_ALONE
#include "coding.inl"    // the codings
#include "bits.inl"      // spike trains as bits
#include "products.inl"  // products with spikes
#endif
// clang-format on
