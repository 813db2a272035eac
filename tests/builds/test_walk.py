"""The walk through machine code, on code written by hand."""

import struct

import pytest

from benchmarks.gpu.machine_code import _parse
from benchmarks.gpu.walk import CACHE_LATENCY, MEMORY_LATENCY, UnknownError, walk

LOOP = """
        /*0000*/                   LDC R0, c[0x0][0x210] ;
        /*0010*/                   IADD3 R0, R0, -0x1, RZ ;
        /*0020*/                   LDG.E.64.CONSTANT R2, desc[UR4][R4.64] ;
        /*0030*/              @!P1 STG.E desc[UR4][R4.64+0x10], R2 ;
        /*0040*/                   ISETP.GT.AND P0, PT, R0, RZ, PT ;
        /*0050*/               @P0 BRA 0x10 ;
        /*0060*/                   EXIT ;
"""
# All loads are asked for at first.
ASKED = "        /*0008*/                   CCTL.E.PF2 [R6] ;" + LOOP
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


@pytest.mark.parametrize(("limit", "instructions"), [(1 << 32, 7), ((1 << 32) + 1, 9), (1, 7)])
def test_numbers_of_64_bits(limit, instructions):
    assert walk(_parse(CARRY), struct.pack("<q", limit), 90, 64).instructions == instructions


def test_a_branch_on_what_memory_holds_is_an_error():
    with pytest.raises(UnknownError, match="0x20: P0 BRA"):
        walk(_parse(UNKNOWN), b"", 90, 64)
