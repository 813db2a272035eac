"""``python -m hnn_models``: the same command line as ``hnn``."""

from .cli import app

app(prog_name="hnn")
