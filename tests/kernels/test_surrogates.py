"""The surrogates against their publications, and the generated files against the list."""

import importlib.util
import math
import os
import shutil
import subprocess

import pytest
import torch

import hnn_kernels
from hnn_kernels import SURROGATES
from hnn_kernels._generate import surrogates as generate
from hnn_kernels._generate.expressions import SYMBOLS
from hnn_kernels.surrogates import Surrogate, TensorMath
from support.layers import WIDTHS, gradients, inputs
from support.targets import dtype_id

# -- the formulas ------------------------------------------------------------------------------------------------------

# P or P' of x at the width w, written as in the publication and with its parameters.
PUBLISHED_PRIMITIVES = {
    # Muramatsu & Yu 2021, eq. 5.
    "gaussian": lambda x, w: 0.5 * math.erfc(-x / (math.sqrt(2) * w)),
    # SpikingJelly: Sigmoid(alpha), alpha = 1 / w.
    "sigmoid": lambda x, w: 1 / (1 + math.exp(-x / w)),
    # SpikingJelly: ATan(alpha), arctan(pi/2 alpha x) / pi + 1/2; pi/2 alpha = 1 / w.
    "arctan": lambda x, w: math.atan(math.pi / 2 * (2 / (math.pi * w)) * x) / math.pi + 0.5,
}
PUBLISHED_DENSITIES = {
    # Muramatsu & Yu 2021, eq. 6.
    "gaussian": lambda x, w: math.exp(-(x**2) / (2 * w**2)) / (math.sqrt(2 * math.pi) * w),
    # Fang et al. 2021: alpha / 2 / (1 + (pi/2 alpha x)^2).
    "arctan": lambda x, w: (1 / (math.pi * w)) / (1 + (x / w) ** 2),
    # Zenke & Ganguli 2018: (beta |x| + 1)^-2, of which the area is 2 / beta.
    "fast_sigmoid": lambda x, w: (abs(x) / w + 1) ** -2 / (2 * w),
    # Bellec et al. 2018: gamma max(0, 1 - |v|) with v = x / w.
    "triangle": lambda x, w: max(0.0, 1 - abs(x / w)) / w,
    # Wu et al. 2018, eq. 24: 1 / a where |x| < a / 2.
    "rectangle": lambda x, w: (1 / (2 * w)) * (abs(x) < (2 * w) / 2),
    # sinabs' SingleExponential: grad_scale exp(-|V - V_th| / abs_width), of which the area is 2 abs_width.
    "exponential": lambda x, w: math.exp(-abs(x) / w) / (2 * w),
    "periodic_exponential": lambda x, w: periodic(x, w, 1.0),
}


def periodic(x: float, w: float, threshold: float) -> float:
    """sinabs' PeriodicExponential, as its code has it, with the first peak's area of 1."""
    v = x + threshold
    shifted = v - threshold / 2
    nearest = shifted % threshold if v >= threshold else shifted
    return math.exp(-abs(nearest - threshold / 2) / w) / (2 * w)


# A single peak, and with it an area of 1.
SINGLE = [name for name, surrogate in SURROGATES.items() if not surrogate.periodic]


def test_each_has_a_published_formula():
    assert set(SURROGATES) == PUBLISHED_PRIMITIVES.keys() | PUBLISHED_DENSITIES.keys()


def points(width: float, reach: float = 4.0) -> torch.Tensor:
    """Distances to the threshold, none of them at 0 or +-width, where the triangle and the rectangle have kinks."""
    return width * torch.linspace(-1.00325 * reach, 1.00225 * reach, 1001, dtype=torch.float64)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    ("function", "surrogate"),
    [("primitive", name) for name in PUBLISHED_PRIMITIVES] + [("density", name) for name in PUBLISHED_DENSITIES],
)
def test_is_what_was_published(function, surrogate, width):
    published = {"primitive": PUBLISHED_PRIMITIVES, "density": PUBLISHED_DENSITIES}[function][surrogate]
    x = points(width)
    expected = torch.tensor([published(value, width) for value in x.tolist()], dtype=torch.float64)
    torch.testing.assert_close(getattr(SURROGATES[surrogate], function)(x, width), expected, rtol=1e-13, atol=0)


@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize("width", WIDTHS)
def test_density_is_the_derivative_of_the_primitive(surrogate, width):
    primitive, density = SURROGATES[surrogate].primitive, SURROGATES[surrogate].density
    x = points(width).requires_grad_()
    (derivative,) = torch.autograd.grad(primitive(x, width).sum(), x)
    torch.testing.assert_close(density(x, width).detach(), derivative, rtol=1e-12, atol=1e-13)
    h = 1e-6 * width
    numeric = (primitive(x + h, width) - primitive(x - h, width)) / (2 * h)
    torch.testing.assert_close(density(x, width), numeric, rtol=1e-5, atol=1e-5 / width)


