"""Write the list of :mod:`hnn_kernels._layer` as the C++ header ``csrc/layer.h``.

The lists become macros that apply another macro to each entry. So C++ code that goes over all coefficients, states or
filters names none of them.
"""

from collections.abc import Iterable
from types import ModuleType, SimpleNamespace

MARK = "Generated from hnn_kernels/_layer.py by `make generate`."
# The C++ types of the operators' arguments, by those of a schema.
_TYPES = {
    "Tensor": "Tensor", "Tensor?": "Optional", "SymInt?": "std::optional<int64_t>", "float": "double",
    "float[]": "std::vector<double>", "int": "int64_t", "bool": "bool",
}  # fmt: skip
_OPTIONS = {"int": "int", "float": "double", "bool": "bool"}


def _constant(*words: str) -> str:
    return "k" + "".join(words).title().replace("_", "")


def _camel(name: str) -> str:
    return _constant(name)[1:]


def _enum(name: str, constants: Iterable[str], count: str) -> str:
    return f"enum {name} {{ {', '.join((*constants, count))} }};  // the last counts them"


def _macro(name: str, parameters: str, entries: Iterable[str], separator: str = " ") -> list[str]:
    entries = list(entries)
    ends = [separator.rstrip() + " \\" if entry is not entries[-1] else "" for entry in entries]
    return [f"#define {name}{parameters} \\", *(f"  {entry}{end}" for entry, end in zip(entries, ends, strict=True))]


def cpp(layer: SimpleNamespace | ModuleType, surrogates: Iterable[str]) -> str:
    """Return the text of ``csrc/layer.h`` from the names of :mod:`hnn_kernels._layer` and the surrogates."""
    plain = [s for s in layer.SETTINGS if not s.name.endswith(("_value", "_values"))]
    arguments = [("Tensor" if name == layer.TENSORS[0] else "Optional", name) for name in layer.TENSORS]
    arguments += [(_TYPES[setting.type], setting.name) for setting in layer.SETTINGS]
    incoming = [("Optional", name) for name in layer.INCOMING]
    lines = [
        f"// {MARK}",
        "// The parts of a layer, for every backend: the numbers of its options, its tensors and its settings.",
        "#pragma once",
        "",
        "#include <cstdint>",
        "",
        "// The list that a module was built for: hnn_kernels/_extensions.py refuses a module of another one.",
        f'#define HNN_LAYER "{layer.digest(surrogates)}"',
        "",
        "namespace hnn {",
        "",
        "// Inline, so that the kernels, which have namespaces of their own, see it too.",
        "inline namespace options {",
        "",
        "// The ways to reset. kNoMembrane is a layer without a membrane: the output of its synapse goes straight out.",
        _enum("Reset", (f"kNoMembrane = {layer.NO_MEMBRANE}", *map(_constant, layer.RESETS)), "kResets"),
        _enum("ResetGrad", map(_constant, layer.RESET_GRADS), "kResetGrads"),
        _enum("Readout", (_constant("read_", name) for name in layer.READOUTS), "kReadouts"),
        _enum("Potential", (_constant("potential_", name) for name in layer.POTENTIALS), "kPotentials"),
        "",
        "// Values of state that the membrane has, first in a checkpoint.",
        f"constexpr int kStates = {len(layer.MEMBRANE_STATES)};",
        "",
        "// The options of a time step. The defaults are the usual layer's: some kernels have them as constants.",
        "struct Options {",
        *(f"  {_OPTIONS[o.type]} {o.name} = {repr(o.default).lower()};" for o in layer.OPTIONS),
        "",
        f"  bool usual() const {{ return {' && '.join(f'{o.name} == Options().{o.name}' for o in layer.OPTIONS)}; }}",
        "};",
        "",
        "}  // namespace options",
        "",
        "// Indices of the gradients, and the bits of `needs`.",
        _enum("Gradient", map(_constant, layer.TENSORS), "kGradients"),
        "",
        "}  // namespace hnn",
        "",
        "// X(name, Name) for each of the membrane's coefficients and of its states, and for each filter: k<Name> is "
        "the",
        "// gradient of a coefficient or a state.",
        *_macro("HNN_COEFFICIENTS", "(X)", (f"X({n}, {_camel(n)})" for n in layer.COEFFICIENTS)),
        *_macro("HNN_STATES", "(X)", (f"X({n}, {_camel(n)})" for n in layer.MEMBRANE_STATES)),
        "// The states after the first one. The first one decays into the membrane potential.",
        *_macro("HNN_LATER_STATES", "(X)", (f"X({n}, {_camel(n)})" for n in layer.MEMBRANE_STATES[1:])),
        *_macro("HNN_FILTERS", "(X)", (f"X({n}, {_camel(n)})" for n in layer.FILTERS)),
        "// X(type, name) for each setting, except those that stand in for a tensor.",
        *_macro("HNN_SETTINGS", "(X)", (f"X({_TYPES[s.type]}, {s.name})" for s in plain)),
        "",
        "// X(type, name) for each of Options.",
        *_macro("HNN_OPTIONS", "(X)", (f"X({_OPTIONS[o.type]}, {o.name})" for o in layer.OPTIONS)),
        "",
        "// The arguments that the operators share, as parameters and by name.",
        *_macro("HNN_LAYER_PARAMETERS", "", (f"{kind} {name}" for kind, name in arguments), ", "),
        *_macro("HNN_LAYER_ARGUMENTS", "", (name for _, name in arguments), ", "),
        "// The arguments of backward that stand before those.",
        *_macro("HNN_INCOMING_PARAMETERS", "", (f"{kind} {name}" for kind, name in incoming), ", "),
        *_macro("HNN_INCOMING_ARGUMENTS", "", (name for _, name in incoming), ", "),
        "",
    ]
    return "\n".join(lines)
