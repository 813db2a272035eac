"""``python -m hnn_models``: the same command line as ``hnn``."""

from .cli import main

main()
