// Parts of a module's Python face: the direct way of a call, without torch's dispatcher (direct.inl), and on the CPU
// the calls of defined neurons (cpu/defined.cpp).
#pragma once

#include <initializer_list>

#include "python.h"

#define HNN_TEXT_OF(name) #name
#define HNN_NAME_OF(name) HNN_TEXT_OF(name)

namespace hnn {

// They add their functions to a module.
void define_direct(PyObject* module);
void define_defined(PyObject* module);

// Makes the module, of which a library has one. Its table of functions ends with an empty entry; `defines` are the
// parts above.
inline PyObject* make_module(const char* name, const char* text, PyMethodDef* functions,
                             std::initializer_list<void (*)(PyObject*)> defines) {
  static PyModuleDef definition = {};
  definition.m_name = name;
  definition.m_doc = text;
  definition.m_size = -1;
  definition.m_methods = functions;
  return python::guarded([&] {
    python::Object module = python::Object::take(PyModule_Create(&definition));
    for (const auto define : defines) define(module.ptr());
    return module;
  });
}

}  // namespace hnn
