"""Checks of public arguments. Every message names the argument, what was given and what is allowed."""

import os
import sys
import warnings
from collections.abc import Collection, Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def option(name: str, value: Any, allowed: Collection[str]) -> None:
    """Check that ``value`` is one of the names ``allowed``."""
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}; got {value!r}")


def flag(name: str, value: Any) -> bool:
    """Return ``value``, a bool of Python or NumPy, as a bool."""
    if isinstance(value, bool):
        return value
    plain = _plain(value)
    if not isinstance(plain, bool):
        raise TypeError(f"{name} must be True or False; got {value!r}")
    return plain


def _plain(value: Any) -> Any:
    """Return the Python number in a NumPy number, or in an array without axes; anything else as it is."""
    if getattr(value, "ndim", None) == 0 and not isinstance(value, Tensor):
        return value.item()
    return value


def number(name: str, value: Any, *, positive: bool = False) -> float:
    """Return ``value``, a finite real number (with ``positive`` above zero) of Python or NumPy, as a float."""
    kind = "a finite number above 0" if positive else "a finite number"
    if isinstance(value, Tensor):
        raise TypeError(f"{name} must be {kind}, not a tensor: no gradient is taken of it")
    # The plain types come first: a check against the abstract Real takes as long as all other checks of a call.
    if type(value) not in (float, int):
        plain = _plain(value)
        if isinstance(plain, bool) or not isinstance(plain, Real | torch.SymFloat):
            raise TypeError(f"{name} must be {kind}; got {value!r} of type {type(value).__name__}")
        value = plain
    value = float(value)
    # A comparison instead of math.isfinite, which torch.compile cannot trace for a float that varies. NaN fails it too.
    # A literal, since a limit by name becomes an input of a graph that is compiled with dynamic=True.
    if not abs(value) <= 1.7976931348623157e308 or (positive and value <= 0):
        raise ValueError(f"{name} must be {kind}; got {value}")
    return value


def varies(value: Any) -> bool:
    """Tell if ``value`` is a float that the graph which is compiled takes as an input instead of a constant.

    The call comes before that of :func:`number`, from which the graph learns that the value is finite.
    """
    return isinstance(value, float) and not torch.fx.experimental.symbolic_shapes.statically_known_true(
        abs(value) <= 1.7976931348623157e308
    )


def as_tensor(value: float, dtype: torch.dtype, device: torch.device | str) -> Tensor:
    """Return a float that :func:`varies` as a tensor without axes: an operator takes no other float that varies."""
    return torch.ones((), dtype=dtype, device=device) * value


def plain_floats(values: Any) -> list[float] | None:
    """Return ``values`` as a list if they are a tuple or list of finite floats, else None: a fast path."""
    if type(values) in (tuple, list):
        compiling = torch.compiler.is_compiling()
        for value in values:
            if type(value) is not float or (compiling and varies(value)) or not abs(value) <= 1.7976931348623157e308:
                return None
        return list(values)
    return None


def _integer(name: str, value: Any, least: int, what: str = "") -> int:
    if isinstance(value, bool) or not isinstance(value, int | torch.SymInt):
        plain = _plain(value)
        if isinstance(plain, bool) or not isinstance(plain, int):
            raise TypeError(f"{name} must be an int{what}; got {value!r} of type {type(value).__name__}")
        value = plain
    if value < least:
        raise ValueError(f"{name} must be at least {least}; got {value}")
    return value


def steps_count(name: str, value: Any, what: str = "the number of time steps") -> int:
    """Return ``value``, which is ``what``: an int of at least 0, of Python or NumPy."""
    return _integer(name, value, 0, f", {what}")


def positive_int(name: str, value: Any) -> int:
    """Return ``value``, an int of at least 1, of Python or NumPy."""
    return _integer(name, value, 1)


def at_least(name: str, value: Any, least: int) -> int:
    """Return ``value``, an int of at least ``least``, of Python or NumPy."""
    return _integer(name, value, least)


