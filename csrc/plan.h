// What the plans of direct calls are made of: results that are allocated as those of an earlier call, and tensors at
// their places in a call (direct.inl, cpu/defined.cpp).
#pragma once

#include <optional>
#include <stdexcept>
#include <utility>
#include <vector>

#include "dlpack.h"
#include "python_view.h"

namespace hnn {

// What is asked of torch's Python. It lives as long as the process.
struct Torch {
  python::Object tensor, parameter, empty, empty_like, is_neg;
  const python::Object requires_grad = python::text("requires_grad");
  const dlpack::Exchange* exchange;

  Torch() {
    const python::Object torch = python::Object::take(PyImport_ImportModule("torch"));
    tensor = torch.attribute("Tensor");
    parameter = torch.attribute("nn").attribute("Parameter");
    empty = torch.attribute("empty_strided");
    empty_like = torch.attribute("empty_like");
    is_neg = tensor.attribute("is_neg");
    const python::Object capsule = tensor.attribute("__dlpack_c_exchange_api__");
    void* found = PyCapsule_GetPointer(capsule.ptr(), dlpack::kCapsule);
    if (!found) throw python::Raised();
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
  Result(const python::Object& model, int like) : like_(like), layout_(2), kind_(python::Object::take(PyDict_New())) {
    layout_.set(0, model.attribute("shape"));
    layout_.set(1, python::Object::take(PyObject_CallMethod(model.ptr(), "stride", nullptr)));
    for (const char* name : {"dtype", "device"}) {
      if (PyDict_SetItemString(kind_.ptr(), name, model.attribute(name).ptr())) throw python::Raised();
    }
  }

  // Allocates the tensor, and lets `to` be a view of it.
  python::Object make(const python::Tuple& tensors, View& to) const {
    const Torch& torch = torch_python();
    python::Object result =
        python::Object::take(like_ < 0 ? PyObject_Call(torch.empty.ptr(), layout_.ptr(), kind_.ptr())
                                       : PyObject_CallFunctionObjArgs(torch.empty_like.ptr(), tensors[like_], nullptr));
    if (!view(result.ptr(), to)) throw std::runtime_error("torch made a tensor without an address");
    return result;
  }

 private:
  int like_;
  python::Tuple layout_;  // sizes and strides
  python::Object kind_;   // dtype and device, by name
};

using Model = std::optional<std::pair<python::Object, int>>;  // null where the call has no such result

inline std::vector<std::optional<Result>> results_of(const std::vector<Model>& models) {
  std::vector<std::optional<Result>> found;
  for (const Model& model : models) {
    found.push_back(model ? std::optional<Result>(std::in_place, model->first, model->second) : std::nullopt);
  }
  return found;
}

// The places of tensors among those of a call; negative where one is absent.
using Places = std::vector<int>;

inline void check(const Places& places, const python::Tuple& tensors) {
  for (int place : places) {
    if (place >= static_cast<int>(tensors.size())) throw std::out_of_range("a place behind the tensors of the call");
  }
}

// Lets `to` be a view of the tensor at a place.
inline void put(const python::Tuple& tensors, int place, View& to) {
  if (!view(tensors[place], to)) throw std::runtime_error("a tensor has no address");
}
inline void put(const python::Tuple& tensors, int place, std::optional<View>& to) {
  if (place >= 0) put(tensors, place, to.emplace());
}

// `count` times None.
inline python::Tuple nothing(size_t count) {
  python::Tuple made(count);
  for (size_t i = 0; i < count; ++i) made.set(i, python::Object::share(Py_None));
  return made;
}

}  // namespace hnn