@pytest.mark.parametrize("surrogate", SINGLE)
@pytest.mark.parametrize("width", WIDTHS)
def test_density_integrates_to_one(surrogate, width):
    """Over all x = w tan(u), so that the heavy tails are in; the rectangle's edges cost a step of the grid."""
    u = torch.linspace(-math.pi / 2, math.pi / 2, 200_002, dtype=torch.float64)[1:-1]
    density = SURROGATES[surrogate].density(width * u.tan(), width)
    assert (density >= 0).all()
    assert torch.trapezoid(density * width / u.cos().square(), u).item() == pytest.approx(1, abs=2e-5)


@pytest.mark.parametrize("surrogate", SINGLE)
def test_primitive_is_a_step(surrogate):
    """From 0 to 1, one half at the threshold, symmetric about it, never down, and finite however far."""
    primitive, density = SURROGATES[surrogate].primitive, SURROGATES[surrogate].density
    x = torch.linspace(-50, 50, 20_001, dtype=torch.float64)
    y = primitive(x, 0.4)
    assert primitive(torch.zeros(1, dtype=torch.float64), 0.4).item() == 0.5
    torch.testing.assert_close(y + y.flip(0), torch.ones_like(y), rtol=0, atol=1e-12)
    assert (y.diff() >= 0).all()
    assert ((y >= 0) & (y <= 1)).all()
    far = torch.tensor([-1e30, -1e4, 1e4, 1e30]).requires_grad_()
    step = primitive(far, 0.4)
    torch.testing.assert_close(step, (far > 0).float(), rtol=0, atol=1e-4)
    for slope in (density(far, 0.4), *torch.autograd.grad(step.sum(), far)):
        torch.testing.assert_close(slope, torch.zeros(4), rtol=0, atol=1e-6)


def test_every_surrogate_has_its_number_formula_and_source():
    assert [s.number for s in SURROGATES.values()] == list(range(len(SURROGATES)))
    for surrogate in SURROGATES.values():
        assert surrogate.formula
        assert surrogate.source


# -- on every backend --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=dtype_id)
def test_every_backend_has_every_surrogate(any_target, dtype):
    """One step of a neuron without decay, from far below the threshold to far above, and at it."""
    v = 1 + torch.cat([points(0.4)[::32], points(0.4, reach=100)[::40], torch.zeros(1)]).to(any_target.device, dtype)
    x = v - 1
    for name, surrogate in SURROGATES.items():
        for smooth in (False, True):
            current = v[None, None].requires_grad_()
            out, _ = hnn_kernels.lif(
                current, 0.0, threshold=1.0, reset_decay=None, reset="none", sigma=0.4, surrogate=name,
                surrogate_scale=1.5, smooth=smooth, backend=any_target.backend,
            )  # fmt: skip
            (slope,) = torch.autograd.grad(out.sum(), current)
            expected = surrogate.primitive(x, 0.4, 1.5) if smooth else (x >= 0).to(dtype)
            near = 8 * torch.finfo(dtype).eps
            torch.testing.assert_close(out[0, 0], expected, rtol=near, atol=near, msg=name)
            torch.testing.assert_close(slope[0, 0], surrogate.density(x, 0.4, 1.5), rtol=near, atol=near, msg=name)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("period", [0.3, 1.0, 7.0])
def test_a_periodic_one(width, period):
    """It is sinabs', and P rises at every peak by the area between its neighbours."""
    surrogate = SURROGATES["periodic_exponential"]
    x = torch.linspace(-3.003, 9.1, 5000, dtype=torch.float64).requires_grad_()
    density = surrogate.density(x.detach(), width, period=period)
    expected = torch.tensor([periodic(value, width, period) for value in x.tolist()], dtype=torch.float64)
    torch.testing.assert_close(density, expected, rtol=1e-9, atol=1e-12)
    p = surrogate.primitive(x, width, period=period)
    torch.testing.assert_close(torch.autograd.grad(p.sum(), x)[0], density, rtol=1e-9, atol=1e-12)
    assert (p.diff() >= 0).all()
    assert p.diff().max() <= 1.01 * (x[1] - x[0]) * density.max()  # no jump from one peak to the next


@pytest.mark.parametrize("smooth", [False, True], ids=["hard", "smooth"])
@pytest.mark.parametrize("surrogate", SURROGATES)
def test_a_scale_is_a_factor(any_target, surrogate, smooth):
    arguments = inputs((6, 2, 40), dtype=torch.float64, device=any_target.device, reset="none")
    options = {"surrogate": surrogate, "smooth": smooth, "through": ("out",)}
    one = gradients(arguments, any_target.backend, **options)
    twice = gradients(arguments, any_target.backend, surrogate_scale=2.0, **options)
    for name, gradient in one.items():
        torch.testing.assert_close(twice[name], 2 * gradient, rtol=1e-12, atol=1e-14, msg=name)
    assert one["current"].any()


def test_surrogates_differ(any_target):
    """Every name stands for another function, in the kernels too."""
    arguments = inputs((6, 2, 40), dtype=torch.float64, device=any_target.device)
    found = [gradients(arguments, any_target.backend, surrogate=name)["current"] for name in SURROGATES]
    for i, one in enumerate(found):
        assert one.any()
        assert not any(torch.allclose(one, other, rtol=1e-3) for other in found[:i])


