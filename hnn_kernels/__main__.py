"""Show what is installed here and which backends can be used: ``python -m hnn_kernels``."""

import platform

import torch

from . import _dispatch, _extensions, _triton
from .version import __version__


def _triton_version() -> str:
    if _triton.import_error is not None:
        return f"not importable ({_triton.import_error})"
    from triton import __version__ as version

    return version


def main() -> None:
    """Print the versions, the compiled modules with their settings, and the state of each backend."""
    print(f"hnn_kernels {__version__}, Python {platform.python_version()}, {platform.machine()} {platform.system()}")
    print(f"torch       {torch.__version__} (CUDA {torch.version.cuda or 'none'}), triton {_triton_version()}")
    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            major, minor = torch.cuda.get_device_capability(i)
            print(f"device      cuda:{i} {torch.cuda.get_device_name(i)}, sm_{major}{minor}")
    else:
        print("device      no CUDA device")
    modules = [("cpu", _extensions.cpu, _extensions.cpu_error), ("cuda", _extensions.cuda, _extensions.cuda_error)]
    if _extensions.shim is not None:
        modules.append(("shim (the CUDA kernels on the host, for tests)", _extensions.shim, ""))
    for name, module, error in modules:
        built = error if module is None else ", ".join(f"{k} {v}" for k, v in module.build_info().items())
        print(f"built       {name}: {built}")
    for backend in _dispatch.backends().values():
        takes = f"usable on {', '.join(backend.devices)}" if backend.devices else f"not usable: {backend.reason}"
        print("\n            not on ".join([f"backend     {backend.name}: {takes}", *backend.refused]))
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    for device in ("cpu", *(f"cuda:{i}" for i in range(gpus))):
        print(f"default     {device} tensors take {_dispatch.choose(torch.device(device), None)}")


if __name__ == "__main__":
    main()
