// A module's Python face in Python's limited API, so that what is compiled once runs on every Python from 3.11 on. A
// function of C++ becomes one of Python by the types of its parameters, which Value converts.
#pragma once

// Set by setup.py, but for a Python without the interpreter's lock, which has no limited API: Py_LIMITED_API.
#include <Python.h>

#include <cstdint>
#include <limits>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace hnn::python {

// Thrown where an error of Python is set.
struct Raised {};

inline PyObject* checked(PyObject* result) {
  if (!result) throw Raised();
  return result;
}

// An object of Python, of which it owns one reference.
class Object {
 public:
  Object() = default;
  // Takes over the reference that a function of Python returned; throws where it returned none.
  static Object take(PyObject* result) { return Object(checked(result)); }
  static Object share(PyObject* object) { return Object(Py_NewRef(object)); }
  Object(const Object& other) : object_(Py_XNewRef(other.object_)) {}
  Object(Object&& other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
  Object& operator=(Object other) noexcept {
    std::swap(object_, other.object_);
    return *this;
  }
  ~Object() { Py_XDECREF(object_); }

  PyObject* ptr() const { return object_; }
  PyObject* release() { return std::exchange(object_, nullptr); }
  Object attribute(const char* name) const { return take(PyObject_GetAttrString(object_, name)); }

 private:
  explicit Object(PyObject* object) : object_(object) {}
  PyObject* object_ = nullptr;
};

// A tuple.
class Tuple : public Object {
 public:
  explicit Tuple(Object object) : Object(std::move(object)) {}
  explicit Tuple(size_t count) : Object(take(PyTuple_New(static_cast<Py_ssize_t>(count)))) {}
  size_t size() const { return static_cast<size_t>(PyTuple_Size(ptr())); }
  // The tuple keeps what is returned.
  PyObject* operator[](size_t i) const { return checked(PyTuple_GetItem(ptr(), static_cast<Py_ssize_t>(i))); }
  // Of a tuple that nobody else has seen yet.
  void set(size_t i, Object value) {
    if (PyTuple_SetItem(ptr(), static_cast<Py_ssize_t>(i), value.release())) throw Raised();
  }
};

inline Object text(const std::string& from) {
  return Object::take(PyUnicode_FromStringAndSize(from.data(), static_cast<Py_ssize_t>(from.size())));
}

// Others may use the interpreter while this lives.
class Released {
 public:
  Released() : state_(PyEval_SaveThread()) {}
  ~Released() { PyEval_RestoreThread(state_); }
  Released(const Released&) = delete;

