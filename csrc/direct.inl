// The direct way of a call, without torch's dispatcher: hnn_kernels/_direct.py says when it is taken. Describer turns
// the arguments of a call into a key, and a Plan holds everything of a call that its key determines: all but the
// addresses of its tensors. A call then costs one allocation per result and the kernel.
//
// The arguments of a plan are those of the operators (layer.h), and the host's functions are theirs (host.h). Each
// module compiles this file (cpu/direct.cpp, cuda/direct.cpp), and has classes of its own.
#include "direct.h"

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "host.h"
#include "plan.h"

namespace hnn {

bool view(PyObject* tensor, View& result) {
  dlpack::Tensor told{};
  if (torch_python().exchange->describe(tensor, &told)) {
    PyErr_Clear();
    return false;
  }
  return result.take(told);
}

namespace {

// -- the key of a call -------------------------------------------------------------------------------------------------

// A call's key tells apart all calls that are checked or computed in different ways: it has the type and the bits of
// every plain value, and the dtype, the device, the layout and requires_grad of every tensor.
class Describer {
 public:
  // `tuples` are the types of tuples that are known beside tuple itself.
  explicit Describer(std::vector<python::Object> tuples) : tuples_(std::move(tuples)) { torch_python(); }

  // (key, tensors, one of them requires a gradient), or None where a value is of a type that is not known here.
  python::Object describe(const python::Tuple& args, const python::Object& kwargs, bool grad_enabled) const {
    Found found;
    found.key.reserve(512);
    bool known = value(args.ptr(), found);
    PyObject *name, *given;
    for (Py_ssize_t at = 0; known && PyDict_Next(kwargs.ptr(), &at, &name, &given);) {
      known = value(name, found) && value(given, found);
    }
    if (!known) return python::Object::share(Py_None);
    const bool wanted = grad_enabled && found.requires_grad;
    found.key += wanted ? 'g' : 'n';
    python::Tuple tensors(found.tensors.size()), result(3);
    for (size_t i = 0; i < found.tensors.size(); ++i) tensors.set(i, python::Object::share(found.tensors[i]));
    const auto size = static_cast<Py_ssize_t>(found.key.size());
    result.set(0, python::Object::take(PyBytes_FromStringAndSize(found.key.data(), size)));
    result.set(1, std::move(tensors));
    result.set(2, python::Object::share(wanted ? Py_True : Py_False));
    return result;
  }

 private:
  struct Found {
    std::string key;
    std::vector<PyObject*> tensors;  // which the arguments keep
    bool requires_grad = false;

    template <class V>
    void add(char type, const V& bits) {
      key += type;
      key.append(reinterpret_cast<const char*>(&bits), sizeof bits);
    }
  };

  static constexpr int kDeepest = 8;  // a list may hold itself

  bool value(PyObject* v, Found& found, int depth = 0) const {
    if (v == Py_None) return found.key += 'N', true;
    if (v == Py_True) return found.key += 'T', true;
    if (v == Py_False) return found.key += 'F', true;
    if (PyFloat_CheckExact(v)) return found.add('f', PyFloat_AsDouble(v)), true;
    if (PyLong_CheckExact(v)) {
      int overflow = 0;
      const long long number = PyLong_AsLongLongAndOverflow(v, &overflow);
      return !overflow && (found.add('i', number), true);
    }
    if (PyUnicode_CheckExact(v)) {
      Py_ssize_t size = 0;
      const char* text = PyUnicode_AsUTF8AndSize(v, &size);
      if (!text) return PyErr_Clear(), false;  // a lone surrogate
      found.add('s', size);
      found.key.append(text, size);
      return true;
    }
    if (depth > kDeepest) return false;
    if (PyList_CheckExact(v)) {
      const Py_ssize_t size = PyList_Size(v);
      found.add('l', size);
      for (Py_ssize_t i = 0; i < size; ++i) {
        if (!value(PyList_GetItem(v, i), found, depth + 1)) return false;
      }
      return true;
    }
    if (PyTuple_Check(v)) return is_known(Py_TYPE(v), found) && items(v, found, depth + 1);
    return tensor(v, found);
  }

  bool is_known(PyTypeObject* type, Found& found) const {
    if (type == &PyTuple_Type) return found.key += 't', true;
    for (size_t i = 0; i < tuples_.size(); ++i) {
      if (reinterpret_cast<PyObject*>(type) == tuples_[i].ptr()) return found.add('k', i), true;
    }
    return false;
  }
  bool items(PyObject* v, Found& found, int depth) const {
    const Py_ssize_t size = PyTuple_Size(v);
    found.add('(', size);
    for (Py_ssize_t i = 0; i < size; ++i) {
      if (!value(PyTuple_GetItem(v, i), found, depth)) return false;
    }
    return true;
  }

  bool tensor(PyObject* v, Found& found) const {
    const Torch& torch = torch_python();
    PyObject* const type = reinterpret_cast<PyObject*>(Py_TYPE(v));
    if (type != torch.tensor.ptr() && type != torch.parameter.ptr()) return false;
    // A tensor that is none but in name (of a transform, sparse, nested) has no address. One that is the negative of
    // its memory has.
    View seen;
    if (!view(v, seen) || !is(PyObject_CallFunctionObjArgs(torch.is_neg.ptr(), v, nullptr), Py_False)) return false;
    const bool requires_grad = is(PyObject_GetAttr(v, torch.requires_grad.ptr()), Py_True);
    found.requires_grad |= requires_grad;
    found.add(requires_grad ? 'G' : 'D', seen.scalar_type());
    // A GPU's kernels may load several values at once where the address allows it.
    if (seen.is_cuda()) found.add(aligned(seen) ? 'C' : 'c', seen.get_device_index());
    const auto sizes = seen.sizes(), strides = seen.strides();
    found.add('(', sizes.size());
    for (size_t i = 0; i < sizes.size(); ++i) {
      const int64_t both[] = {sizes[i], strides[i]};
      found.add(',', both);
    }
    found.tensors.push_back(v);
    return true;
  }

