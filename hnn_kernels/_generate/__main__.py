"""Write the generated files, or those that are named: ``python -P hnn_kernels/_generate/__main__.py``."""

import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

if __name__ == "__main__":
    package = Path(__file__).resolve().parents[1]
    # Not imported as hnn_kernels._generate: that fails if a file that this script writes is broken or missing.
    sys.path.append(str(package))
    from _generate.files import FILES  # type: ignore[import-not-found]

    layer = SimpleNamespace(**runpy.run_path(str(package / "_layer.py")))
    surrogates = runpy.run_path(str(package / "surrogates.py"))["SURROGATES"]
    for path in sys.argv[1:] or FILES:
        (package.parent / path).write_text(FILES[path](layer, surrogates))
