"""The operators' registrations with torch, which outlive the package: torch accepts each only once in a process.

After another import of the package (a reload, a test runner that clears ``sys.modules``) the operators stay those of
the first import, and call the functions of the last one.
"""

from collections.abc import Callable
from typing import Any

import torch


class Operators:
    """The operators of the namespace ``hnn`` with their schemas, and their functions by name and dispatch key."""

    def __init__(self) -> None:
        self.library = torch.library.Library("hnn", "DEF")
        self.schemas: dict[str, str] = {}
        self.functions: dict[tuple[str, str], Callable] = {}

    def define(self, name: str, schema: str) -> Callable:
        """Define an operator and return it.

        Raises:
            ImportError: this process has an operator of that name with another schema.
        """
        if name not in self.schemas:
            self.library.define(name + schema, tags=(torch.Tag.pt2_compliant_tag,))
            self.schemas[name] = schema
        elif self.schemas[name] != schema:
            raise ImportError(
                f"hnn_kernels is imported again, and its operator hnn::{name} is not what it was: restart Python"
            )
        return getattr(torch.ops.hnn, name).default

    def implement(self, name: str, key: str, function: Callable) -> None:
        """Let ``function`` implement an operator at a dispatch key, or as its ``"Fake"`` kernel or ``"Vmap"`` rule."""
        again = (name, key) in self.functions
        self.functions[name, key] = function
        if again:
            return

        def call(*arguments):
            return self.functions[name, key](*arguments)

        if key == "Fake":
            torch.library.register_fake(f"hnn::{name}", call, lib=self.library)
        elif key == "Vmap":
            torch.library.register_vmap(f"hnn::{name}", call, lib=self.library)
        else:
            self.library.impl(name, call, key)


# They are kept where torch keeps the operators themselves.
_namespace: Any = torch.ops.hnn
if not hasattr(_namespace, "_registered"):
    _namespace._registered = Operators()
operators: Operators = _namespace._registered
