// What the plans of direct calls are made of: results that are allocated as those of an earlier call, and tensors at
// their places in a call (direct.inl, cpu/defined.cpp).
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <stdexcept>
#include <utility>
#include <vector>

#include "dlpack.h"
#include "python_view.h"

namespace hnn {

// What is asked of torch's Python. It lives as long as the process.
struct Torch {
  pybind11::object tensor, parameter, empty, empty_like;
  const pybind11::str requires_grad{"requires_grad"}, is_neg{"is_neg"};
  pybind11::tuple empty_names;
  const dlpack::Exchange* exchange;

  Torch() {
    const pybind11::module_ torch = pybind11::module_::import("torch");
    tensor = torch.attr("Tensor");
    parameter = torch.attr("nn").attr("Parameter");
    empty = torch.attr("empty_strided");
    empty_like = torch.attr("empty_like");
    empty_names = pybind11::make_tuple(pybind11::str("dtype"), pybind11::str("device"));
    const pybind11::object capsule = tensor.attr("__dlpack_c_exchange_api__");
    void* found = PyCapsule_GetPointer(capsule.ptr(), dlpack::kCapsule);
    if (!found) throw pybind11::error_already_set();
    for (exchange = static_cast<const dlpack::Exchange*>(found); exchange && exchange->major != dlpack::kMajor;) {
      exchange = exchange->previous;
    }
    if (!exchange || !exchange->describe) throw std::runtime_error("torch has no such version of DLPack's C interface");
  }
};

inline const Torch& torch_python() {
  static const Torch* const found = new Torch;
  return *found;
}

// A tensor that a call writes: how to allocate it as `model` is. That costs a third less where it is as an input is,
// the one at the place `like` of the call's tensors; negative where none is.
class Result {
 public:
  Result(const pybind11::object& model, int like)
      : like_(like),
        size_(pybind11::tuple(model.attr("shape"))),
        stride_(model.attr("stride")()),
        dtype_(model.attr("dtype")),
        device_(model.attr("device")) {}

  // Allocates the tensor, and lets `to` be a view of it.
  pybind11::object make(const pybind11::tuple& tensors, View& to) const {
    const Torch& torch = torch_python();
    PyObject* const given[] = {size_.ptr(), stride_.ptr(), dtype_.ptr(), device_.ptr()};
    PyObject* const made = like_ < 0
                               ? PyObject_Vectorcall(torch.empty.ptr(), given, 2, torch.empty_names.ptr())
                               : PyObject_CallOneArg(torch.empty_like.ptr(), PyTuple_GetItem(tensors.ptr(), like_));
    if (!made) throw pybind11::error_already_set();
    pybind11::object result = pybind11::reinterpret_steal<pybind11::object>(made);
    if (!view(made, to)) throw std::runtime_error("torch made a tensor without an address");
    return result;
  }

 private:
  int like_;
  pybind11::object size_, stride_, dtype_, device_;
};

using Model = std::optional<std::pair<pybind11::object, int>>;  // null where the call has no such result

inline std::vector<std::optional<Result>> results_of(const std::vector<Model>& models) {
  std::vector<std::optional<Result>> found;
  for (const Model& model : models) {
    found.push_back(model ? std::optional<Result>(std::in_place, model->first, model->second) : std::nullopt);
  }
  return found;
}

// The places of tensors among those of a call; negative where one is absent.
using Places = std::vector<int>;

inline void check(const Places& places, const pybind11::tuple& tensors) {
  for (int place : places) {
    if (place >= static_cast<int>(tensors.size())) throw std::out_of_range("a place behind the tensors of the call");
  }
}

// Lets `to` be a view of the tensor at a place.
inline void put(const pybind11::tuple& tensors, int place, View& to) {
  if (!view(PyTuple_GetItem(tensors.ptr(), place), to)) throw std::runtime_error("a tensor has no address");
}
inline void put(const pybind11::tuple& tensors, int place, std::optional<View>& to) {
  if (place >= 0) put(tensors, place, to.emplace());
}

// `count` times None.
inline pybind11::tuple nothing(size_t count) {
  pybind11::tuple made(count);
  for (size_t i = 0; i < count; ++i) PyTuple_SET_ITEM(made.ptr(), i, Py_NewRef(Py_None));
  return made;
}

}  // namespace hnn
