// The operators hnn::lif_forward_cpu and hnn::lif_backward_cpu. The arguments were checked in Python.
#include "../operators.h"
#include "host.h"

namespace hnn {
namespace {

Outputs layer_forward(const Arguments& a) {
  Outputs result = allocate_outputs(a);
  run_forward(a, result);
  return result;
}

Gradients layer_backward(const Incoming& incoming, const Arguments& a, int64_t needs) {
  Gradients g = allocate_gradients(a, needs);
  run_backward(incoming, a, g);
  return g;
}

}  // namespace
}  // namespace hnn

STABLE_TORCH_LIBRARY_IMPL(hnn, CPU, m) {
  m.impl("lif_forward_cpu", TORCH_BOX(&hnn::forward_operator<hnn::layer_forward>));
  m.impl("lif_backward_cpu", TORCH_BOX(&hnn::backward_operator<hnn::layer_backward>));
}
