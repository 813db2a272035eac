"""The files that an option touches are those that "Adding" in ARCHITECTURE.md names: a copy of the sources gets one.

With the option ``below`` a neuron fires up to the threshold and not from it on.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hnn_kernels._generate.files import FILES
from support.paths import ROOT

# By file, what is replaced by what. Each text is there once.
OPTION = {
    "hnn_kernels/_layer.py": [
        (
            '    Setting("smooth", "bool", False, step=True),\n',
            '    Setting("smooth", "bool", False, step=True),\n    Setting("below", "bool", False, step=True),\n',
        )
    ],
    "hnn_kernels/functional.py": [
        ("    smooth: bool = False,\n", "    smooth: bool = False,\n    below: bool = False,\n"),
        (
            "        return_state: False if no later call",
            "        below: fire up to the threshold.\n        return_state: False if no later call",
        ),
        (
            '    smooth = _checks.flag("smooth", smooth)\n',
            '    smooth = _checks.flag("smooth", smooth)\n    below = _checks.flag("below", below)\n',
        ),
        ("smooth=smooth,", "smooth=smooth, below=below,"),
    ],
    "hnn_kernels/nn/lif.py": [
        ("        smooth: bool = False,\n", "        smooth: bool = False,\n        below: bool = False,\n"),
        ("        self.smooth = smooth\n", "        self.smooth = smooth\n        self.below = below\n"),
        ("smooth=self.smooth,", "smooth=self.smooth, below=self.below,"),
    ],
    "hnn_kernels/reference.py": [
        ("        self.smooth, ", "        self.below = call.below\n        self.smooth, "),
        (
            "        # As a view of the potential's shape:",
            "        fires = potential <= self.threshold if self.below else fires\n"
            "        # As a view of the potential's shape:",
        ),
    ],
    "csrc/neuron.h": [
        (
            "    spike = where_(fires, broadcast<V>(1), V{});\n",
            "    spike = where_(fires, broadcast<V>(1), V{});\n"
            "    if (o.below) spike = where_(v <= c.threshold, broadcast<V>(1), V{});\n",
        )
    ],
    "hnn_kernels/_triton/formula.py": [
        (
            "        after = potential\n",
            "        if OPTIONS.below:\n"
            "            spike = (potential <= threshold).to(DTYPE)\n"
            "        after = potential\n",
        )
    ],
}

# The option in Python: it works, its default is what was there, and the kernels agree with the reference.
IN_PYTHON = """
import torch
import hnn_kernels
from hnn_kernels import nn

assert hnn_kernels.backends()["cpu"].devices == (), "a module of the sources without the option would be used"
current = torch.tensor([1.0, 0.5, 1.5]).repeat(12, 1, 1).requires_grad_()
for backend in {backends}:
    for below, fired in ((False, [1, 0, 1]), (True, [1, 1, 0])):
        layer = nn.LIF(0.0, 0.0, below=below, backend=backend)
        out = layer(current)
        assert out[0, 0].tolist() == fired, (backend, below, out)
        (gradient,) = torch.autograd.grad(out.sum(), current)
        expected = hnn_kernels.lif(current, 0.0, 0.0, below=below, backend="reference")[0]
        assert torch.equal(out, expected)
        torch.testing.assert_close(gradient, torch.autograd.grad(expected.sum(), current)[0])
"""

# In C++, one step of a neuron above the threshold.
IN_CPP = """
#include <cmath>
#define HNN_NAMESPACE trial
#define HNN_INLINE inline
namespace trial {
double scalar_of(double x) { return x; }
double fma_(double a, double b, double c) { return a * b + c; }
double abs_(double x) { return std::fabs(x); }
double exp2_(double x) { return std::exp2(x); }
double erfc_(double x) { return std::erfc(x); }
double atan_(double x) { return std::atan(x); }
double round_(double x) { return std::nearbyint(x); }
}
#include "neuron.h"
int main() {
  trial::State<double> state{};
  const trial::Coefficients<double> c{0, 0, 1, 0};
  const trial::Extent<double> extent{2.5, 1};
  double potential;
  hnn::Options o;
  if (!o.usual() || trial::forward_step(o, state, 1.5, c, extent, potential) != 1) return 1;
  o.below = true;
  state = {};
  return o.usual() || trial::forward_step(o, state, 1.5, c, extent, potential) != 0;
}
"""


def described(entry: str) -> set[str]:
    """The files that the entry of ARCHITECTURE's "Adding" names, tests apart."""
    section = (ROOT / "ARCHITECTURE.md").read_text().split("\n## Adding\n")[1]
    (text,) = re.findall(rf"^- \*\*{entry}\*\*(.*?)(?=^- |^#|\Z)", section, re.DOTALL | re.MULTILINE)
    found = set(re.findall(r"`([\w/]+/[\w/]+\.\w+)`", text))
    return {path for path in found if not path.startswith("tests/")}


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """The sources with the option, and what `make generate` writes."""
    root = tmp_path_factory.mktemp("option")
    for folder in ("hnn_kernels", "csrc"):
        without = shutil.ignore_patterns("*.so", "__pycache__")
        shutil.copytree(ROOT / folder, root / folder, ignore=without)
    for path, replacements in OPTION.items():
        text = (root / path).read_text()
        for old, new in replacements:
            assert text.count(old) == 1, f"{path} has {text.count(old)} of {old!r}"
            text = text.replace(old, new)
        (root / path).write_text(text)
    subprocess.run([sys.executable, "-P", root / "hnn_kernels/_generate/__main__.py"], check=True)
    return root


def run(code: str, root: Path, **environment: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(root)} | environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_an_option_touches_what_is_described():
    written = {path for path in FILES if path in described("An option")}
    assert written == {"csrc/layer.h"}
    assert described("An option") == {*OPTION, *written}
    assert len(OPTION) <= 6


def test_an_option_works_in_python(copy):
    run(IN_PYTHON.format(backends=("reference",)), copy)


def test_an_option_works_in_triton(copy):
    pytest.importorskip("triton")
    run(IN_PYTHON.format(backends=("reference", "triton")), copy, TRITON_INTERPRET="1")


@pytest.mark.parametrize("flags", [[], ["-DNDEBUG", "-O1"]], ids=["plain", "optimised"])
def test_an_option_works_in_cpp(copy, tmp_path, flags):
    compiler = os.environ.get("CXX") or shutil.which("c++")
    if compiler is None:
        pytest.skip("there is no C++ compiler")
    (tmp_path / "program.cpp").write_text(IN_CPP)
    command = [compiler, "-std=c++17", *flags, "-I", copy / "csrc", "program.cpp", "-o", "program"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert subprocess.run([tmp_path / "program"]).returncode == 0
