"""The emulator catches kernels that are wrong: the compiled ones, broken in their text."""

import re
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch

from support.comparisons import equal_bits, hold_forward, hold_gradients
from support.layers import inputs, run
from support.targets import emulated_device

# A store or a load of global memory: its guard and opcode, its address, the rest.
_STORE = r"(?m)^(\s*(?:@\S+\s+)?st\.global\.\S+\s*\[\s*%\w+)((?:\s*\+\s*\d+)?\s*\][^;]*;)"
_LOAD = r"(?m)^(\s*(?:@\S+\s+)?ld\.global\.\S+\s*\{?\s*%\w+\s*\}?,\s*\[\s*%\w+)((?:\s*\+\s*\d+)?\s*\]\s*;)"


def _moved(pattern: str, by: int) -> Callable[[str], str]:
    """The addresses of all accesses that the pattern finds, so many bytes further."""

    def move(match):
        offset = re.match(r"\s*\+\s*(\d+)", match[2])
        rest = match[2][offset.end() :] if offset else match[2]
        return f"{match[1]}+{int(offset[1] if offset else 0) + by}{rest}"

    return lambda text: re.sub(pattern, move, text)


def _first(pattern: str, new: str) -> Callable[[str], str]:
    return lambda text: re.sub(pattern, new, text, count=1, flags=re.MULTILINE)


def _every(pattern: str, new: str) -> Callable[[str], str]:
    return lambda text: re.sub(pattern, new, text, flags=re.MULTILINE)


def _last_barrier(text: str) -> str:
    """Without the last barrier."""
    at = list(re.finditer(r"(?m)^\s*bar(?:rier)?\.sync\s[^;]*;", text))
    return text[: at[-1].start()] + text[at[-1].end() :] if at else text


_OTHER = {"ge": "lt", "lt": "ge"}


class Mutant(NamedTuple):
    """A change of the kernels of a direction, or of the sums.

    What must come of it is a report, or None where the numbers are wrong.
    """

    direction: str
    edit: Callable[[str], str]
    report: str | None = None
    backends: tuple[str, ...] = ("cuda", "triton")
    shape: tuple[int, ...] = (25, 3, 37)


MUTANTS = {
    "the threshold's comparison the other way round": Mutant(
        "forward", lambda text: re.sub(r"setp\.(ge|lt)(u?)\.f32", lambda m: f"setp.{_OTHER[m[1]]}{m[2]}.f32", text)),
    "stores an element further": Mutant("forward", _moved(_STORE, 4), "out of bounds|race"),
    "stores half an element further": Mutant("forward", _moved(_STORE, 2), "misaligned"),
    "loads an element further": Mutant("forward", _moved(_LOAD, 4), "out of bounds"),
    "gradients an element further": Mutant("backward", _moved(_STORE, 4), "out of bounds|race"),
    "a store twice": Mutant("forward", _first(_STORE, r"\1\2\n\1\2"), "double store"),
    "gradients stored twice": Mutant("backward", _every(_STORE, r"\1\2\n\1\2"), "double store"),
    "a store left out": Mutant("forward", _first(_STORE, "")),
    "no bound of the neurons": Mutant(
        "forward", _first(r"^\s*@%p\d+\s+bra\s[^;]*;", ""), "out of bounds|race", ("cuda",)),
    "no guard of the loads": Mutant("forward", _every(r"@%p\d+(\s+ld\.global)", r"\1"), "out of bounds", ("triton",)),
    "no guard of the stores": Mutant(
        "forward", _every(r"@%p\d+(\s+st\.global)", r"\1"), "out of bounds|race", ("triton",)),
    "a row of shared memory a word further": Mutant(
        "backward", _moved(_STORE.replace("global", "shared"), 4), "race|nothing has written|out of bounds", ("cuda",)),
    "shared memory that is not written": Mutant(
        "backward", _every(r"^\s*(?:@\S+\s+)?st\.shared[^;]*;", ""), "nothing has written", ("cuda",)),
    "sums without the barrier before their groups": Mutant(
        "add_up", _first(r"^\s*bar(?:rier)?\.sync\s[^;]*;", ""), "race", ("cuda",)),
    # With so many neurons that share a coefficient, the rows of a block are several groups.
    "sums without the barrier behind their groups": Mutant("add_up", _last_barrier, "race", ("cuda",), (7, 40, 3)),
    "another sum": Mutant("backward", _every(r"sub(\.rn)?\.f32", r"add\1.f32")),
    "products rounded down": Mutant("forward", _every(r"mul\.rn\.f32", "mul.rm.f32"), "mul.rm.f32"),
}  # fmt: skip


@pytest.fixture
def edited():
    """Puts an edit of the kernels of one direction in place, and counts the texts that it changed."""
    device, changed = emulated_device(), []

    def put(direction: str, edit: Callable[[str], str]) -> list[str]:
        def change(name: str, text: str) -> str:
            if direction not in name:
                return text
            new = edit(text)
            if new != text:
                changed.append(name)
            return new

        device.edit = change
        return changed

    yield put
    device.edit = None


def check(target, arguments):
    hold_forward(target, arguments)
    hold_gradients(target, arguments)


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=MUTANTS)
def test_a_broken_kernel_is_caught(target, mutant, edited):
    if target.backend not in mutant.backends:
        pytest.skip(f"{target.backend}'s kernels have nothing of this kind")
    arguments = inputs(mutant.shape, device="cuda", kind="neuron")
    check(target, arguments)
    changed = edited(mutant.direction, mutant.edit)
    with pytest.raises((AssertionError, RuntimeError)) as caught:
        check(target, arguments)
    assert changed, "nothing was changed"
    if mutant.report is None:
        assert caught.type is AssertionError, caught.value
    else:
        assert re.search(mutant.report, str(caught.value)), caught.value


def test_a_spike_at_the_very_threshold(target, edited):
    """V equals the threshold: `greater` in the place of `greater or equal` loses each spike."""
    arguments = {"current": torch.ones(3, 1, 5, device="cuda"), "decay": 0.0, "reset_decay": 0.0, "threshold": 1.0}
    arguments["steps"] = None
    expected, _ = run(arguments, "reference")
    assert expected[0].all()
    equal_bits(run(arguments, target.backend)[0], expected, "spikes")
    for strict in (_every(r"setp\.ge\.f32", "setp.gt.f32"), _every(r"setp\.ltu?\.f32", "setp.le.f32")):
        edited("forward", strict)
        if not torch.equal(run(arguments, target.backend)[0], expected):
            return
    pytest.fail("no comparison decides the spike")
