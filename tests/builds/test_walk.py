"""The walk through machine code, on code written by hand."""

import struct

import pytest

from benchmarks.gpu.machine_code import _parse
from benchmarks.gpu.walk import CACHE_LATENCY, MEMORY_LATENCY, UnknownError, walk

LOOP = """
        /*0000*/                   LDC R0, c[0x0][0x210] ;
        /*0010*/                   IADD3 R0, R0, -0x1, RZ ;
        /*0020*/                   LDG.E.64.CONSTANT R2, desc[UR4][R4.64] ;
        /*0030*/              @!P1 STG.E desc[UR4][R4.64+0x1000], R2 ;
        /*0040*/                   ISETP.GT.AND P0, PT, R0, RZ, PT ;
        /*0050*/               @P0 BRA 0x10 ;
        /*0060*/                   EXIT ;
"""
# All loads are asked for at first.
ASKED = "        /*0008*/                   CCTL.E.PF2 [R6] ;" + LOOP
# What is loaded was stored.
STORED = LOOP.replace("+0x1000", "+0x10")
# Each thread asks for the sector of its number, and loads a sector in every turn.
NEIGHBOURS = """
        /*0000*/                   S2R R6, SR_TID.X ;
        /*0010*/                   LDC R0, c[0x0][0x210] ;
        /*0020*/                   IMAD R6, R6, 0x20, RZ ;
        /*0030*/                   CCTL.E.PF2 [R6] ;
        /*0040*/                   IADD3 R0, R0, -0x1, RZ ;
        /*0050*/                   LDG.E.U16.CONSTANT R2, desc[UR4][R4.64] ;
        /*0060*/                   IADD3 R4, R4, 0x20, RZ ;
        /*0070*/                   FADD R3, R2, R2 ;
        /*0080*/                   ISETP.GT.AND P0, PT, R0, RZ, PT ;
        /*0090*/               @P0 BRA 0x40 ;
        /*00a0*/                   EXIT ;
"""
# A load that does not run, and a chain of arithmetic behind its register.
CHAIN = """
        /*0000*/                   ISETP.GT.AND P0, PT, RZ, RZ, PT ;
        /*0010*/               @P0 LDG.E R2, desc[UR4][R4.64] ;
        /*0020*/                   FADD R2, R2, R2 ;
        /*0030*/                   FADD R2, R2, R2 ;
        /*0040*/                   FADD R2, R2, R2 ;
        /*0050*/                   EXIT ;
"""
# The quotient of the parameter and 7, as compilers guess it, and the upper half of an address behind a carry.
QUOTIENT = """
        /*0000*/                   LDC R0, c[0x0][0x210] ;
        /*0010*/                   I2F.U32.RP R2, 0x7 ;
        /*0020*/                   MUFU.RCP R2, R2 ;
        /*0030*/                   IADD3 R2, R2, 0xffffffe, RZ ;
        /*0040*/                   F2I.FTZ.U32.TRUNC.NTZ R2, R2 ;
        /*0050*/                   IMAD.HI.U32 R3, R2, R0, RZ ;
        /*0060*/                   MOV R4, 0xffffffff ;
        /*0070*/                   LEA R5, P0, R3, R4, 0x1 ;
        /*0080*/                   LEA.HI.X R5, R3, RZ, RZ, 0x1, P0 ;
        /*0090*/                   LOP3.LUT P1, RZ, R5, 0x1, RZ, 0xc0, !PT ;
        /*00a0*/               @P1 EXIT ;
        /*00b0*/                   NOP ;
        /*00c0*/                   EXIT ;
"""
# A 64-bit comparison of 2^32 - 1 + 1 with the parameter, by a carry.
CARRY = """
        /*0000*/                   MOV R0, 0xffffffff ;
        /*0010*/                   IADD3 R2, P1, R0, 0x1, RZ ;
        /*0020*/                   IMAD.X R3, RZ, RZ, RZ, P1 ;
        /*0030*/                   LDC.64 R4, c[0x0][0x210] ;
        /*0040*/                   ISETP.GE.U32.AND P0, PT, R2, R4, PT ;
        /*0050*/                   ISETP.GE.AND.EX P0, PT, R3, R5, PT, P0 ;
        /*0060*/               @P0 EXIT ;
        /*0070*/                   NOP ;
        /*0080*/                   EXIT ;
"""
# A jump by a table: its second entry leads to the end, its first one to the instruction before.
TABLE = """
        /*0000*/                   LDC R0, c[0x0][0x210] ;
        /*0010*/                   IMAD.SHL.U32 R0, R0, 0x4, RZ ;
        /*0020*/                   LDC R2, c[0x2][R0+0x4] ;
        /*0030*/                   BRX R2 -0x40 ;
        /*0040*/                   NOP ;
        /*0050*/                   NOP ;
        /*0060*/                   EXIT ;
"""
UNKNOWN = """
        /*0000*/                   LDG.E R2, desc[UR4][R4.64] ;
        /*0010*/                   ISETP.NE.AND P0, PT, R2, RZ, PT ;
        /*0020*/               @P0 BRA 0x0 ;
        /*0030*/                   EXIT ;
"""


