// The body of one instruction set: the vector type, the neuron over it, and the kernels. The including file has set
// HNN_NAMESPACE, HNN_VECTOR_BYTES, where there are any HNN_INTRINSIC(name), HNN_FMA, HNN_ROUND(x) and HNN_SCALE(x, n),
// and the target, and included the standard headers before setting it: code of theirs compiled for a newer processor
// could otherwise be the copy that the linker keeps for all.
#define HNN_INLINE inline __attribute__((always_inline))
#ifdef HNN_STREAM
#define HNN_STREAM_FENCE _mm_sfence
#else
#define HNN_STREAM_FENCE() ((void)0)
#endif

// In this order: each is written over the ones before.
// clang-format off
#include "vector.h"
#include "rows.h"
#include "../neuron.h"
#include "../noise.h"
#include "stages.h"
#include "forward.h"
#include "backward.h"
#include "choose.h"
#include "coding.h"
// clang-format on
