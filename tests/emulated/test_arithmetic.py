"""The instructions of the emulator against Python's integers, exact fractions, and torch's conversions."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from support.ptx import compute, run

GENERATOR = np.random.default_rng(20210521)
EDGES = np.array([0, 1, 2, 3, 31, 32, 33, 0x7FFFFFFF, 0x80000000, 0x80000001, 0xFFFFFFFE, 0xFFFFFFFF], np.uint32)
WORDS = np.concatenate([EDGES, GENERATOR.integers(0, 2**32, 52, np.uint32)])
OTHERS = np.concatenate([EDGES[::-1], GENERATOR.integers(0, 2**32, 52, np.uint32)])
THIRDS = GENERATOR.integers(0, 2**32, 64, np.uint32)
SPECIAL = np.array(
    [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 1e-38, 3.4e38, 0.5, 1.5, 2.5, 65520.0, 6e-8]
)
FLOATS = np.concatenate([SPECIAL, GENERATOR.standard_normal(112) * 10.0 ** GENERATOR.integers(-30, 30, 112)]).astype(
    np.float32
)


def signed(x):
    return int(np.uint32(x).view(np.int32))


def one(bits, low, count):
    return (bits >> low) & ((1 << count) - 1)


INTEGERS = {
    "add.s32 to, a, b": lambda a, b, c: a + b,
    "sub.u32 to, a, b": lambda a, b, c: a - b,
    "mul.lo.s32 to, a, b": lambda a, b, c: a * b,
    "mul.hi.u32 to, a, b": lambda a, b, c: (a * b) >> 32,
    "mul.hi.s32 to, a, b": lambda a, b, c: (signed(a) * signed(b)) >> 32,
    "mad.lo.s32 to, a, b, c": lambda a, b, c: a * b + c,
    "min.s32 to, a, b": lambda a, b, c: min(signed(a), signed(b)),
    "max.u32 to, a, b": lambda a, b, c: max(a, b),
    "neg.s32 to, a": lambda a, b, c: -a,
    "and.b32 to, a, b": lambda a, b, c: a & b,
    "xor.b32 to, a, b": lambda a, b, c: a ^ b,
    "not.b32 to, a": lambda a, b, c: ~a,
    "shl.b32 to, a, b": lambda a, b, c: a << b if b < 32 else 0,
    "shr.u32 to, a, b": lambda a, b, c: a >> b if b < 32 else 0,
    "shr.s32 to, a, b": lambda a, b, c: signed(a) >> min(b, 31),
    "shf.l.wrap.b32 to, a, b, c": lambda a, b, c: ((b << 32 | a) << (c & 31)) >> 32,
    "shf.r.wrap.b32 to, a, b, c": lambda a, b, c: (b << 32 | a) >> (c & 31),
    "bfe.u32 to, a, 5, 7": lambda a, b, c: one(a, 5, 7),
    "popc.b32 to, a": lambda a, b, c: a.bit_count(),
    "clz.b32 to, a": lambda a, b, c: 32 - a.bit_length(),
    "lop3.b32 to, a, b, c, 0x96": lambda a, b, c: a ^ b ^ c,
    "lop3.b32 to, a, b, c, 0xE8": lambda a, b, c: (a & b) | (a & c) | (b & c),
    "prmt.b32 to, a, b, 0x5410": lambda a, b, c: (b & 0xFFFF) << 16 | a & 0xFFFF,
    "prmt.b32 to, a, b, 0x7632": lambda a, b, c: b >> 16 << 16 | a >> 16,
}
DIVISIONS = {
    "div.s32 to, a, b": lambda a, b: int(Fraction(a, b)),
    "rem.s32 to, a, b": lambda a, b: a - b * int(Fraction(a, b)),
}


@pytest.mark.parametrize("instruction", INTEGERS)
def test_integers(instruction):
    got = compute(instruction, WORDS, OTHERS, THIRDS, result="u32")
    expected = [INTEGERS[instruction](*map(int, abc)) & 0xFFFFFFFF for abc in zip(WORDS, OTHERS, THIRDS, strict=True)]
    assert got.tolist() == expected


@pytest.mark.parametrize("instruction", DIVISIONS)
def test_division_goes_towards_zero(instruction):
    divisors = np.where(OTHERS == 0, 7, OTHERS).astype(np.uint32)
    got = compute(instruction, WORDS, divisors, result="u32")
    expected = [DIVISIONS[instruction](signed(a), signed(b)) & 0xFFFFFFFF for a, b in zip(WORDS, divisors, strict=True)]
    assert got.tolist() == expected


def test_wide_products():
    long = GENERATOR.integers(0, 2**64, 64, np.uint64)
    assert compute("mul.wide.u32 to, a, b", WORDS, OTHERS, result="u64").tolist() == [
        int(a) * int(b) for a, b in zip(WORDS, OTHERS, strict=True)
    ]
    assert compute("mul.wide.s32 to, a, b", WORDS, OTHERS, result="u64").view(np.int64).tolist() == [
        signed(a) * signed(b) for a, b in zip(WORDS, OTHERS, strict=True)
    ]
    assert compute("mul.hi.u64 to, a, b", long, long[::-1], result="u64").tolist() == [
        int(a) * int(b) >> 64 for a, b in zip(long, long[::-1], strict=True)
    ]


def same(got: np.ndarray, expected: np.ndarray) -> None:
    """Check bits; any NaN equals any NaN, for PTX has one of its own."""
    got = got.view(expected.dtype)
    word = f"u{expected.dtype.itemsize}"
    equal = (got.view(word) == expected.view(word)) | (np.isnan(got) & np.isnan(expected))
    assert equal.all(), (got[~equal], expected[~equal])


def test_a_multiply_add_rounds_once():
    # Rounded twice, the first is 0, and the second, by way of float64, 1 ulp less.
    a = np.array([1 + 2.0**-12, 1 + 2.0**-23], np.float32)
    b = np.array([1 - 2.0**-12, 1 + 2.0**-23], np.float32)
    c = np.array([-1, 2.0**-70], np.float32)
    expected = [
        float(Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))) for x, y, z in zip(a, b, c, strict=True)
    ]
    assert compute("fma.rn.f32 to, a, b, c", a, b, c, result="f32").view(np.float32)[0] == np.float32(expected[0]) != 0
    x, y, z = (GENERATOR.standard_normal(4096) for _ in range(3))
    z *= -1
    got = compute("fma.rn.f64 to, a, b, c", x[:512], y[:512], z[:512], result="f64").view(np.float64)
    for r, p, q, s in zip(got, x, y, z, strict=False):
        exact = Fraction(float(p)) * Fraction(float(q)) + Fraction(float(s))
        assert r == exact.numerator / exact.denominator  # Python's division of integers is rounded correctly


@pytest.mark.parametrize("name", ["add", "sub", "mul", "div"])
def test_floats(name):
    a, b = FLOATS, GENERATOR.permutation(FLOATS)
    with np.errstate(all="ignore"):
        expected = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide}[name](a, b)
    same(compute(f"{name}.rn.f32 to, a, b", a, b, result="f32"), expected)


def test_the_sign_alone():
    bits = FLOATS.view(np.uint32)
    assert compute("neg.f32 to, a", FLOATS, result="f32").tolist() == (bits ^ np.uint32(1 << 31)).tolist()
    assert compute("abs.f32 to, a", FLOATS, result="f32").tolist() == (bits & np.uint32(0x7FFFFFFF)).tolist()


def test_the_larger_of_zeros_and_of_a_nan():
    a = np.array([0.0, -0.0, np.nan, 1.0, np.nan], np.float32)
    b = np.array([-0.0, 0.0, 2.0, np.nan, np.nan], np.float32)
    same(compute("max.f32 to, a, b", a, b, result="f32"), np.array([0.0, 0.0, 2.0, 1.0, np.nan], np.float32))
    same(compute("min.f32 to, a, b", a, b, result="f32"), np.array([-0.0, -0.0, 2.0, 1.0, np.nan], np.float32))
    same(compute("max.NaN.f32 to, a, b", a, b, result="f32"), np.array([0.0, 0.0, np.nan, np.nan, np.nan], np.float32))


def test_small_numbers_are_flushed_where_it_is_said():
    a = np.array([1e-40, -1e-40, 2e-38], np.float32)
    same(compute("mul.ftz.f32 to, a, 0f3F800000", a, result="f32"), np.array([0.0, -0.0, 2e-38], np.float32))
    same(compute("mul.f32 to, a, 0f3F800000", a, result="f32"), a)


@pytest.mark.parametrize(("kind", "dtype"), [("bf16", torch.bfloat16), ("f16", torch.float16)])
def test_conversions_to_half_the_bits_and_back(kind, dtype):
    expected = torch.from_numpy(FLOATS).to(dtype)
    narrow = compute(f"cvt.rn.{kind}.f32 to, a", FLOATS, result=kind)
    known = ~torch.isnan(expected).numpy()
    assert narrow[known].tolist() == expected.view(torch.uint16).numpy()[known].tolist()
    everything = np.arange(1 << 16, dtype=np.uint16)[::64]
    wide = torch.from_numpy(everything.view(np.int16)).view(dtype).float().numpy()
    same(compute(f"cvt.f32.{kind} to, a", everything, result="f32"), wide)


@pytest.mark.parametrize(("kind", "dtype"), [("bf16", torch.bfloat16), ("f16", torch.float16)])
def test_sums_of_what_is_narrow(kind, dtype):
    a = torch.from_numpy(FLOATS).to(dtype)
    expected = (a.float() - torch.from_numpy(FLOATS[::-1].copy())).numpy()
    bits = a.view(torch.int16).numpy().view(np.uint16)
    same(compute(f"sub.rn.f32.{kind} to, a, b", bits, FLOATS[::-1], result="f32"), expected)


def test_conversions_of_integers():
    a = np.array([1e20, -1e20, np.nan, 2.5, -2.5, 3.5, 0.4], np.float32)
    got = {
        way: compute(f"cvt.{way}.s32.f32 to, a", a, result="u32").view(np.int32).tolist()
        for way in ("rni", "rzi", "rmi")
    }
    limits = [2**31 - 1, -(2**31), 0]
    assert got == {"rni": [*limits, 2, -2, 4, 0], "rzi": [*limits, 2, -2, 3, 0], "rmi": [*limits, 2, -3, 3, 0]}
    same(compute("cvt.rn.f32.u32 to, a", WORDS, result="f32"), WORDS.astype(np.float32))
    assert compute("cvt.s64.s32 to, a", WORDS, result="u64").view(np.int64).tolist() == [signed(w) for w in WORDS]


@pytest.mark.parametrize(("name", "function"), [("ex2.approx", np.exp2), ("lg2.approx", np.log2), ("sqrt.rn", np.sqrt)])
def test_functions_are_rounded_correctly(name, function):
    a = np.abs(GENERATOR.standard_normal(64)).astype(np.float32)
    expected = function(a.astype(np.longdouble)).astype(np.float32)
    same(compute(f"{name}.f32 to, a", a, result="f32"), expected)


@pytest.mark.parametrize("compare", ["eq", "ne", "lt", "ge", "equ", "neu", "ltu", "geu", "nan", "num"])
def test_comparisons_with_nan(compare):
    a, b = (x.ravel() for x in np.meshgrid(SPECIAL[:8], SPECIAL[:8]))
    plain = {"eq": np.equal, "ne": np.not_equal, "lt": np.less, "ge": np.greater_equal}
    nan = np.isnan(a) | np.isnan(b)
    expected = {"nan": nan, "num": ~nan}.get(compare)
    if expected is None:
        expected = plain[compare[:2]](a, b) | nan if compare.endswith("u") else plain[compare](a, b) & ~nan
    got = compute(f"setp.{compare}.f64 to, a, b", a, b, result="pred")
    assert got.astype(bool).tolist() == expected.tolist()


def test_loops_of_different_lengths():
    """Thread i adds i times; odd threads take another way, and all meet again."""
    out = np.zeros(64, np.uint32)
    run(
        "mov.b32 %r2, 0; mov.b32 %r3, 0; loop: setp.ge.u32 %p0, %r2, %r0; @%p0 bra done; add.u32 %r3, %r3, 2;"
        "and.b32 %r4, %r0, 1; setp.eq.u32 %p1, %r4, 1; @%p1 add.u32 %r3, %r3, 1; add.u32 %r2, %r2, 1; bra.uni loop;"
        "done: st.global.b32 [%d0], %r3;",
        out,
        grid=2,
    )
    assert out.tolist() == [i * (3 if i % 2 else 2) for i in range(64)]


def test_an_indexed_branch():
    out = np.zeros(32, np.uint32)
    run(
        "and.b32 %r2, %r0, 3; targets: .branchtargets zero, one, two, three; brx.idx %r2, targets;"
        "zero: mov.b32 %r3, 10; bra.uni end; one: mov.b32 %r3, 11; bra.uni end; two: mov.b32 %r3, 12; bra.uni end;"
        "three: mov.b32 %r3, 13; end: st.global.b32 [%d0], %r3;",
        out,
    )
    assert out.tolist() == [10 + i % 4 for i in range(32)]


@pytest.mark.parametrize("bits", [1, 6, 16, 31])
def test_a_shuffle_of_a_warp(bits):
    out = np.zeros(128, np.uint32)
    run(f"shfl.sync.bfly.b32 %r2, %r0, {bits}, 31, -1; st.global.b32 [%d0], %r2;", out, block=64, grid=2)
    assert out.tolist() == [i ^ bits for i in range(128)]


def test_the_halves_of_a_register():
    a = GENERATOR.integers(0, 2**64, 32, np.uint64)
    out = np.zeros(32, np.uint64)
    run("ld.global.b64 %d3, [%d0]; mov.b64 {%r2, %r3}, %d3; mov.b64 %d4, {%r3, %r2}; st.global.b64 [%d1], %d4;", a, out)
    assert out.tolist() == [(int(x) & 0xFFFFFFFF) << 32 | int(x) >> 32 for x in a]
