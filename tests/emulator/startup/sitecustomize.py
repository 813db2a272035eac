"""With this folder and tests/ on PYTHONPATH, any program finds the device that is not there. A launch does nothing.

    HNN_EMULATE=9.0 PYTHONPATH=tests/emulator/startup:tests:. benchmarks/gpu_host.sh

Python imports this module at its start. pytest, which reads tests/conftest.py, still runs what is launched.
"""

import os

if os.environ.get("HNN_EMULATE", "").strip():
    from emulator import device

    device.install(run=False)
