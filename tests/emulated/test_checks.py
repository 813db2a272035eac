"""The emulator's reports: each kind of wrong access in a kernel of a few lines, and the right kernel beside it."""

import numpy as np
import pytest

from emulator import machine
from emulator.memory import Report
from emulator.parse import PTXError
from support.ptx import run

SHARED = "shl.b32 %r2, %r1, 2; st.shared.b32 [%r2], %r0; "
# The address of the neighbour's word of shared memory, that of thread 1 being the one of thread 0.
NEIGHBOUR = "xor.b32 %r3, %r2, 4; "
RIGHT = {
    "its own element": "ld.global.b32 %r2, [%d0]; st.global.b32 [%d1], %r2;",
    "a prefetch of its own element": "prefetch.global.L2 [%d0]; st.global.b32 [%d1], %r0;",
    "a vector": "and.b32 %r2, %r0, 1; setp.eq.u32 %p0, %r2, 1; @%p0 bra end;"
    "ld.global.v2.b32 {%r2, %r3}, [%d0]; st.global.v2.b32 [%d1], {%r2, %r3}; end:",
    "read by all, written by none": "ld.param.u64 %d3, [a0]; ld.global.nc.b32 %r2, [%d3];",
    "its own store": "st.global.b32 [%d1], %r0; ld.global.b32 %r2, [%d1]; st.global.b32 [%d1], %r2;",
    "shared with a barrier": SHARED + NEIGHBOUR + "bar.sync 0; ld.shared.b32 %r4, [%r3]; st.global.b32 [%d1], %r4;",
    "shared back and forth": SHARED + NEIGHBOUR + "bar.sync 0; ld.shared.b32 %r4, [%r3]; bar.sync 0; "
    "st.shared.b32 [%r2], %r4; bar.sync 0; ld.shared.b32 %r4, [%r3]; st.global.b32 [%d1], %r4;",
    "one value by all to one place": "mov.b32 %r2, 0; st.shared.b32 [%r2], 7; bar.sync 0; ld.shared.b32 %r4, [%r2];",
    "a barrier where some have ended": "setp.gt.u32 %p0, %r1, 3; @%p0 ret; bar.sync 0;",
}
WRONG = {
    "a load behind the end": ("ld.global.b32 %r2, [%d0+4];", "out of bounds.*1 of 64 threads"),
    "a store behind the end": ("st.global.b32 [%d1+4], %r0;", "out of bounds"),
    "a load before the start": ("ld.global.b32 %r2, [%d0+-4];", "out of bounds"),
    "a prefetch behind the end": ("prefetch.global.L2 [%d0+4];", "out of bounds"),
    "a misaligned load": ("ld.global.b32 %r2, [%d0+2];", "misaligned"),
    "a misaligned vector": ("ld.global.v2.b32 {%r2, %r3}, [%d0+-4];", "misaligned"),
    "all threads store to one place": ("ld.param.u64 %d3, [a1]; st.global.b32 [%d3], %r0;", "race: two threads write"),
    "a store to what another thread reads": (
        "ld.param.u64 %d3, [a0]; ld.global.b32 %r2, [%d3]; st.global.b32 [%d0], %r2;", "race: it writes what another"),
    "a load of what another thread writes": (
        "st.global.b32 [%d1], %r0; ld.param.u64 %d3, [a1]; ld.global.b32 %r2, [%d3];", "race: it reads what another"),
    "a barrier between threads of two blocks": (
        "st.global.b32 [%d1], %r0; bar.sync 0; ld.param.u64 %d3, [a1]; ld.global.b32 %r2, [%d3];",
        "race: it reads what another"),
    "a double store": ("st.global.b32 [%d1], %r0; st.global.b32 [%d1], %r0;", "double store"),
    "a non-coherent load of what was stored": (
        "st.global.b32 [%d1], %r0; ld.global.nc.b32 %r2, [%d1];", "non-coherent load"),
    "a store to what was loaded non-coherently": (
        "ld.global.nc.b32 %r2, [%d0]; st.global.b32 [%d0], %r2;", "loads non-coherently"),
    "shared without a barrier": (SHARED + NEIGHBOUR + "ld.shared.b32 %r4, [%r3];", "race: it reads"),
    "shared with the second barrier missing": (
        SHARED + NEIGHBOUR + "bar.sync 0; ld.shared.b32 %r4, [%r3]; st.shared.b32 [%r2], %r4;", "race: it writes"),
    "values to one place": ("mov.b32 %r2, 0; st.shared.b32 [%r2], %r0;", "race: two threads write one place in one"),
    "shared that nothing wrote": ("shl.b32 %r2, %r1, 2; ld.shared.b32 %r3, [%r2];", "nothing has written"),
    "shared behind its end": ("shl.b32 %r2, %r1, 2; st.shared.b32 [%r2+4], %r0;", "out of bounds.*shared"),
    "a register that nothing wrote": ("add.u32 %r2, %r9, 1;", "%r9, which nothing has written"),
    "a shuffle of a part of the warp": (
        "setp.gt.u32 %p0, %r1, 3; @%p0 bra end; shfl.sync.bfly.b32 %r2, %r0, 1, 31, -1; end:", "not all threads"),
    "two barriers": (
        "setp.gt.u32 %p0, %r1, 3; @%p0 bra other; bar.sync 0; ret; other: bar.sync 0;", "different barriers"),
    "a division by zero": ("mov.b32 %r2, 0; div.s32 %r3, %r0, %r2;", "division by zero"),
    "a failed assertion": ("setp.eq.u32 %p0, %r0, 33; @!%p0 bra end; trap; end:", "assertion"),
    "a parameter behind the last": ("ld.param.u64 %d3, [a1+8];", "out of bounds.*param"),
}  # fmt: skip


def arrays():
    # Apart from each other, so that what lies behind one is in none.
    memory = np.zeros(4096, np.uint32)
    return memory[1024:1088], memory[2048:2112]


@pytest.mark.parametrize("body", RIGHT.values(), ids=RIGHT)
def test_what_is_right_runs(body):
    run(body, *arrays(), grid=2, shared=128)


@pytest.mark.parametrize(("body", "report"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_reported(body, report):
    with pytest.raises(Report, match=report):
        run(body, *arrays(), grid=2, shared=128)


def test_a_report_names_the_kernel_and_the_instruction():
    with pytest.raises(Report, match=r"kernel: .* at instruction 11: ld.global.b32 %r2, \[%d0\+4\]"):
        run("ld.global.b32 %r2, [%d0+4];", *arrays(), grid=2)


def test_a_loop_without_end_is_reported(monkeypatch):
    monkeypatch.setattr(machine, "LIMIT", 1000)
    with pytest.raises(Report, match="no end"):
        run("again: bra again;", *arrays())


UNKNOWN = ("red.global.add.u32 [%d0], %r0;", "add.rz.f32 %r2, %r0, %r0;", "vote.sync.any.pred %p0, %p0, -1;",
           "shfl.sync.bfly.b32 %r2, %r0, 1, 31, 15;", "shfl.sync.up.b32 %r2, %r0, 1, 0, -1;",
           "ld.global.b32 %unknown, [%d0];", "st.release.gpu.global.b32 [%d0], %r0;")  # fmt: skip


@pytest.mark.parametrize("body", UNKNOWN)
def test_what_the_emulator_does_not_know_is_an_error(body):
    with pytest.raises(PTXError):
        run(body, *arrays())
