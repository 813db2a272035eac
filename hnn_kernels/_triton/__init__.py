"""The Triton backend. Importing it registers the kernels; without triton, ``import_error`` says why."""

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
