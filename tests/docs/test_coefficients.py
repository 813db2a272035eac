"""The numbers of docs/coefficients.md: decays, and the surrogates of other libraries, measured again."""

import importlib
import math
import re
import types

import pytest
import torch

import hnn_kernels
from hnn_kernels import nn
from support.paths import ROOT

PAGE = (ROOT / "docs" / "coefficients.md").read_text()
X = torch.linspace(-4, 4, 80001, dtype=torch.float64)  # 1e-4 apart, 0 in the middle
MIDDLE = len(X) // 2


def rows(columns):
    """The rows of the tables that have so many columns, without their heads."""
    found = [[cell.strip() for cell in row.split("|")] for row in re.findall(r"^\| (.*) \|$", PAGE, re.MULTILINE)]
    return [row for row in found if len(row) == columns and "---" not in row]


def number(text):
    """The value of a formula such as ``1 / (100 sqrt(2))``."""
    formula = re.sub(r"(\d) (?=sqrt)", r"\1 * ", text)
    return float(eval(formula, {"pi": math.pi, "sqrt": math.sqrt}))


def theirs(library, name):
    """The function of a library that fires at 0 and has its surrogate ``name``, with the default width."""
    if library == "snnTorch":
        return getattr(importlib.import_module("snntorch.surrogate"), name)()
    if library == "SpikingJelly":
        return getattr(importlib.import_module("spikingjelly.activation_based.surrogate"), name)()
    if library == "Norse":
        from norse.torch import LIFParameters
        from norse.torch.functional.threshold import threshold

        return lambda v: threshold(v, name, LIFParameters().alpha.to(v.dtype))
    activation = importlib.import_module("sinabs.activation")
    function = getattr(activation, name)()
    return lambda v: activation.SingleSpike.apply(v + 1, torch.ones((), dtype=v.dtype), function)


def ours(surrogate, sigma, scale):
    def fire(v):
        out, _ = hnn_kernels.lif(
            (v + 1)[None, None], 0.0, None, reset="none", surrogate=surrogate, sigma=sigma, surrogate_scale=scale,
            backend="reference",
        )  # fmt: skip
        return out

    return fire


def derivative(fire):
    v = X.clone().requires_grad_()
    return torch.autograd.grad(fire(v).sum(), v)[0]


def width(density):
    """The width at half height, between grid points by a straight line."""
    half = density[MIDDLE] / 2
    last = MIDDLE + int((density[MIDDLE:] >= half).nonzero().max())
    if last + 1 == len(X) or density[last + 1] == 0:
        return 2 * X[last].item()
    part = (density[last] - half) / (density[last] - density[last + 1])
    return 2 * (X[last] + part * (X[last + 1] - X[last])).item()


MEASURED = [row for row in rows(6) if row[0].split(" ")[0] in ("snnTorch", "SpikingJelly", "Norse", "sinabs", "ours")]
PACKAGES = types.MappingProxyType({"snnTorch": "snntorch", "SpikingJelly": "spikingjelly", "Norse": "norse"})


@pytest.mark.parametrize("row", MEASURED, ids=lambda row: row[0])
def test_a_surrogate_is_measured_again(row):
    label, peak, at_half, surrogate, sigma, scale = row
    mine = derivative(ours(surrogate.strip("`"), number(sigma), number(scale)))
    library, *name = re.findall(r"\w+", label)
    if library != "ours":
        pytest.importorskip(PACKAGES.get(library, library))
        density = derivative(theirs(library, name[0]))
        # Two edges of a rectangle lie on grid points, where rounding decides.
        differ = ((density - mine).abs() > 1e-6 * density.max()).sum()
        assert differ <= (2 if surrogate == "`rectangle`" else 0)
    assert mine[MIDDLE].item() == pytest.approx(float(peak), rel=2e-3)
    assert width(mine) == pytest.approx(float(at_half), rel=4e-3)


def test_every_surrogate_has_its_row_and_its_width():
    table = {row[0].split(",")[0].strip('`"'): float(row[2]) for row in rows(4) if row[0].startswith('`"')}
    listed = {name: at_half for name, at_half in table.items() if name in hnn_kernels.SURROGATES}
    assert listed.keys() == hnn_kernels.SURROGATES.keys() - {"periodic_exponential"}
    for name, at_half in listed.items():
        assert width(derivative(ours(name, 1.0, 1.0))) == pytest.approx(at_half, rel=1e-3), name


def test_decays_of_time_constants():
    taus, decays = (next(row for row in rows(10) if row[0].startswith(head))[1:] for head in ("tau", "decay"))
    for tau, decay in zip(taus, decays, strict=True):
        assert f"{math.exp(-1 / float(tau)):.3f}" == decay


def test_rates_of_an_untrained_network():
    table = {float(row[0]): [float(cell) for cell in row[1:]] for row in rows(4) if re.fullmatch(r"[\d.]+", row[0])}
    assert list(table) == [0, 0.5, 0.9, 0.95]
    for decay, listed in table.items():
        torch.manual_seed(0)
        train = torch.rand(64, 784) * (torch.rand(64, 784) < 0.2)
        measured = []
        for before, behind in ((784, 500), (500, 500), (500, 10)):
            train = torch.nn.Linear(before, behind)(train)
            if not measured:
                assert train.std().item() == pytest.approx(0.15, abs=0.005)
                train = nn.Duplicate(25)(train)
            train = nn.LIF(decay, reset="subtract")(train)
            measured.append(train.mean().item())
        # Two digits; another processor rounds a product otherwise, and few spikes then fall otherwise.
        assert measured == pytest.approx(listed, rel=0.1, abs=6e-5)
