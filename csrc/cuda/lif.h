// The layer's kernels: their list, and the table of each dtype, which is compiled in a source of its own.
#pragma once

#include <string>
#include <vector>

#include "arguments.h"

namespace hnn::cuda {

struct Kernel {
  std::string name;
  const void* function;
};
std::vector<Kernel> kernels();  // of the layer
// What of a layer has kernels of its own, for Python: its dtype, P and Q + 1 of the synapse and of the axon, and 1 for
// a read-out of the potential, as in "float32 0 0 2 1 0".
std::vector<std::string> own_forms();
std::vector<Kernel> coding_kernels();

// A kernel, and the neurons that each thread takes.
template <class Call>
struct Launchable {
  void (*kernel)(Call);
  int lanes;
};
// The kernels of a form, in a dtype.
struct Kernels {
  const char* form;
  Launchable<ForwardCall> forward;
  Launchable<BackwardCall> backward[2];  // [1]: with gradients of coefficients
  int back;                              // the steps that the history of a filter in registers goes back
};

// The wide forms have several neurons per thread.
enum Form {
  kPlain,
  kNoFilters,
  kSynapse10,
  kSynapse20,
  kAxon10,
  kAxon20,
  kUsualAxon20,
  kAxon21,
  kReadOut,
  kGeneral,
  kAnything,
  kWidePlain,
  kWideUsualAxon20,
  kWideIir20,
  kForms
};

// Tells if a dtype has kernels of every form. float64 is for gradient checks and comparisons, not for speed: it has the
// form for anything alone.
template <class IO>
constexpr bool kHasEveryForm = sizeof(IO) < 8;

// The kernels of a form that the dtype has.
template <class IO>
const Kernels& kernels_of(Form form);

}  // namespace hnn::cuda