@pytest.mark.parametrize("turns", [1, 4])
def test_a_loop_is_walked_as_often_as_its_parameter_says(turns):
    walked = walk(_parse(LOOP), struct.pack("<i", turns), 90, 64)
    assert walked.instructions == 2 + 5 * turns
    # The store runs where its guard, which nothing set, may be true.
    assert walked.bytes == {"LDG": 8 * turns, "STG": 4 * turns}
    # Every store waits for its load.
    assert turns * MEMORY_LATENCY < walked.clocks < turns * (MEMORY_LATENCY + 50) + 50


def test_what_was_asked_for_comes_from_the_cache():
    first, fourth = (walk(_parse(ASKED), struct.pack("<i", turns), 90, 64).clocks for turns in (1, 4))
    assert MEMORY_LATENCY < first < MEMORY_LATENCY + 50
    assert 3 * CACHE_LATENCY < fourth - first < 3 * (CACHE_LATENCY + 50)


def test_what_was_stored_comes_from_the_cache():
    first, fourth = (walk(_parse(STORED), struct.pack("<i", turns), 90, 64).clocks for turns in (1, 4))
    assert first > MEMORY_LATENCY
    assert 3 * CACHE_LATENCY < fourth - first < 3 * (CACHE_LATENCY + 50)


def test_threads_that_share_sectors_ask_for_each_other():
    """Elements of 2 bytes: 16 threads, and what a 17th would ask for comes from the memory."""
    fourth, last, none = (walk(_parse(NEIGHBOURS), struct.pack("<i", turns), 90, 64).clocks for turns in (4, 16, 17))
    assert MEMORY_LATENCY + 3 * CACHE_LATENCY < fourth < MEMORY_LATENCY + 3 * (CACHE_LATENCY + 50)
    assert 12 * CACHE_LATENCY < last - fourth < 12 * (CACHE_LATENCY + 50)
    assert none - last > MEMORY_LATENCY


def test_a_load_that_does_not_run_takes_no_time_and_arithmetic_only_that_of_its_chain():
    walked = walk(_parse(CHAIN), b"", 90, 64)
    assert walked.waiting == walked.instructions == 6
    assert 3 * 4 < walked.clocks < 6 * 5 + 1


@pytest.mark.parametrize(("dividend", "instructions"), [(6, 13), (8, 11), (7 << 20, 11)])
def test_a_quotient_and_a_carry_decide_a_branch(dividend, instructions):
    assert walk(_parse(QUOTIENT), struct.pack("<I", dividend), 90, 64).instructions == instructions


@pytest.mark.parametrize(("limit", "instructions"), [(1 << 32, 7), ((1 << 32) + 1, 9), (1, 7)])
def test_numbers_of_64_bits(limit, instructions):
    assert walk(_parse(CARRY), struct.pack("<q", limit), 90, 64).instructions == instructions


@pytest.mark.parametrize(("entry", "instructions"), [(0, 6), (1, 5)])
def test_a_jump_by_a_table(entry, instructions):
    tables = struct.pack("<3i", 0, 0x50, 0x60)
    assert walk(_parse(TABLE), struct.pack("<i", entry), 90, 64, tables).instructions == instructions


def test_a_jump_without_its_table_is_an_error():
    with pytest.raises(UnknownError, match="0x30: BRX"):
        walk(_parse(TABLE), struct.pack("<i", 0), 90, 64)


def test_a_branch_on_what_memory_holds_is_an_error():
    with pytest.raises(UnknownError, match="0x20: P0 BRA"):
        walk(_parse(UNKNOWN), b"", 90, 64)
