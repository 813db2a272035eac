"""Every form of kernel in every dtype, forward and backward, beside the reference on the same device. No pytest.

It is a step of ``benchmarks/gpu_host.sh``, and what its memory checker watches.
"""

import os
import sys

from emulator import asked

# Before anything imports torch, which then finds a GPU.
if asked.wanted():
    asked.device()

import torch

import hnn_kernels
from benchmarks.gpu.host import facts
from support.comparisons import hold_forward, hold_gradients
from support.forms import FORMS
from support.layers import DTYPES, gradients, in_double, inputs, run, without_axon
from support.targets import Target, dtype_id

asked.operators()

# An odd number of neurons, 2^12 + 1, in as many steps as three of the kernels' chunks of 8 and one more. The emulator,
# the shim and Triton's interpreter take a thousandth of it.
SHAPE, FEW = (25, 17, 241), (9, 1, 5)
# Enough neurons that lie together for kernels whose threads take several, on up to 160 multiprocessors and on one.
MANY, ENOUGH = (9, 160, 1024), (9, 4, 256)
WIDE = ("plain", "usual, axon (2, 0)")
SEEDS = 8
AGREES = "agrees in"
LOST = "CUDA error"
MOST_FAILURES, MOST_LOST = 12, 4


def arguments(shape, device, dtype, layer) -> dict:
    """Inputs whose spikes do not depend on the precision, so that float64's gradients are the truth of the dtype's."""
    for seed in range(SEEDS):
        found, same = (inputs(shape, dtype=dtype, device=d, kind="neuron", state=True, seed=seed, **layer)
                       for d in (device, "cpu"))  # fmt: skip
        spikes = without_axon(same)
        if torch.equal(run(spikes, "reference")[0].double(), run(in_double(spikes), "reference")[0]):
            return found
    raise ValueError(f"{SEEDS} seeds have a potential within rounding of the threshold")


def main() -> int:
    """Say for each form in which dtypes it agrees; return ``TOLD`` if it does not in one."""
    options = (
        ("--backend", {"choices": ("cuda", "triton", "cpu"), "required": True}),
        ("--alone", {"action": "store_true", "help": "run a small layer, and compare it with nothing"}),
        ("--form", {"action": "append", "choices": tuple(FORMS), "help": "this form alone; repeatable"}),
    )
    say, given = facts.given(__doc__, *options)
    target = Target(given.backend, say.device)
    if say.device not in hnn_kernels.backends()[target.backend].devices:
        raise SystemExit(f"{target.backend} cannot run: {hnn_kernels.backends()[target.backend].reason}")
    few = given.alone or target.exact
    known, failed = say.known(), say.known(here=True)
    for form in given.form or FORMS:
        if known.get(form, "").startswith(AGREES):
            continue
        agree = []
        for dtype in DTYPES:
            name = f"{form}, {dtype_id(dtype)}"
            if name in failed:
                continue
            print(name, file=sys.stderr, flush=True)  # the log's last name is that of a kernel that hangs
            shapes = [FEW if few else SHAPE]
            if form in WIDE and target.backend == "cuda":
                shapes.append(ENOUGH if target.exact else MANY)
            found = (difference(target, shape, dtype, given.alone, *FORMS[form]) for shape in shapes)
            why = next(filter(None, found), "")
            if not why:
                agree.append(dtype_id(dtype))
                continue
            say.say(name, why)
            failed[name] = why
            if LOST in why and not hopeless(failed):
                # After such an error every call of this process fails. The same program goes on behind it.
                os.execv(sys.executable, sys.orig_argv)
            if hopeless(failed):
                say.say("stopped", f"after {len(failed)} failures")
                return facts.TOLD
        if agree:
            all_of_them = "runs in" if given.alone else AGREES
            say.say(form, f"{all_of_them if len(agree) == len(DTYPES) else 'only in'} {', '.join(agree)}")
    if target == ("cuda", "cuda"):
        attributes(say)
    return facts.TOLD if failed else 0


def hopeless(failed: dict[str, str]) -> bool:
    """Tell if so much fails that the rest would tell nothing new."""
    return len(failed) >= MOST_FAILURES or sum(LOST in why for why in failed.values()) >= MOST_LOST


def difference(target: Target, shape, dtype, alone: bool, layer, settings) -> str:
    """Tell the difference of a form to the reference, or its error; empty if it agrees, or runs ``alone``."""
    try:
        data = arguments(shape, target.device, dtype, layer)
        if alone:
            gradients(data, target.backend, **settings)
            torch.cuda.synchronize()
            return ""
        hold_forward(target, data, **settings)
        hold_gradients(target, data, **settings)
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return f"{type(error).__name__}: {'; '.join(lines[:4])}"[:200]
    return ""


def attributes(say: facts.Facts) -> None:
    """Say what the CUDA kernels take, as the driver loaded them. A module that came along has nobody to ask."""
    from hnn_kernels import _extensions

    if _extensions.inspection is None:
        say.say("kernels", f"no attributes without the inspection module: {_extensions.inspection_error}")
        return
    found = _extensions.inspection.kernel_attributes(_extensions.cuda.inspection())
    for name, values in found.items():
        print(name, values, file=sys.stderr)
    say.say("kernels", f"{len(found)} are loaded; the log has their attributes")


if __name__ == "__main__":
    end = main()
    if "--alone" in sys.argv:  # the memory checker has its say at the end of the process
        raise SystemExit(end)
    facts.leave(end)
