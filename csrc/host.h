// A host's functions, which each module has: they describe a call and run its kernel. An operator and the direct way of
// a call (direct.inl) both end here.
#pragma once

#include "operators.h"

namespace hnn {

// On a GPU they launch on the current stream of the current's device, and wait for nothing.
void run_forward(const Arguments& a, const Outputs& result);
void run_backward(const Incoming& incoming, const Arguments& a, const Gradients& gradients);

}  // namespace hnn
