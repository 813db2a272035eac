"""With this folder and tests/ on PYTHONPATH, any program finds the device that is not there.

    HNN_EMULATE=9.0 PYTHONPATH=tests/emulator/startup:tests:. python -m hnn_kernels
    HNN_EMULATE=9.0 HNN_EMULATE_THREADS=10000 PYTHONPATH=tests/emulator/startup:tests:. benchmarks/gpu_host.sh

Python imports this module at its start. A launch does nothing, of torch's kernels neither. With HNN_EMULATE_THREADS,
torch's operators compute, and a launch of at most so many threads is run. In pytest, tests/conftest.py has all run.
"""

import os

if os.environ.get("HNN_EMULATE", "").strip():
    from emulator import device

    most = os.environ.get("HNN_EMULATE_THREADS", "").strip()
    emulated = device.install(run=bool(most))
    if emulated:
        from emulator import torch_ops

        emulated.most = int(most)
        torch_ops.install()
