"""The mechanism, with a stand-in for SpikingJelly 0.0.0.0.12: its neurons, restated, under their old names."""

import pickle
import subprocess
import sys
import types

import pytest
import torch
from torch import nn

import hnn_kernels
from hnn_kernels._convert import libraries, rules
from support.converted import by_the_loop

PLACE = "spikingjelly.clock_driven.neuron"


class ATan(nn.Module):
    alpha, spiking = 2.0, True

    def forward(self, x):
        smooth = torch.atan(torch.pi / 2 * self.alpha * x) / torch.pi
        return (x >= 0).to(x) + (smooth - smooth.detach())


class BaseNode(nn.Module):
    def __init__(self, v_threshold=1.0, v_reset=0.0, detach_reset=False):
        super().__init__()
        self.v_threshold, self.v_reset, self.detach_reset = v_threshold, v_reset, detach_reset
        self.surrogate_function, self.backend, self.v_seq = ATan(), "torch", None
        self.reset()

    def reset(self):
        self.v = 0.0 if self.v_reset is None else self.v_reset

    def forward(self, x):
        self.charge(x)
        spike = self.surrogate_function(self.v - self.v_threshold)
        once = spike.detach() if self.detach_reset else spike
        after = self.v - once * self.v_threshold
        self.v = after if self.v_reset is None else (1 - once) * self.v + once * self.v_reset
        return spike


class AllSteps:
    def forward(self, x_seq):
        spikes, potentials = [], []
        for x in x_seq:
            spikes.append(super().forward(x))
            potentials.append(self.v)
        self.v_seq = torch.stack(potentials)
        return torch.stack(spikes)


class LIFNode(BaseNode):
    def __init__(self, tau=2.0, decay_input=True, **given):
        super().__init__(**given)
        self.tau, self.decay_input = tau, decay_input

    def charge(self, x):
        leak = (self.v - (self.v_reset or 0.0)) / self.tau
        self.v = self.v + (x / self.tau - leak if self.decay_input else x - leak)


class EIFNode(BaseNode):
    def __init__(self, tau=2.0, delta_T=1.0, theta_rh=0.8, v_rest=0.0, v_reset=-0.1, **given):  # noqa: N803
        super().__init__(v_reset=v_reset, **given)
        self.tau, self.delta_T, self.theta_rh, self.v_rest = tau, delta_T, theta_rh, v_rest

    def charge(self, x):
        self.v = torch.as_tensor(self.v)
        steep = self.delta_T * torch.exp((self.v - self.theta_rh) / self.delta_T)
        self.v = self.v + (x + self.v_rest - self.v + steep) / self.tau


class MultiStepLIFNode(AllSteps, LIFNode):
    pass


class MultiStepEIFNode(AllSteps, EIFNode):
    pass


class Renamed(MultiStepLIFNode):
    """A subclass that does nothing but fix an argument."""

    def __init__(self, **given):
        super().__init__(tau=3.0, **given)


class Different(MultiStepLIFNode):
    def forward(self, x_seq):
        return super().forward(2 * x_seq)


class MultiStepOther(BaseNode):
    def forward(self, x_seq):
        return x_seq


@pytest.fixture(autouse=True)
def library(monkeypatch):
    """The stand-in's modules under the names of the library, and its version."""
    monkeypatch.setattr(rules.metadata, "version", lambda package: "0.0.0.0.12")
    place, surrogate = types.ModuleType(PLACE), types.ModuleType("spikingjelly.clock_driven.surrogate")
    for module in (types.ModuleType("spikingjelly"), types.ModuleType("spikingjelly.clock_driven"), place, surrogate):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    for kind, module in (
        (BaseNode, place),
        (LIFNode, place),
        (EIFNode, place),
        (MultiStepLIFNode, place),
        (MultiStepOther, place),
        (MultiStepEIFNode, place),
        (ATan, surrogate),
    ):
        monkeypatch.setattr(kind, "__module__", module.__name__)
        monkeypatch.setattr(module, kind.__name__, kind, raising=False)
    return place


