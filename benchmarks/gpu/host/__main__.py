"""The command line of ``benchmarks/gpu_host.sh``, which has the help. Nothing here imports torch."""

import argparse
import signal
import sys
import time
from pathlib import Path

from .run import Run
from .state import ROOT, bring
from .steps import STEPS


def _end(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)  # so that the running step is ended too


def main() -> int:
    """Run the steps; the exit code is the number of those that failed or were cut off."""
    started = time.time()
    script = (ROOT / "benchmarks" / "gpu_host.sh").read_text()
    help_text = "\n".join(line[2:] for line in script.splitlines()[1:] if line.startswith("#"))
    parser = argparse.ArgumentParser(
        prog="benchmarks/gpu_host.sh", description=help_text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu rehearses the steps")
    parser.add_argument("--out", type=Path, required=True, help="the folder of the record")
    parser.add_argument("--continue", type=Path, dest="former", metavar="FOLDER", help="an earlier call's --out")
    parser.add_argument("--seconds", type=float, default=480.0, help="the time for all steps (default: %(default)g)")
    parser.add_argument(
        "--only", action="append", choices=[step.name for step in STEPS], help="run this step alone; repeatable"
    )
    given = parser.parse_args()
    out = given.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    if given.former is not None:
        try:
            bring(given.former, out)
        except FileNotFoundError as error:
            parser.error(f"--continue: {error}")
    signal.signal(signal.SIGTERM, _end)
    steps = [step for step in STEPS if not given.only or step.name in given.only or step.always]
    return Run(steps, given.device, out, given.seconds, started).all()


if __name__ == "__main__":
    sys.exit(main())