 private:
  PyThreadState* const state_;
};

// -- values from Python -----------------------------------------------------------------------------------------------

// Thrown where an argument is not what a parameter takes.
struct Mismatch {
  const char* allowed;
};

template <class T, class = void>
struct Value;

template <class T>
struct Value<T, std::enable_if_t<std::is_integral_v<T>>> {
  static T of(PyObject* v) {
    const long long number = PyLong_AsLongLong(v);
    if ((number == -1 && PyErr_Occurred()) || (number < 0 && std::is_unsigned_v<T>) ||
        static_cast<long long>(static_cast<T>(number)) != number) {
      throw Mismatch{"an integer in its range"};
    }
    return static_cast<T>(number);
  }
};
template <>
struct Value<bool> {
  static bool of(PyObject* v) {
    if (v != Py_True && v != Py_False) throw Mismatch{"a bool"};
    return v == Py_True;
  }
};
template <>
struct Value<double> {
  static double of(PyObject* v) {
    const double number = PyFloat_AsDouble(v);
    if (number == -1 && PyErr_Occurred()) throw Mismatch{"a float"};
    return number;
  }
};
template <>
struct Value<std::string> {
  static std::string of(PyObject* v) {
    Py_ssize_t size = 0;
    const char* const found = PyUnicode_Check(v) ? PyUnicode_AsUTF8AndSize(v, &size) : nullptr;
    if (!found) throw Mismatch{"a text"};
    return std::string(found, static_cast<size_t>(size));
  }
};
template <>
struct Value<Object> {
  static Object of(PyObject* v) { return Object::share(v); }
};
template <>
struct Value<Tuple> {
  static Tuple of(PyObject* v) {
    if (!PyTuple_Check(v)) throw Mismatch{"a tuple"};
    return Tuple(Object::share(v));
  }
};
template <class T>
struct Value<std::optional<T>> {
  static std::optional<T> of(PyObject* v) { return v == Py_None ? std::nullopt : std::optional<T>(Value<T>::of(v)); }
};
template <class A, class B>
struct Value<std::pair<A, B>> {
  static std::pair<A, B> of(PyObject* v) {
    if (!PyTuple_Check(v) || PyTuple_Size(v) != 2) throw Mismatch{"a pair"};
    return {Value<A>::of(PyTuple_GetItem(v, 0)), Value<B>::of(PyTuple_GetItem(v, 1))};
  }
};
template <class T>
struct Value<std::vector<T>> {
  static std::vector<T> of(PyObject* v) {
    if (!PyList_Check(v) && !PyTuple_Check(v)) throw Mismatch{"a list or a tuple"};
    const Py_ssize_t size = PySequence_Size(v);
    std::vector<T> result;
    result.reserve(static_cast<size_t>(size));
    for (Py_ssize_t i = 0; i < size; ++i) result.push_back(Value<T>::of(Object::take(PySequence_GetItem(v, i)).ptr()));
    return result;
  }
};

// -- values for Python ------------------------------------------------------------------------------------------------

using Facts = std::vector<std::pair<std::string, std::string>>;  // a dict

inline Object to_python(Object v) { return v; }
inline Object to_python(int64_t v) { return Object::take(PyLong_FromLongLong(v)); }
inline Object to_python(const std::vector<std::string>& v) {
  Object result = Object::take(PyList_New(0));
  for (const std::string& one : v) {
    if (PyList_Append(result.ptr(), text(one).ptr())) throw Raised();
  }
  return result;
}
inline Object to_python(const Facts& v) {
  Object result = Object::take(PyDict_New());
  for (const auto& [name, value] : v) {
    if (PyDict_SetItemString(result.ptr(), name.c_str(), text(value).ptr())) throw Raised();
  }
  return result;
}

// -- functions --------------------------------------------------------------------------------------------------------

// Calls f, which returns an Object. An error of C++ becomes one of Python.
template <class F>
PyObject* guarded(F f) noexcept {
  try {
    return f().release();
  } catch (const Raised&) {
  } catch (const Mismatch& mismatch) {
    PyErr_Format(PyExc_TypeError, "%s was expected", mismatch.allowed);
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  } catch (const std::out_of_range& error) {
    PyErr_SetString(PyExc_IndexError, error.what());
  } catch (const std::invalid_argument& error) {
    PyErr_SetString(PyExc_ValueError, error.what());
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
  }
  return nullptr;
}

template <class T>
struct IsOptional : std::false_type {};
template <class T>
struct IsOptional<std::optional<T>> : std::true_type {};

// The argument for parameter `i`. An optional one may be left out at the end.
template <class T>
T argument(PyObject* const* given, Py_ssize_t count, size_t i) {
  if constexpr (IsOptional<T>::value) {
    if (static_cast<Py_ssize_t>(i) >= count) return std::nullopt;
  }
  if (static_cast<Py_ssize_t>(i) >= count) {
    PyErr_Format(PyExc_TypeError, "argument %zu is missing", i + 1);
    throw Raised();
  }
  try {
    return Value<T>::of(given[i]);
  } catch (const Mismatch& mismatch) {
    PyErr_Clear();
    PyErr_Format(PyExc_TypeError, "argument %zu must be %s; got %R", i + 1, mismatch.allowed, given[i]);
    throw Raised();
  }
}

template <class... Args, class F, size_t... i>
Object call_with([[maybe_unused]] PyObject* const* given, Py_ssize_t count, F f, std::index_sequence<i...>) {
  if (count > static_cast<Py_ssize_t>(sizeof...(Args))) {
    PyErr_Format(PyExc_TypeError, "at most %zu arguments are taken; got %zd", sizeof...(Args), count);
    throw Raised();
  }
  // Braces have an order.
  std::tuple<std::decay_t<Args>...> values{argument<std::decay_t<Args>>(given, count, i)...};
  if constexpr (std::is_void_v<decltype(f(std::get<i>(std::move(values))...))>) {
    f(std::get<i>(std::move(values))...);
    return Object::share(Py_None);
  } else {
    return to_python(f(std::get<i>(std::move(values))...));
  }
}

using FastFunction = PyObject* (*)(PyObject*, PyObject* const*, Py_ssize_t);

// A function for the table of a module or of method_of.
inline PyMethodDef entry(const char* name, FastFunction f, const char* text = nullptr) {
  return {name, reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(f)), METH_FASTCALL, text};
}

template <auto kFunction>
struct Function;
template <class R, class... Args, R (*kFunction)(Args...)>
struct Function<kFunction> {
  static PyObject* call(PyObject*, PyObject* const* given, Py_ssize_t count) {
    return guarded([&] { return call_with<Args...>(given, count, kFunction, std::index_sequence_for<Args...>()); });
  }
};
template <auto kFunction>
PyMethodDef function(const char* name, const char* text = nullptr) {
  return entry(name, &Function<kFunction>::call, text);
}

constexpr char kHeld[] = "hnn_kernels.held";

template <auto kMethod>
struct Method;
template <class T, class R, class... Args, R (T::*kMethod)(Args...) const>
struct Method<kMethod> {
  const void* held;

  R operator()(Args... values) const { return (static_cast<const T*>(held)->*kMethod)(std::forward<Args>(values)...); }

  static PyObject* call(PyObject* self, PyObject* const* given, Py_ssize_t count) {
    return guarded([&] {
      const Method method{PyCapsule_GetPointer(self, kHeld)};
      if (!method.held) throw Raised();
      return call_with<Args...>(given, count, method, std::index_sequence_for<Args...>());
    });
  }
  static void forget(PyObject* self) { delete static_cast<T*>(PyCapsule_GetPointer(self, kHeld)); }
};

// A function of Python that holds a C++ object, and is one of its methods.
template <auto kMethod, class T>
Object method_of(std::unique_ptr<T> held, const char* name) {
  static PyMethodDef definition = entry(name, &Method<kMethod>::call);
  const Object self = Object::take(PyCapsule_New(held.get(), kHeld, &Method<kMethod>::forget));
  held.release();
  return Object::take(PyCFunction_NewEx(&definition, self.ptr(), nullptr));
}

}  // namespace hnn::python
