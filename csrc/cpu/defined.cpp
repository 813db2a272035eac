// Calls of the kernels of a defined neuron, which were compiled apart and are known by their address. The arguments
// were checked in Python (hnn_kernels/_define/).
#include <memory>
#include <optional>
#include <stdexcept>
#include <vector>

#include "../direct.h"
#include "../plan.h"
#include "arguments.h"
#include "defined.h"
#include "describe.h"
#include "reduce.h"
#include "tiles.h"

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
    const python::Released released;
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

// -- the direct way of a call (hnn_kernels/_direct.py) ----------------------------------------------------------------

// All of a call but the addresses of its tensors, of its results and of its kernels.
class Plan {
 protected:
  // `kernels` returns the address of the neuron's kernels for the instruction set that is chosen; `places` are those of
  // the input, the coefficients and the states.
  Plan(python::Object kernels, const python::Tuple& tensors, Places places, bool constant, int64_t steps,
       std::vector<double> values)
      : kernels_(std::move(kernels)),
        places_(std::move(places)),
        constant_(constant),
        steps_(steps),
        values_(std::move(values)) {
    check(places_, tensors);
    if (places_.size() < 1 + values_.size()) throw std::out_of_range("a coefficient without a place");
  }

  struct Given {
    View x;
    Views coefficients, states;
  };
  Given given(const python::Tuple& tensors) const {
    const size_t learnt = 1 + values_.size();
    Given found;
    put(tensors, places_[0], found.x);
    found.coefficients.resize(values_.size());
    found.states.resize(places_.size() - learnt);
    for (size_t i = 1; i < places_.size(); ++i) {
      put(tensors, places_[i], i < learnt ? found.coefficients[i - 1] : found.states[i - learnt]);
    }
    return found;
  }
  // Python is asked anew where another instruction set was chosen. The interpreter's lock is held.
  int64_t address() const {
    if (chosen_ != &kernels()) {
      address_ = python::Value<int64_t>::of(python::Object::take(PyObject_CallNoArgs(kernels_.ptr())).ptr());
      chosen_ = &kernels();
    }
    return address_;
  }

 private:
  const python::Object kernels_;
  mutable const Kernels* chosen_ = nullptr;
  mutable int64_t address_ = 0;

 protected:
  const Places places_;
  const bool constant_;
  const int64_t steps_;
  const std::vector<double> values_;
};

// `models` are those of the outputs and of the states after the last step, None for a state that is not returned.
class DefinedForwardPlan : Plan {
 public:
  DefinedForwardPlan(python::Object kernels, const python::Tuple& tensors, Places places,
                     const std::vector<Model>& models, size_t outputs, bool constant, int64_t steps,
                     std::vector<double> values)
      : Plan(std::move(kernels), tensors, std::move(places), constant, steps, std::move(values)),
        results_(results_of(models)),
        outputs_(outputs) {
    for (const auto& result : results_) count_ += result.has_value();
    for (size_t i = 0; i < outputs_; ++i) {
      if (!results_.at(i)) throw std::invalid_argument("an output without a model");
    }
  }

  python::Object run(const python::Tuple& tensors) const {
    const Given g = given(tensors);
    std::vector<View> outputs(outputs_);
    Views last(results_.size() - outputs_);
    python::Tuple made(count_);
    size_t filled = 0;
    for (size_t i = 0; i < results_.size(); ++i) {
      if (!results_[i]) continue;
      View& to = i < outputs_ ? outputs[i] : last[i - outputs_].emplace();
      made.set(filled++, results_[i]->make(tensors, to));
    }
    forward(address(), g.x, constant_, steps_, g.coefficients, values_, g.states, std::nullopt, 0, outputs, last);
    return made;
  }

 private:
  const std::vector<std::optional<Result>> results_;
  const size_t outputs_;
  size_t count_ = 0;
};

// `incoming` are the places of the gradients of the outputs and of the states after the last step; `models` the
// gradients of the input, the coefficients and the states, None where one is not needed; `outgoing` their places in
// what is returned, a tuple of `count`.
class DefinedBackwardPlan : Plan {
 public:
  DefinedBackwardPlan(python::Object kernels, const python::Tuple& tensors, Places places, Places incoming,
                      size_t outputs, const std::vector<Model>& models, Places outgoing, size_t count, bool constant,
                      int64_t steps, std::vector<double> values)
      : Plan(std::move(kernels), tensors, std::move(places), constant, steps, std::move(values)),
        incoming_(std::move(incoming)),
        outgoing_(std::move(outgoing)),
        outputs_(outputs),
        count_(count),
        results_(results_of(models)) {
    check(incoming_, tensors);
    if (incoming_.size() < outputs_ || results_.size() != places_.size() || outgoing_.size() != places_.size()) {
      throw std::out_of_range("a gradient without a place");
    }
  }

  python::Object run(const python::Tuple& tensors) const {
    const Given g = given(tensors);
    Views outputs(outputs_), last(incoming_.size() - outputs_);
    for (size_t i = 0; i < incoming_.size(); ++i) {
      put(tensors, incoming_[i], i < outputs_ ? outputs[i] : last[i - outputs_]);
    }
    Views gradients(results_.size());
    python::Tuple made = nothing(count_);
    for (size_t i = 0; i < results_.size(); ++i) {
      if (results_[i]) made.set(outgoing_[i], results_[i]->make(tensors, gradients[i].emplace()));
    }
    const auto learnt = gradients.begin() + 1 + values_.size();
    backward(address(), g.x, constant_, steps_, g.coefficients, values_, g.states, std::nullopt, 0, outputs, last,
             gradients[0], {gradients.begin() + 1, learnt}, {learnt, gradients.end()});
    return made;
  }

 private:
  const Places incoming_, outgoing_;
  const size_t outputs_, count_;
  const std::vector<std::optional<Result>> results_;
};

// What they return makes the results of a call from its tensors.
python::Object plan_forward(python::Object kernels, const python::Tuple& tensors, Places places,
                            const std::vector<Model>& models, size_t outputs, bool constant, int64_t steps,
                            std::vector<double> values) {
  return python::method_of<&DefinedForwardPlan::run>(
      std::make_unique<DefinedForwardPlan>(std::move(kernels), tensors, std::move(places), models, outputs, constant,
                                           steps, std::move(values)),
      "run_forward");
}
python::Object plan_backward(python::Object kernels, const python::Tuple& tensors, Places places, Places incoming,
                             size_t outputs, const std::vector<Model>& models, Places outgoing, size_t count,
                             bool constant, int64_t steps, std::vector<double> values) {
  return python::method_of<&DefinedBackwardPlan::run>(
      std::make_unique<DefinedBackwardPlan>(std::move(kernels), tensors, std::move(places), std::move(incoming),
                                            outputs, models, std::move(outgoing), count, constant, steps,
                                            std::move(values)),
      "run_backward");
}

}  // namespace
}  // namespace hnn

void hnn::define_defined(PyObject* module) {
  static PyMethodDef functions[] = {python::function<&forward>("defined_forward"),
                                    python::function<&backward>("defined_backward"),
                                    python::function<&plan_forward>("plan_defined_forward"),
                                    python::function<&plan_backward>("plan_defined_backward"),
                                    {}};
  if (PyModule_AddFunctions(module, functions)) throw python::Raised();
}
