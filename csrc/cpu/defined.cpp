// Calls of the kernels of a defined neuron, which were compiled apart and are known by their address. The arguments
// were checked in Python (hnn_kernels/_define/).
#include <memory>
#include <optional>
#include <stdexcept>
#include <vector>

#include "../direct.h"
#include "../python_view.h"
#include "defined.h"
#include "describe.h"
#include "reduce.h"
#include "tiles.h"

namespace py = pybind11;

namespace hnn {
namespace {

using MaybeView = std::optional<View>;
using Views = std::vector<MaybeView>;

const DefinedKernels& kernels_at(int64_t address) {
  const auto& found = *reinterpret_cast<const DefinedKernels*>(address);
  if (found.call_bytes != sizeof(DefinedCall)) throw std::runtime_error("a neuron was compiled for other kernels");
  return found;
}

std::vector<PerNeuron> operands(const Numbering& n, const Views& tensors, const std::vector<double>& values = {}) {
  std::vector<PerNeuron> result;
  for (size_t i = 0; i < tensors.size(); ++i)
    result.push_back(per_neuron(n, tensors[i], i < values.size() ? values[i] : 0));
  return result;
}

// The part of a call that forward and backward share.
struct Described {
  const DefinedKernels& kernels;
  Numbering n;
  std::vector<PerNeuron> coefficients, states;
  DefinedCall call{};

  Described(int64_t address, const View& x, bool constant, int64_t steps, const Views& coefficient_tensors,
            const std::vector<double>& values, const Views& state_tensors, const MaybeView& checkpoints, int64_t window)
      : kernels(kernels_at(address)),
        n(number_neurons(x, constant ? 0 : 1)),
        coefficients(operands(n, coefficient_tensors, values)),
        states(operands(n, state_tensors)) {
    call.steps = steps;
    call.neurons = n.neurons;
    call.x = train(n, x, constant);
    call.coefficients = coefficients.data();
    call.states = states.data();
    call.checkpoints = checkpoints ? checkpoints->data_ptr() : nullptr;
    call.window = std::max<int64_t>(1, window > 0 ? window : steps);
  }
  Described(const Described&) = delete;

  void run(bool backward) {
    const py::gil_scoped_release release;
    const int64_t bytes = kernels.scratch_bytes(call, backward);
    const auto function = backward ? kernels.backward : kernels.forward;
    share_tiles(call.neurons, call.steps, bytes,
                [&](void* scratch, int64_t begin, int64_t end) { function(call, scratch, begin, end); });
  }
};

void forward(int64_t address, const View& x, bool constant, int64_t steps, const Views& coefficients,
             const std::vector<double>& values, const Views& states, const MaybeView& checkpoints, int64_t window,
             const std::vector<View>& outputs, const Views& last_states) {
  Described d(address, x, constant, steps, coefficients, values, states, checkpoints, window);
  std::vector<Train> trains;
  for (const View& output : outputs) trains.push_back(written(d.n, output, false));
  const std::vector<PerNeuron> last = operands(d.n, last_states);
  d.call.outputs = trains.data();
  d.call.last_states = last.data();
  d.run(false);
}

void backward(int64_t address, const View& x, bool constant, int64_t steps, const Views& coefficients,
              const std::vector<double>& values, const Views& states, const MaybeView& checkpoints, int64_t window,
              const Views& grad_outputs, const Views& grad_last_states, const MaybeView& grad_x,
              const Views& grad_coefficients, const Views& grad_states) {
  Described d(address, x, constant, steps, coefficients, values, states, checkpoints, window);
  std::vector<Train> trains;
  for (const MaybeView& grad : grad_outputs) trains.push_back(grad ? train(d.n, *grad, false) : Train());
  const std::vector<PerNeuron> last = operands(d.n, grad_last_states), initial = operands(d.n, grad_states);
  const bool is_double = x.scalar_type() == ScalarType::Double;
  std::vector<std::unique_ptr<char[]>> sums;
  std::vector<PerNeuron> partials;
  for (const MaybeView& grad : grad_coefficients) {
    sums.emplace_back(grad ? new char[d.n.neurons * (is_double ? 8 : 4)] : nullptr);
    partials.push_back(PerNeuron::dense(sums.back().get(), d.n.neurons));
    d.call.learns |= grad.has_value();
  }
  if (grad_x) d.call.grad_x = written(d.n, *grad_x, constant);
  d.call.grad_outputs = trains.data();
  d.call.grad_last_states = last.data();
  d.call.grad_states = initial.data();
  d.call.partials = partials.data();
  d.run(true);
  for (size_t i = 0; i < sums.size(); ++i) {
    if (!sums[i]) continue;
    const View& grad = *grad_coefficients[i];
    reduce(sums[i].get(), is_double, d.n.neurons, lay_out(d.n, grad, 0), grad.data_ptr(), grad.numel());
  }
}

}  // namespace
}  // namespace hnn

void hnn::define_defined(py::module_& m) {
  m.def("defined_forward", &forward);
  m.def("defined_backward", &backward);
}
