"""GPUs by their compute capability, and the compiled kernels that run on them."""

import re

Capability = tuple[int, int]

# An entry of TORCH_CUDA_ARCH_LIST, as setup.py hands it to the module: binary code of a capability, with "a" of its own
# features, which no other has; "+PTX" adds code that the driver compiles for any later capability.
_ENTRY = re.compile(r"(\d+)\.(\d)(a?)(\+PTX)?")
# The capabilities of Jetson. Before CUDA 13.2 they take no binary code of another one.
_JETSON = ((7, 2), (8, 7))


def serves(architectures: str, capability: Capability) -> bool:
    """Tell if a GPU of this compute capability runs kernels that were compiled for ``architectures``.

    Args:
        architectures: entries such as ``"8.0;9.0+PTX"``. Binary code runs on the same major number with an equal or
            higher minor one, PTX on every equal or higher capability.
        capability: ``(9, 0)`` for sm_90.
    """
    for major, minor, own, ptx in _ENTRY.findall(architectures):
        built = (int(major), int(minor))
        if built == capability:
            return True
        if own or built > capability:
            continue
        if ptx or (built[0] == capability[0] and capability not in _JETSON):
            return True
    return False