  static bool aligned(const View& seen) { return reinterpret_cast<uintptr_t>(seen.data_ptr()) % 16 == 0; }
  // Tells if a call returned this object.
  static bool is(PyObject* result, PyObject* object) { return python::Object::take(result).ptr() == object; }

  const std::vector<python::Object> tuples_;
};

// -- the plan of a call ------------------------------------------------------------------------------------------------

class Plan {
 protected:
  Plan(Arguments layer, Places places) : layer_(std::move(layer)), places_(std::move(places)) {}

  // The arguments of a call. They are a copy, because threads share the plan.
  Arguments arguments(const python::Tuple& tensors) const {
    Arguments result = layer_;
    auto place = places_.begin();
    result.each_tensor([&](auto& tensor) { put(tensors, *place++, tensor); });
    return result;
  }

  const Arguments layer_;
  const Places places_;
};

// `places` are those of the tensors in the order of Gradient, `models` the outputs in the order of Outputs, None
// where the call has none.
class ForwardPlan : public Plan {
 public:
  ForwardPlan(Arguments layer, Places places, const std::vector<Model>& models)
      : Plan(std::move(layer), std::move(places)), results_(results_of(models)) {
    for (const auto& result : results_) count_ += result.has_value();
  }

  // The outputs that the call has.
  python::Object run(const python::Tuple& tensors) const {
    const Arguments a = arguments(tensors);
    Outputs outputs;
    python::Tuple made(count_);
    size_t next = 0, filled = 0;
    each_output(outputs, [&](std::optional<View>& output) {
      if (const auto& result = results_[next++]) {
        made.set(filled++, result->make(tensors, output.emplace()));
      }
    });
    {
      const python::Released released;
      run_forward(a, outputs);
    }
    return made;
  }

 private:
  const std::vector<std::optional<Result>> results_;
  size_t count_ = 0;
};

// `incoming` are the places of the gradients that come in, in the order of Incoming; `models` the gradients of the
// tensors in the order of Gradient, None where one is not needed; `outgoing` their places in what is returned.
class BackwardPlan : public Plan {
 public:
  BackwardPlan(Arguments layer, Places places, Places incoming, const std::vector<Model>& models, Places outgoing,
               size_t count)
      : Plan(std::move(layer), std::move(places)),
        incoming_(std::move(incoming)),
        outgoing_(std::move(outgoing)),
        count_(count),
        results_(results_of(models)) {}

  // The gradients at their places in a tuple of `count`, None elsewhere.
  python::Object run(const python::Tuple& tensors) const {
    const Arguments a = arguments(tensors);
    Incoming incoming;
    auto place = incoming_.begin();
    each_output(incoming, [&](auto& gradient) { put(tensors, *place++, gradient); });
    Gradients gradients;
    python::Tuple made = nothing(count_);
    for (size_t i = 0; i < results_.size(); ++i) {
      if (results_[i]) made.set(outgoing_[i], results_[i]->make(tensors, gradients[i].emplace()));
    }
    {
      const python::Released released;
      run_backward(incoming, a, gradients);
    }
    return made;
  }

 private:
  const Places incoming_, outgoing_;
  const size_t count_;
  const std::vector<std::optional<Result>> results_;
};

// The names that the macros of layer.h use, of a View.
namespace of_views {
using Tensor = View;
using Optional = std::optional<View>;
using Models = std::vector<Model>;

// `tensors` are those of the call.
python::Object plan_forward(const python::Tuple& tensors, Places places, const Models& models, HNN_LAYER_PARAMETERS) {
  check(places, tensors);
  return python::method_of<&ForwardPlan::run>(
      std::make_unique<ForwardPlan>(Arguments(HNN_LAYER_ARGUMENTS), std::move(places), models), "run_forward");
}
python::Object plan_backward(const python::Tuple& tensors, Places places, Places incoming, const Models& models,
                             Places outgoing, size_t count, HNN_LAYER_PARAMETERS) {
  check(places, tensors);
  check(incoming, tensors);
  return python::method_of<&BackwardPlan::run>(
      std::make_unique<BackwardPlan>(Arguments(HNN_LAYER_ARGUMENTS), std::move(places), std::move(incoming), models,
                                     std::move(outgoing), count),
      "run_backward");
}
}  // namespace of_views

python::Object describer(std::vector<python::Object> tuples) {
  return python::method_of<&Describer::describe>(std::make_unique<Describer>(std::move(tuples)), "describe");
}

}  // namespace
}  // namespace hnn

void hnn::define_direct(PyObject* module) {
  static PyMethodDef functions[] = {
      python::function<&describer>(
          "describer", "Make the function that gives a call's key, from the types of tuples that are known."),
      python::function<&of_views::plan_forward>(
          "plan_forward", "Make the function that computes the outputs of a call from its tensors."),
      python::function<&of_views::plan_backward>(
          "plan_backward", "Make the function that computes the gradients of a call from its tensors."),
      {}};
  if (PyModule_AddFunctions(module, functions)) throw python::Raised();
}
