// The body of one instruction set: the vector type, the neuron over it, and the kernels. The including file has set
// HNN_NAMESPACE, HNN_VECTOR_BYTES and the target, and included the standard headers before setting it: code of theirs
// compiled for a newer processor could otherwise be the copy that the linker keeps for all.
#define HNN_INLINE inline __attribute__((always_inline))
#ifdef HNN_STREAM
#define HNN_STREAM_FENCE _mm_sfence
#else
#define HNN_STREAM_FENCE() ((void)0)
#endif

#include "vector.h"
// The neuron is written over the vector type above.
#include "../neuron.h"
#include "tiles.h"