def shape(name: str, value: Any) -> tuple[int, ...]:
    """Return ``value``, a shape: a sequence of ints of at least 0, as a tuple."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise TypeError(f"{name} must be a sequence of ints; got {value!r} of type {type(value).__name__}")
    sizes = tuple(map(_plain, value))
    for size in sizes:
        if isinstance(size, bool) or not isinstance(size, int):
            raise TypeError(f"{name} must be a sequence of ints; got {tuple(value)!r}")
        if size < 0:
            raise ValueError(f"{name} must be a sequence of ints of at least 0; got {tuple(value)!r}")
    return sizes


# Each dtype holds every whole number up to this one.
EXACT = {torch.float64: 2**53, torch.float32: 2**24, torch.float16: 2**11, torch.bfloat16: 2**8}


def countable(steps: int, dtype: torch.dtype, smooth: bool) -> None:
    """Check that a count over so many steps is exact in ``dtype``; a smooth one, of no whole numbers, is finite."""
    largest = int(torch.finfo(dtype).max) if smooth else EXACT[dtype]
    if steps > largest:
        kind = "no larger number is finite" if smooth else "a larger count need not be exact"
        raise ValueError(
            f"readout='count' takes at most {largest} steps in {_name(dtype)}, in which {kind}; got {steps} steps. A "
            "current of a wider dtype takes more, and so do calls over parts of the time, whose counts are added"
        )


def readable(potential: str, steps: int, dtype: torch.dtype) -> None:
    """Check that there is a step to read, and that a state of ``dtype`` can hold the number of each."""
    if steps < 1:
        raise ValueError(f"potential={potential!r} takes at least one step; got {steps}")
    if potential == "max" and steps > EXACT[dtype]:
        raise ValueError(
            f"potential='max' takes at most {EXACT[dtype]} steps in {_name(dtype)}, in which its step is kept; got "
            f"{steps} steps. The maximum of calls over parts of the time is that of their maxima"
        )


_LARGE = 2**32  # bytes; for a smaller train the system is not asked


def fits(steps: int, value: Tensor) -> None:
    """Check that a train of so many steps of ``value`` is not larger than the whole memory of its device.

    Raises:
        MemoryError: it is. The message names both numbers.
    """
    if torch.compiler.is_compiling() or type(steps) is not int:
        return
    needed = steps * value.numel() * value.itemsize
    # A tensor of a subclass, such as a FakeTensor, may have no memory behind it.
    if needed > _LARGE and type(value) in (Tensor, torch.nn.Parameter):
        total = _memory(value.device)
        if total is not None and needed > total:
            raise MemoryError(
                f"steps={steps} for a tensor of shape {tuple(value.shape)} asks for a train of "
                f"{needed / 2**30:.3g} GiB, and {value.device} has {total / 2**30:.3g} GiB of memory"
            )


def _memory(device: torch.device) -> int | None:
    """Return the bytes of a device's whole memory, with a CPU's swap space; None where they are not known."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    if device.type != "cpu" or not os.path.exists("/proc/meminfo"):
        return None
    with open("/proc/meminfo") as file:
        lines = dict(line.split(":") for line in file)
    return sum(int(lines[name].split()[0]) for name in ("MemTotal", "SwapTotal")) * 1024


def _layout(value: Tensor) -> str:
    return "a nested tensor" if value.is_nested else f"layout {value.layout}"


