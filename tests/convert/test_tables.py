"""The tables are whole: each neuron of a library is in its page, and each that is converted is in its tests."""

import importlib
import inspect
import pkgutil
import re

import pytest
from torch import nn

from hnn_kernels._convert import libraries
from hnn_kernels._convert.libraries import rule_of
from support.paths import ROOT

PLACES = {
    "snntorch": "snntorch._neurons", "spikingjelly": "spikingjelly.activation_based.neuron",
    "norse": "norse.torch.module", "sinabs": "sinabs.layers",
}  # fmt: skip
# Bases, parts of a neuron, an unused copy of another class, and layers that are no neurons.
NONE = {
    "snntorch": "SpikingNeuron LIF RecurrentOneToOne LeakyKernel",
    "spikingjelly": "BaseNode AdaptBaseNode SimpleBaseNode NonSpikingBaseNode _OnlineLIFNode",
    "norse": "SNN SNNCell SNNRecurrent SNNRecurrentCell LConv2d ExpFilter RegularizationCell SequentialState "
    "RecurrentSequential SpikesToTimesDecoder SNNetwork Lift ConstantCurrentLIFEncoder",
    "sinabs": "StatefulLayer ChannelShift Cropping2dLayer Merge NeuromorphicReLU SpikingMaxPooling2dLayer SumPool2d "
    "QuantizeLayer Repeat FlattenTime UnflattenTime Img2SpikeLayer Sig2SpikeLayer",
}
# Families that a page names by their beginning, or by what they have in common.
FAMILIES = {"spikingjelly": r"(MPBN|ILC|Noisy)\w+", "norse": r"\w*(Recurrent|Refrac)\w*|\w*(Encoder|ReceptiveField)\w*"}


def neurons(package):
    found = {}
    place = importlib.import_module(PLACES[package])
    for module in pkgutil.walk_packages(place.__path__, f"{PLACES[package]}."):
        if ".test" in module.name:
            continue
        for name, kind in vars(importlib.import_module(module.name)).items():
            if inspect.isclass(kind) and issubclass(kind, nn.Module) and kind.__module__.startswith(PLACES[package]):
                found[name] = kind
    return {name: kind for name, kind in found.items() if name not in NONE[package].split()}


@pytest.fixture(params=PLACES)
def package(request):
    pytest.importorskip(request.param, reason="its classes need the extra 'peers'")
    return request.param


def test_each_neuron_is_in_the_page_of_its_library(package):
    page = (ROOT / "docs" / f"from-{package}.md").read_text()
    told = set(re.findall(r"\w+", page))
    family = re.compile(FAMILIES.get(package, r"(?!)"))
    whole = {name for name in neurons(package) if not family.fullmatch(name)}
    left = {name for name in whole if not {name, name.removesuffix("Cell"), name.removesuffix("Squeeze")} & told}
    assert not left


def test_each_neuron_that_is_converted_is_in_the_tests(package):
    tests = [ROOT / "tests" / "convert" / f"test_{package}.py", *(ROOT / "tests" / "support").glob(f"{package}_*.py")]
    text = "".join(path.read_text() for path in tests)
    rules = [rule_of(kind) for kind in neurons(package).values()]
    converted = [name for name, rule in zip(neurons(package), rules, strict=True) if rule and not rule.doubt]
    assert len(converted) >= {"snntorch": 8, "spikingjelly": 20, "norse": 7, "sinabs": 8}[package]
    assert not [name for name in converted if not re.search(rf"\b{name}\b", text)]


def test_all_libraries_have_a_page():
    assert {library.package for library in libraries.LIBRARIES} == set(PLACES)
