"""The steps, in order: what tells most comes first."""

from typing import NamedTuple

HOST = "benchmarks.gpu.host"


class Step(NamedTuple):
    """A program that finds out facts.

    Attributes:
        name: its name on the screen and in the record.
        limit: the seconds after which it is ended.
        module: the Python module that is run.
        arguments: its arguments, besides those of every step.
        needs: what must be there, in the words of the facts ``has``; with ``no`` before a word, what must not be.
        always: True if every call of the script runs it.
    """

    name: str
    limit: float
    module: str
    arguments: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    always: bool = False

    def lacks(self, has: set[str]) -> list[str]:
        """Return the needs that ``has`` does not meet."""
        return [need for need in self.needs if (need.removeprefix("no ") in has) == need.startswith("no ")]


# The limits are far above what the steps should take: 5, 10, 15, (90), 60, 10, 30, 100, 40, 60 and 90 s. These are
# estimates for an H100, not measured. Whatever does not fit into the script's time is for its next call.
STEPS = (
    Step("versions", 30, f"{HOST}.versions", always=True),
    Step("forms-cuda", 40, "support.each_form", ("--backend", "cuda"), ("cuda",)),
    Step("forms-triton", 60, "support.each_form", ("--backend", "triton"), ("triton",)),
    # Only where no module came along. What Triton showed is known by then.
    Step("module", 160, f"{HOST}.build", ("--only", "cuda"), ("gpu", "nvcc", "no cuda")),
    Step("times", 90, f"{HOST}.times", ("--cases", "first"), ("kernels",)),
    Step("host", 20, f"{HOST}.cost", (), ("kernels",)),
    Step("profile", 40, f"{HOST}.profile", (), ("gpu", "kernels", "ncu")),
    Step("tests", 110, "support.few_tests", (), ("kernels", "pytest")),
    Step("suite", 60, f"{HOST}.times", ("--cases", "quick"), ("kernels",)),
    Step("memcheck", 60, f"{HOST}.memcheck", (), ("gpu", "kernels", "compute-sanitizer")),
    Step("source", 200, f"{HOST}.build", ("--only", "every"), ("gpu", "nvcc", "c++")),
)
