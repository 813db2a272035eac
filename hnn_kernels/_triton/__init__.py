"""The Triton backend. Importing it registers the kernels; without triton, ``import_error`` says why."""

from typing import Any

import_error: ImportError | None = None
lacking = ""  # what is not there for its first launch
interpreted = (
    False  # by TRITON_INTERPRET, as Triton reads it: kernels are bound to the interpreter as they are imported
)
try:
    import triton
except ImportError as error:
    import_error = error
else:
    interpreted = triton.knobs.runtime.interpret
    from . import coding, launch, toolchain  # noqa: F401

    lacking = toolchain.missing()


def direct_host() -> Any:
    """Return what makes the plans of direct calls on a GPU; None where kernels are not compiled here."""
    if import_error is not None or interpreted:
        return None
    from . import direct

    return direct
