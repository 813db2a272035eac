"""``python -P hnn_kernels/_generate/__main__.py``: write the generated files, or those that are named."""

import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

if __name__ == "__main__":
    package = Path(__file__).resolve().parents[1]
    # Not as hnn_kernels._generate: the package cannot be imported where a file that this writes is broken or gone.
    sys.path.append(str(package))
    from _generate.files import FILES

    layer = SimpleNamespace(**runpy.run_path(str(package / "_layer.py")))
    surrogates = runpy.run_path(str(package / "surrogates.py"))["SURROGATES"]
    for path in sys.argv[1:] or FILES:
        (package.parent / path).write_text(FILES[path](layer, surrogates))