# -- what is generated -------------------------------------------------------------------------------------------------


# One more, whose two lines have every operator and function.


def new_primitive(x, e, m):
    s = e.inverse
    half = 0.5 * m.exp2(-m.abs(x * s))
    return m.where(x < 0, half, 1 - half) * m.where(x < 0, 2, s) - m.atan(-(x - (s - x))) - (1 - (2 - x)) * -s


def new_density(x, e, m):
    s = e.height
    chosen = m.where(x <= s, m.where(x > -1, m.erfc(x), m.fma(x, s, -x)), 2)
    return chosen / (1 + x * x) / (s / (x * x + 3)) * m.where(x >= 2, x, 0.1) + m.round(x / e.period)


NEW = Surrogate(len(SURROGATES), new_primitive, new_density, "", "")
LONGER = SURROGATES | {"a_new_one": NEW}
X = torch.linspace(-3, 3, 64, dtype=torch.float64)
EXPECTED = torch.stack(
    [torch.stack([s.primitive(X, 0.4, period=1.25), s.density(X, 0.4, 1.5, 1.25)]) for s in LONGER.values()]
)

PROGRAM = """
#include <cmath>
#include <cstdio>
#define HNN_NAMESPACE trial
#define HNN_INLINE inline
namespace trial {
template <class V> V broadcast(double x) { return x; }
double abs_(double x) { return std::fabs(x); }
double exp2_(double x) { return std::exp2(x); }
double scaled_exp2_(double x, double scale) { return std::exp2(x) * scale; }
double erfc_(double x) { return std::erfc(x); }
double atan_(double x) { return std::atan(x); }
double round_(double x) { return std::nearbyint(x); }
double fma_(double a, double b, double c) { return a * b + c; }
double where_(bool chosen, double a, double b) { return chosen ? a : b; }
}
#include "surrogates.h"
int main() {
  double x;
  while (std::scanf("%lf", &x) == 1) {
    for (int i = 0; i < trial::kSurrogates; ++i) {
      std::printf("%.17g %.17g ", trial::primitive(i, x, 2.5, 1.25), trial::density(i, x, 2.5, 1.5, 1.25));
    }
  }
  return trial::kANewOne == trial::kSurrogates - 1 ? 0 : 1;
}
"""


def test_a_new_one_in_cpp(tmp_path):
    compiler = os.environ.get("CXX") or shutil.which("c++")
    if compiler is None:
        pytest.skip("there is no C++ compiler")
    (tmp_path / "surrogates.h").write_text(generate.cpp(LONGER))
    (tmp_path / "program.cpp").write_text(PROGRAM)
    flags = ["-std=c++17", "-Wall", "-Werror"]
    done = subprocess.run(
        [compiler, *flags, "program.cpp", "-o", "program"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    given = " ".join(map(repr, X.tolist()))
    done = subprocess.run([tmp_path / "program"], input=given, capture_output=True, text=True, check=True)
    found = torch.tensor([float(number) for number in done.stdout.split()], dtype=torch.float64)
    torch.testing.assert_close(found.reshape(64, -1, 2).permute(1, 2, 0), EXPECTED, rtol=1e-12, atol=1e-14)


KERNEL = """

@triton.jit
def both(x, out, surrogate: tl.constexpr):
    at = tl.arange(0, 64)
    inverse_width = tl.full((64,), 2.5, tl.float64)
    scale = tl.full((64,), 1.5, tl.float64)
    period = tl.full((64,), 1.25, tl.float64)
    tl.store(out + at, primitive(tl.load(x + at), inverse_width, period, surrogate))
    tl.store(out + 64 + at, density(tl.load(x + at), inverse_width, scale, period, surrogate))
"""


def test_a_new_one_in_triton(tmp_path):
    pytest.importorskip("triton")
    path = tmp_path / "trial.py"
    path.write_text(generate.triton(LONGER) + KERNEL)
    spec = importlib.util.spec_from_file_location("hnn_kernels._triton.trial", path)
    trial = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(trial)
    x = X.to("cuda" if torch.cuda.is_available() else "cpu")
    found = [torch.empty(2, 64, dtype=x.dtype, device=x.device) for _ in LONGER]
    for number, out in enumerate(found):
        trial.both[1,](x, out, number)
    torch.testing.assert_close(torch.stack(found).cpu(), EXPECTED, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("formula", "says"),
    [
        (lambda x, e, m: m.where(x > 0, 1 / 3, 0), "numbers 0.333.*, 0"),
        (lambda x, e, m: e.height if x > 0 else x, "m.where"),
        (lambda x, e, m: 0 if 0 < x < 1 else x, "m.where"),
    ],
)
def test_a_formula_that_cannot_be_written(formula, says):
    with pytest.raises(TypeError, match=says):
        generate.cpp({"a": Surrogate(0, formula, formula, "", "")})


def test_the_functions_are_the_same_everywhere():
    functions = {name for name in vars(TensorMath) if not name.startswith("_")}
    assert functions == vars(SYMBOLS).keys()
    assert all(f"``{name}" in TensorMath.__doc__ for name in functions)
