"""The providers: this project's kernels, loops over time, and other libraries.

A provider makes layers of neurons; the operations around them are the same for all. One that has a product with spikes
makes that, too. A new one needs a file here with a tuple ``PROVIDERS``, a name in ``FILES``, and its package in the
extra ``peers`` of pyproject.toml.
"""

import importlib

from ..core.layer import Provider

# In the order of tables.
FILES = ("own", "loops", "plain", "snntorch", "spikingjelly", "norse", "sinabs", "tether", "others")


def providers() -> tuple[Provider, ...]:
    """All providers, ours first. Another library is imported only when its first layer is made."""
    files = (importlib.import_module(f"{__name__}.{name}") for name in FILES)
    return tuple(provider for file in files for provider in file.PROVIDERS)
