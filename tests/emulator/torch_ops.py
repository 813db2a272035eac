"""torch's own operators on the device that is not there: done on the CPU, on the same memory.

torch's kernels for CUDA are machine code, which the emulator does not run. So each operator that has one gets a Python
function at the dispatch key CUDA. It views the device's tensors as the CPU's, calls the operator, and copies a new
result to the device. What only makes tensors or views of them stays torch's own.
"""

import ctypes
import warnings

import torch

# What runs no kernel.
_OWN = (
    "empty.", "empty_strided", "as_strided", "view", "_reshape_alias", "_unsafe_view", "alias", "unfold", "set_",
    "resize_", "record_stream", "is_set_to", "_has_", "is_pinned", "_pin_memory", "pin_memory", "lift", "_nested",
    "detach",
)  # fmt: skip
# What has no kernel of its own at the key CUDA, but ends in one.
_MORE = ("aten::copy_",)
_library = None


def _view(x: torch.Tensor) -> torch.Tensor:
    """A tensor of the CPU on the same memory."""
    sizes, strides = x.shape, x.stride()
    extent = 1 + sum((n - 1) * s for n, s in zip(sizes, strides, strict=True)) if x.numel() else 0
    if not extent:
        return torch.empty_strided(sizes, strides, dtype=x.dtype)
    memory = (ctypes.c_char * (extent * x.element_size())).from_address(x.data_ptr())
    return torch.frombuffer(memory, dtype=x.dtype).as_strided(sizes, strides)


def _to_host(value):
    if isinstance(value, torch.Tensor):
        return _view(value) if value.is_cuda else value
    if isinstance(value, torch.device):
        return torch.device("cpu")
    if isinstance(value, torch.Generator) and value.device.type == "cuda":
        return torch.Generator().manual_seed(value.initial_seed())
    if isinstance(value, list | tuple):
        return [_to_host(v) for v in value]
    return value


def _to_device(value):
    if isinstance(value, list | tuple):
        return tuple(_to_device(v) for v in value)
    if not isinstance(value, torch.Tensor) or value.is_cuda:
        return value
    value = value.detach()
    dense = torch.ops.aten.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="cuda")
    extent = 1 + sum((n - 1) * s for n, s in zip(value.shape, value.stride(), strict=True)) if value.numel() else 0
    ctypes.memmove(dense.data_ptr(), value.data_ptr(), extent * value.element_size())
    return dense


def _on_host(op):
    arguments = op._schema.arguments
    written = [a.name if a.kwarg_only else i for i, a in enumerate(arguments) if a.alias_info and a.alias_info.is_write]
    in_place = any(r.alias_info is not None for r in op._schema.returns)
    tensors = [i for i, a in enumerate(arguments) if str(a.type) == "Tensor" and not a.kwarg_only]

    def run(*given, **options):
        on_host = {name: _to_host(value) for name, value in options.items()}
        # A number that torch wrapped as a tensor comes unwrapped. Then it takes the overload for numbers.
        unwrapped = any(i < len(given) and isinstance(given[i], int | float | complex) for i in tensors)
        result = (op.overloadpacket if unwrapped else op)(*map(_to_host, given), **on_host)
        if not (in_place and written):
            return _to_device(result)
        results = [options[w] if isinstance(w, str) else given[w] for w in written]
        for name, value in options.items():
            # The operator was given an empty tensor, and made it larger.
            if name in written and value.shape != on_host[name].shape:
                value.resize_(on_host[name].shape).copy_(on_host[name])
        return results[0] if len(op._schema.returns) == 1 else tuple(results)

    return run


def install() -> None:
    """Put the functions in the place of torch's kernels, once."""
    global _library
    if _library is not None:
        return
    _library = torch.library.Library("aten", "IMPL")
    names = [*torch._C._dispatch_get_registrations_for_dispatch_key("CUDA"), *_MORE]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for full in names:
            namespace, _, name = full.partition("::")
            if namespace != "aten" or name.startswith(_OWN):
                continue
            packet, _, overload = name.partition(".")
            op = getattr(getattr(torch.ops.aten, packet, None), overload or "default", None)
            if op is not None:
                _library.impl(name, _on_host(op), "CUDA")