def inputs(dtype=torch.float32):
    torch.manual_seed(2)
    return torch.randn(15, 4, 30, dtype=dtype) * 2


@pytest.mark.parametrize("kind", [MultiStepLIFNode, LIFNode])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("v_reset", [0.0, None, -0.3])
@pytest.mark.parametrize(("decay_input", "detach_reset"), [(True, False), (False, True)])
def test_an_old_name_computes_the_same(kind, dtype, v_reset, decay_input, detach_reset):
    compare(lambda: kind(3.0, decay_input, v_reset=v_reset, detach_reset=detach_reset), inputs(dtype))


@pytest.mark.parametrize("kind", [MultiStepEIFNode, EIFNode])
@pytest.mark.parametrize("detach_reset", [False, True])
def test_an_old_neuron_by_definition(kind, detach_reset, monkeypatch):
    by_the_loop(monkeypatch)
    compare(lambda: kind(3.0, v_reset=-0.3, detach_reset=detach_reset), inputs())


def test_names_of_the_version_before_2():
    names = ("IFNode", "LIFNode", "ParametricLIFNode", "QIFNode", "EIFNode", "IzhikevichNode", "KLIFNode")
    rules = libraries.LIBRARIES[0].rules
    assert all(f"spikingjelly.activation_based.neuron.{name}" in rules for name in names)
    given = types.SimpleNamespace(detach_reset=True, v_reset=-0.1)
    why = rules["spikingjelly.activation_based.neuron.IzhikevichNode"].arguments(given)
    assert "has a gradient in this version" in why
    assert libraries.LIBRARIES[0].reasons["spikingjelly.cext.neuron.MultiStepLIFNode"].startswith("a CUDA extension")


def compare(make, x):
    results = []
    for convert in (False, True):
        module = make()
        if convert:
            (entry,) = hnn_kernels.convert(module)
            assert entry.replaced
            assert entry.exact
        x = x.detach().requires_grad_()
        if isinstance(module, AllSteps):
            out = torch.cat([module(x[:7]), module(x[7:])])
        else:
            out = torch.stack([module(now) for now in x])
        potential = module.v_seq if isinstance(module, AllSteps) else module.v
        loss = (out * torch.linspace(-1, 1, out.numel(), dtype=x.dtype).view_as(out)).sum() + (potential**2).sum()
        loss.backward()
        results.append((out, x.grad, potential, module.v))
    assert torch.equal(results[0][0], results[1][0])
    assert 0.02 < results[0][0].mean() < 0.5
    for expected, got in zip(*(result[1:] for result in results), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=2e-6)


def test_the_report():
    net = nn.Sequential(nn.Linear(3, 3), MultiStepLIFNode(), MultiStepOther(), Different())
    report = hnn_kernels.convert(net)
    assert len(report) == 3
    assert [one.name for one in report.replaced] == ["1"]
    assert [one.name for one in report.left] == ["2", "3"]
    assert report[0].kind == f"{PLACE}.MultiStepLIFNode"
    assert report[1].why == "no kernel computes its step"
    assert "a subclass of" in report[2].why
    assert str(report).splitlines() == [
        "replaced 1 of 3 modules of other libraries",
        "  1 (MultiStepLIFNode): lif, decay 1 - 1/tau, input times 1/tau with decay_input",
        "  2 (MultiStepOther): left: no kernel computes its step",
        f"  3 (Different): left: a subclass of {PLACE}.MultiStepLIFNode, whose step may be another one",
    ]
    assert str(hnn_kernels.convert(MultiStepOther())[0]).startswith("(the model) (MultiStepOther)")


def test_exact_leaves_what_is_in_doubt():
    net = nn.Sequential(Renamed(), Different())
    assert not hnn_kernels.convert(net).replaced
    (entry, left) = hnn_kernels.convert(net, exact=False)
    assert entry.replaced
    assert not entry.exact
    assert "not known to be exact" in str(entry)
    assert not left.replaced  # its step is another one indeed
    assert torch.equal(net[0](inputs()), MultiStepLIFNode(3.0)(inputs()))
    hnn_kernels.revert(net)
    assert type(net[0]) is Renamed