def floating(name: str, value: Any) -> None:
    """Check that ``value`` is a dense tensor of a supported floating dtype."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a tensor; got {type(value).__name__}")
    if value.dtype not in DTYPES:
        allowed = ", ".join(map(_name, DTYPES))
        raise TypeError(f"{name} must have one of the dtypes {allowed}; got {_name(value.dtype)}")
    if value.layout is not torch.strided or value.is_nested:
        raise TypeError(f"{name} must be a dense tensor; got {_layout(value)}")


def batch(name: str, value: Any) -> None:
    """Check that ``value`` is ``[B, *features]``."""
    floating(name, value)
    if value.dim() < 1:
        raise ValueError(f"{name} must be [B, *features]; got shape {tuple(value.shape)}")


def same_dtype(name: str, value: Tensor, like_name: str, like: Tensor) -> None:
    """Check that ``value`` has the dtype of ``like``."""
    if value.dtype != like.dtype:
        raise TypeError(f"{name} must be {_name(like.dtype)}, as {like_name} is; got {_name(value.dtype)}")


def same(name: str, value: Any, like_name: str, like: Tensor) -> None:
    """Check that ``value`` is a tensor of the shape, dtype and device of ``like``."""
    floating(name, value)
    same_dtype(name, value, like_name, like)
    same_device(name, value, like.device, like_name)
    if value.shape != like.shape:
        raise ValueError(f"{name} must have the shape {tuple(like.shape)} of {like_name}; got {tuple(value.shape)}")


def probabilities(name: str, value: Tensor) -> None:
    """Check that every element is in [0, 1].

    Where Python must not wait for the elements (a GPU, a compiled graph) or there are none (a fake tensor), the check
    is an assertion there.
    """
    _every(((value >= 0) & (value <= 1)).all(), f"{name} must lie in [0, 1]", value)


def binary(name: str, value: Tensor) -> None:
    """Check that every element is 0 or 1, as :func:`probabilities` checks."""
    _every(((value == 0) | (value == 1)).all(), f"{name} must hold 0 and 1 only", value)


def _every(valid: Tensor, message: str, value: Tensor) -> None:
    if value.device.type != "cpu" or torch.compiler.is_compiling() or isinstance(valid, FakeTensor):
        torch._assert_async(valid, message)
    elif not valid:
        low, high = (x.item() for x in value.aminmax())
        got = "NaN" if low != low else f"values from {low} to {high}"
        raise ValueError(f"{message}; got {got}")


def seed(value: Any, device: torch.device) -> Any:
    """Return ``value``: None, an int of 64 bits, or an int64 tensor without axes on ``device``."""
    if value is None:
        return value
    if isinstance(value, Tensor):
        if value.dtype != torch.int64:
            raise TypeError(f"seed must be an int64 tensor; got {_name(value.dtype)}")
        if value.dim():
            raise ValueError(f"seed must be a tensor without axes; got shape {tuple(value.shape)}")
        if value.device != device:
            raise ValueError(f"seed must be on {device}, where the values are; got a tensor on {value.device}")
        return value
    if isinstance(value, bool) or not isinstance(value, int | torch.SymInt):
        plain = _plain(value)
        if isinstance(plain, bool) or not isinstance(plain, int):
            raise TypeError(f"seed must be an int, a tensor or None; got {value!r} of type {type(value).__name__}")
        value = plain
    if not -(2**63) <= value < 2**63:
        raise ValueError(f"seed must be at least -2^63 and below 2^63; got {value}")
    return value


def train(name: str, value: Any) -> None:
    """Check that ``value`` is ``[T, B, *features]``."""
    floating(name, value)
    if value.dim() < 2:
        raise ValueError(f"{name} must be [T, B, *features]; got shape {tuple(value.shape)}")


def current(value: Any, steps: int | None) -> None:
    """Check that ``value`` is ``[T, B, *features]``, or ``[B, *features]`` where ``steps`` is given."""
    floating("current", value)
    if steps is None and value.dim() < 2:
        raise ValueError(
            f"current must be [T, B, *features] (or [B, *features] with steps=T); got shape {tuple(value.shape)}"
        )
    if steps is not None and value.dim() < 1:
        raise ValueError(f"current must be [B, *features] when steps is given; got shape {tuple(value.shape)}")
    if steps is None and value.dim() == 2 and not _warned_of_the_time_axis and not torch.compiler.is_compiling():
        _warn_of_the_time_axis(*value.shape)


class TimeAxisWarning(UserWarning):
    """A current of two axes, the usual batch ``[B, F]`` of a network without time, is taken as ``[T, B]``."""


_warned_of_the_time_axis = False


def _warn_of_the_time_axis(steps: int, samples: int) -> None:
    """Warn once in a process, at the place of the caller's own code.

    Neurons of another library were given the axes that their library has, which no user of them calls a current.
    """
    global _warned_of_the_time_axis
    frame, level = sys._getframe(), 1
    while frame.f_back and (name := frame.f_globals.get("__name__", "")).partition(".")[0] in ("hnn_kernels", "torch"):
        if name.startswith(("hnn_kernels._convert.", "hnn_kernels._unroll.")):
            return
        frame, level = frame.f_back, level + 1
    _warned_of_the_time_axis = True
    warnings.warn(
        f"current has two axes, {steps} and {samples}, which are taken as [T, B]: {steps} time steps of {samples} "
        "samples with one neuron each. If it is [B, F], a batch without a time axis, pass steps=T or put "
        "nn.Duplicate(T) in front. If it is [T, F], one sample, pass current.unsqueeze(1). If it is [T, B], "
        "current.unsqueeze(2) says so, or warnings.filterwarnings('ignore', category=hnn_kernels.TimeAxisWarning)",
        TimeAxisWarning,
        stacklevel=level,
    )


def same_device(name: str, value: Tensor, device: torch.device, like_name: str = "current") -> None:
    """Check that ``value`` is on ``device``, where ``like_name`` is."""
    if value.device != device:
        raise ValueError(f"{name} must be on {device}, where {like_name} is; got a tensor on {value.device}")


def coefficient(
    name: str,
    value: Any,
    features: Sequence[int],
    dtypes: Collection[torch.dtype],
    device: torch.device,
    order: bool = False,
) -> None:
    """Check that ``value`` is a tensor on ``device``, of one of ``dtypes``, that broadcasts against ``features``.

    With ``order`` it has one axis in front, over the filter's coefficients.
    """
    floating(name, value)
    if value.dtype not in dtypes:
        allowed = " or ".join(dict.fromkeys(map(_name, dtypes)))
        raise TypeError(f"{name} must be {allowed} for this current; got {_name(value.dtype)}")
    same_device(name, value, device)
    shape = value.shape
    if order:
        if not shape:
            raise ValueError(f"{name} must have the order of the filter as its first axis; got a tensor without axes")
        shape = shape[1:]
    fits = len(shape) <= len(features) and all(
        have in (1, want) for have, want in zip(reversed(shape), reversed(features), strict=False)
    )
    if not fits:
        raise ValueError(
            f"{name} must broadcast against the features {tuple(features)} of current"
            f"{' behind its first axis' if order else ''}; got shape {tuple(value.shape)}"
        )


def state(name: str, value: Tensor, shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> None:
    """Check that ``value`` is a state tensor of exactly this ``shape``, ``dtype`` and ``device``."""
    floating(name, value)
    if value.dtype != dtype:
        raise TypeError(f"{name} must be {_name(dtype)}, the state dtype of this current; got {_name(value.dtype)}")
    same_device(name, value, device)
    if tuple(value.shape) != tuple(shape):
        raise ValueError(f"{name} must have the shape {tuple(shape)}; got {tuple(value.shape)}")


def has_hooks(module: Any) -> bool:
    """Tell if a call of the module calls a hook of its own, too."""
    return bool(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    )
