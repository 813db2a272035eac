// The CPU kernels of one instruction set. kernels_*.cpp includes this file last, and this file includes neuron.h,
// noise.h and the other .inl files into the namespace HNN_NAMESPACE. None of them compiles alone: each uses those
// before it. To read one in an editor, open kernels_default.cpp first.
//
// The including file has set HNN_NAMESPACE, HNN_VECTOR_BYTES and the target, and, where the instruction set has them,
// HNN_INTRINSIC(name), HNN_SIGNS(x), HNN_FMA, HNN_ROUND(x) and HNN_SCALE(x, n). It has included the standard headers
// before it set the target: otherwise the linker could keep their functions compiled for a newer processor as the one
// copy for all.
#ifndef HNN_NAMESPACE
#error "a part of csrc/cpu/kernels_*.cpp; define HNN_NAMESPACE and HNN_VECTOR_BYTES as kernels_default.cpp does"
#endif

#define HNN_INLINE inline __attribute__((always_inline))
#ifdef HNN_STREAM
#define HNN_STREAM_FENCE _mm_sfence
#else
#define HNN_STREAM_FENCE() ((void)0)
#endif

// clang-format off
#include "vector.inl"    // the vector type and its functions
#include "pack.inl"      // several vectors in step
#include "rows.inl"      // a tile's rows in memory
#include "../neuron.h"   // one step of the layer, and of its adjoint
#include "../noise.h"    // the noise of the codings
#include "stages.inl"    // the steps of a block, stage by stage
#include "forward.inl"   // a tile through all steps
#include "backward.inl"  // and back
#include "choose.inl"    // from run-time options to the stages
#include "coding.inl"    // the codings
#include "bits.inl"      // spike trains as bits
#include "products.inl"  // products with spikes
// clang-format on