def test_another_version_is_left_and_said(monkeypatch):
    monkeypatch.setattr(rules.metadata, "version", lambda package: "3.0.1")
    module = MultiStepLIFNode()
    (entry,) = hnn_kernels.convert(module)
    assert not entry.replaced
    assert entry.why.startswith("spikingjelly 3.0.1 was not tried; 2., ")
    (entry,) = hnn_kernels.convert(module, exact=False)
    assert entry.replaced
    assert not entry.exact


def test_a_version_without_metadata_is_that_of_the_module(monkeypatch):
    def missing(package):
        raise rules.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(rules.metadata, "version", missing)
    assert "of no known version" in hnn_kernels.convert(MultiStepLIFNode())[0].why
    sys.modules["spikingjelly"].__version__ = "0.0.0.0.14"
    assert hnn_kernels.convert(MultiStepLIFNode())[0].replaced


def test_pickles_name_the_place_of_the_class():
    module = MultiStepLIFNode()
    hnn_kernels.convert(module)
    text = pickle.dumps(module)
    assert b"hnn_kernels._convert.classes" in text
    again = pickle.loads(text)
    assert type(again) is type(module)
    place = sys.modules["hnn_kernels._convert.classes"]
    with pytest.raises(AttributeError, match="has no attribute 'other'"):
        place.other  # noqa: B018
    with pytest.raises(AttributeError, match=r"torch\.nn\.modules\.linear\.Linear is none of the classes"):
        getattr(place, "torch/nn:Linear")


@pytest.mark.parametrize(
    ("x", "why"),
    [
        (torch.ones(5, 4, 3, dtype=torch.int64), "the input is torch.int64"),
        (torch.ones(5), r"the input has the shape \(5,\)"),
    ],
)
def test_an_input_for_no_kernel_is_the_librarys(x, why):
    module, library = MultiStepLIFNode(), MultiStepLIFNode()
    hnn_kernels.convert(module)
    with pytest.warns(RuntimeWarning, match=f"MultiStepLIFNode computes this call itself: {why}"):
        got = module(x)
    assert torch.equal(got, library(x))


def test_a_coefficient_for_no_kernel_is_the_librarys():
    module, library = MultiStepLIFNode(), MultiStepLIFNode()
    hnn_kernels.convert(module)
    module.tau = library.tau = torch.linspace(2, 3, 4)[:, None]  # one for each sample of the batch
    with pytest.warns(RuntimeWarning, match="does not broadcast against the features"):
        got = module(inputs())
    assert torch.equal(got, library(inputs()))


def test_wrong_arguments():
    with pytest.raises(TypeError, match=r"model must be a torch.nn.Module; got list"):
        hnn_kernels.convert([])
    with pytest.raises(TypeError, match=r"exact must be True or False; got 1"):
        hnn_kernels.convert(nn.Linear(1, 1), exact=1)
    with pytest.raises(TypeError, match=r"model must be a torch.nn.Module; got str"):
        hnn_kernels.revert("net")


def test_a_neuron_that_compiles_needs_a_compiler(monkeypatch):
    monkeypatch.setattr("hnn_kernels._convert.rules.find_compiler", lambda: None)
    rule = rules.Rule("nothing", lambda module: "unreachable", {}, compiled=True)
    table = dict(libraries.LIBRARIES[0].rules) | {f"{PLACE}.MultiStepOther": rule}
    monkeypatch.setattr(libraries, "LIBRARIES", (libraries.LIBRARIES[0]._replace(rules=table),))
    assert "no C++ compiler" in hnn_kernels.convert(MultiStepOther())[0].why


def test_neither_a_library_nor_the_compiler_is_imported():
    names = {"torch._dynamo", *(library.package for library in libraries.LIBRARIES)}
    code = (
        "import sys, torch, hnn_kernels; hnn_kernels.convert(torch.nn.Linear(2, 2)); "
        f"hnn_kernels.revert(torch.nn.Linear(2, 2)); print({names} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
