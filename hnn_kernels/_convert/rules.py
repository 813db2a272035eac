"""The form of a library's table: by class, what a call of it becomes, and the reasons why not."""

import sys
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import _checks
from .._compiler import find_compiler
from ..state import state_dtype

Arguments = Any

# The mapping of a class that gets one step in a call.
EACH_STEP = "a call for each step, where hnn_kernels.unroll has one for all"
ONE_STEP = f"a neuron by definition; {EACH_STEP}"


class Rule(NamedTuple):
    """The conversion of the modules of one class.

    Attributes:
        mapping: what computes them then, in words.
        arguments: gives what a call needs of a module, or a text with the reason why this module has to stay. It is
            asked again at each call, so that what the user changes has its effect.
        methods: the functions that take the place of the class's methods, by name.
        compiled: True if its kernels are compiled at the first call, which takes a C++ compiler on a CPU.
        inner: the attribute that holds a module which is computed with it, and has no entry of its own in a report.
        states: the attributes that hold the states between two steps, where the class also gets one step in a call.
        values: gives the reason why a module has to stay by the values of its tensors; empty where it has not. It is
            asked at the conversion alone, since each look at a value is a wait for a GPU.
        aside: gives what a report adds to the mapping for a module; empty for nothing.
        single: gives what a call of one step needs, where that is something else; as ``arguments``.
    """

    mapping: str
    arguments: Callable[[Any], Arguments | str]
    methods: Mapping[str, Callable]
    compiled: bool = False
    inner: str = ""
    states: tuple[str, ...] = ()
    values: Callable[[Any], str] = lambda module: ""
    aside: Callable[[Any], str] = lambda module: ""
    single: Callable[[Any], Arguments | str] | None = None


class Library(NamedTuple):
    """A library: which classes are converted and which are known not to be.

    Attributes:
        package: its name, that of its top module and of its distribution.
        versions: how the versions begin that the table was made for.
        rules: by the full name of a class.
        reasons: by the full name of a class without a rule, why it stays.
        neurons: full names of classes, and of packages with a dot at the end. What is one of these, or a subclass, is a
            neuron, and reported also where it has no rule.
    """

    package: str
    versions: tuple[str, ...]
    rules: Mapping[str, Rule]
    reasons: Mapping[str, str]
    neurons: tuple[str, ...]

    def version(self) -> str:
        """Return the version that is installed; empty where it has none."""
        try:
            return metadata.version(self.package)
        except metadata.PackageNotFoundError:
            return str(getattr(sys.modules.get(self.package), "__version__", ""))

    def unknown_version(self) -> str:
        """Return why the table may not fit the installed version; empty where it fits."""
        found = self.version()
        if found.startswith(self.versions):
            return ""
        return f"{self.package} {found or 'of no known version'} was not tried; {', '.join(self.versions)} were"


def constant_in_graphs(function: Callable) -> Callable:
    """Let ``torch.compile`` take what the function returns for a constant.

    It is torch.compiler.assume_constant_result, which imports the whole compiler: two seconds of every program.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


def without_compiler() -> str:
    """Return why a neuron by definition has no kernel here; empty where it has one."""
    return "" if find_compiler() else "its kernel is compiled at the first call, and there is no C++ compiler"


def full_name(kind: type) -> str:
    """Return the name of a class with its module."""
    return f"{kind.__module__}.{kind.__qualname__}"


def unfit_input(x: Any, one: bool = False) -> str:
    """Return why a kernel cannot take ``x``, ``[T, B, *features]``, or ``[B, *features]`` for ``one`` step.

    It is empty where a kernel can.
    """
    if not isinstance(x, Tensor):
        return f"the input is no tensor but of type {type(x).__name__}"
    if x.dtype not in _checks.DTYPES:
        return f"the input is {x.dtype}"
    if x.layout is not torch.strided or x.is_nested:
        return "the input is no dense tensor"
    if x.dim() < 2 - one or x.shape[0] == 0:
        time = "" if one else "time steps, "
        return f"the input has the shape {tuple(x.shape)}, and not {time}a batch and features"
    return ""


def coefficients_of(given: Any, x: Tensor) -> dict[str, Any]:
    """Return the coefficients of a call: tensors in the dtype of the state and on the device of ``x``, and floats."""
    return {
        name: value.to(x.device, state_dtype(x.dtype)) if isinstance(value, Tensor) else float(value)
        for name, value in given.coefficients.items()
    }


def unfit_coefficients(x: Tensor, coefficients: Mapping[str, Any], one: bool = False) -> str:
    """Return which coefficient does not broadcast against the features of ``x``; empty where all do.

    ``x`` has an axis of time before that of the batch, but for ``one`` step.
    """
    features: Any = None
    for name, value in coefficients.items():
        if not isinstance(value, Tensor):
            continue
        shape, features = value.shape, features or x.shape[2 - one :]
        broadcast = all(have in (1, want) for have, want in zip(reversed(shape), reversed(features), strict=False))
        if len(shape) > len(features) or not broadcast:
            return f"{name} has the shape {tuple(shape)}, which does not broadcast against the features {(*features,)}"
    return ""
