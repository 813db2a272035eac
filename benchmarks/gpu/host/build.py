"""Build from source for this GPU's architecture: the CUDA module alone, or everything."""

import shutil
import sys
import time

from . import facts
from .facts import HAS
from .programs import output, run
from .state import ROOT

PROBE = "import hnn_kernels._extensions as e, sys; sys.exit(e.cuda_error or 0)"


def main() -> None:
    """Build in place. A module that loads is copied to the record's folder, from where the next call can take it."""
    say, given = facts.given(__doc__, ("--only", {"choices": ("cuda", "every"), "required": True}))
    import torch

    from hnn_kernels._extensions import cuda_module

    architecture = "{}.{}".format(*torch.cuda.get_device_capability())
    say.say("architecture", architecture)
    switches = {"TORCH_CUDA_ARCH_LIST": architecture, "HNN_REQUIRE": "cuda"}
    if given.only == "cuda":
        switches["HNN_BUILD"] = "only-cuda"
    else:
        switches |= {"HNN_BUILD": "cuda", "HNN_REQUIRE": "cuda,cpu"}
    began = time.time()
    # --force: a module that came along would pass for one that was built here.
    force = ["--force"] if given.only == "every" else []
    code = run([sys.executable, "setup.py", "-q", "build_ext", "--inplace", *force], switches)
    say.say("build", f"exit code {code}, {time.time() - began:.0f} s")
    if code:
        sys.exit(1)
    why = output([sys.executable, "-c", PROBE], 30)
    say.say("the built module", why or "loads")
    if why:
        sys.exit(facts.TOLD)
    for path in (ROOT / "hnn_kernels").glob(f"{cuda_module(torch.version.cuda)}.*so"):
        shutil.copy(path, say.out)
        say.say("kept", f"{say.out / path.name}, {path.stat().st_size / 2**20:.1f} MiB")
    say.say(HAS, "cuda")


if __name__ == "__main__":
    main()
