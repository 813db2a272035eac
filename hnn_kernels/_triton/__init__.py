"""The Triton backend. Importing it registers the kernels; without triton, ``import_error`` says why."""

import_error: ImportError | None = None
try:
    import triton  # noqa: F401
except ImportError as error:
    import_error = error
else:
    from . import coding, launch  # noqa: F401
