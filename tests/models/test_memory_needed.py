"""A tensor that cannot fit into memory is refused before it is allocated, and a description allocates nothing."""

import json
import re

import pytest
import torch

from hnn_models import HybridNetwork, memory
from hnn_models.network.table import kept_for_backward, rows

CPU = torch.device("cpu")
HUGE = "A1000000-A1000000-S10"


@pytest.fixture
def small_machine(monkeypatch):
    """A machine of 1 GB."""
    monkeypatch.setattr(memory, "available", lambda device: 10**9)


def test_a_network_whose_weights_do_not_fit_is_refused_with_both_numbers():
    with pytest.raises(MemoryError) as caught:
        HybridNetwork(HUGE, (1, 28, 28))
    found = re.fullmatch(
        r"(\S+) needs at least 4,003.2 GB of memory, and [\d.,]+ GB are available on cpu", str(caught.value)
    )
    assert found is not None
    assert found[1] == HUGE


@pytest.mark.parametrize(
    ("architecture", "coding"),
    [("A90000-S1000-S10", "duplicate"), ("A10-S100000-S10", "gaussian"), ("S900C5-S10", "poisson")],
)
def test_the_number_that_is_compared_is_that_of_the_weights(architecture, coding):
    with torch.device("meta"):
        network = HybridNetwork(architecture, (3, 20, 20), coding)
    weights = sum(p.numel() for name, p in network.named_parameters() if name.endswith("weight"))
    assert network.settings.weights() == weights


def test_what_fits_is_built(small_machine):
    HybridNetwork("A1000-S100-S10", (1, 28, 28))
    with pytest.raises(MemoryError, match=r"needs at least 1\.3 GB"):
        HybridNetwork("A18000-A18000-S10", (1, 8, 8))
    with torch.device("meta"):
        HybridNetwork("A18000-A18000-S10", (1, 8, 8))


@pytest.mark.parametrize(("coding", "architecture"), [("duplicate", "S100-S10"), ("poisson", "S10")])
def test_a_call_whose_trains_do_not_fit_is_refused(coding, architecture):
    network = HybridNetwork(architecture, (1, 8, 8), coding, steps=10**9)
    with pytest.raises(MemoryError, match="a call with 3 images and 1000000000 steps needs at least"):
        network(torch.rand(3, 1, 8, 8))


def test_a_description_of_any_size_needs_no_memory():
    with torch.device("meta"):
        network = HybridNetwork(HUGE, (1, 28, 28))
    assert sum(row.parameters for row in rows(network)) == 785 * 10**6 + (10**6 + 1) * 10**6 + (10**6 + 1) * 10
    assert kept_for_backward(network)[1] == 4 * (784 + 10**6)
    assert "1,000,796,000,010" in str(network)


@pytest.mark.parametrize(
    ("architecture", "options"),
    [
        ("A4C3-P2-S6C2-P2-S5", {"coding": "gaussian", "input": "axon", "learn": ("axon",)}),
        ("S6C3-P2-S7-S5", {"coding": "poisson"}),
        ("S6C3-P2-S7-S5", {"coding": "poisson", "backend": "reference"}),
        ("A12-S7-S5", {"coding": "gaussian", "backend": "reference"}),
        ("A12-S7-S5", {"input": "axon", "axon": "normalized"}),
        ("A12-S7-S5", {"fixed_artificial": True, "synapse": "exponential"}),
        ("A12-A5", {}),
    ],
)
def test_without_memory_the_same_is_kept_as_with(architecture, options):
    shape = (2, 9, 8)
    with torch.device("meta"):
        network = HybridNetwork(architecture, shape, steps=6, **options)
    assert kept_for_backward(network) == kept_for_backward(HybridNetwork(architecture, shape, steps=6, **options))


def test_hnn_describe_and_hnn_train():
    pytest.importorskip("lightning", reason="training needs the extra 'models'")
    from support.commands import hnn, refused

    total = json.loads(hnn("describe", HUGE, "--json").stdout)["rows"][-1]
    assert total["parameters"] == 1_000_796_000_010
    message = refused("train", HUGE, "--device", "cpu")
    assert f"{HUGE} needs at least 4,000.3 GB of memory" in message


@pytest.mark.parametrize("over", ["weights", "batch"])
def test_training_that_does_not_fit_is_refused_before_it_begins(over, digits, monkeypatch, tmp_path):
    learning = pytest.importorskip("hnn_models.training.learning", reason="training needs the extra 'models'")
    from hnn_models.training import footprint
    from support.small_network import PROTOCOL, build

    if over == "weights":  # 20 MB, and 60 MB more for gradients and moments
        network, left = build("A5000-A1000-S10"), 5 * 10**7
    else:
        network, left = build("A64-S2000-S10", steps=100, axon="normalized"), 5 * 10**7
    monkeypatch.setattr(memory, "_ALWAYS_THERE", 0)
    for module in (memory, footprint):
        monkeypatch.setattr(module, "available", lambda device: left)
    needed = 3 * 4 * sum(p.numel() for p in network.parameters())
    assert (needed > left) == (over == "weights")
    protocol = PROTOCOL._replace(batch_size=64)
    message = f"training {network.architecture}" + (" in batches of 64" if over == "batch" else "")
    with pytest.raises(MemoryError, match=f"{message} needs at least"):
        learning.train(network, digits, protocol, run_dir=tmp_path / "run", device=CPU, progress=False)
    assert not (tmp_path / "run").exists()
    if over == "batch":  # a smaller batch fits
        kept = sum(kept_for_backward(network))
        assert needed + 64 * kept > left > needed + kept
        footprint.require(network, protocol, CPU, 1, compiled=False)
        footprint.require(network, protocol, CPU, 64, compiled=True)
        with pytest.raises(MemoryError):
            footprint.require(network, protocol, CPU, 64, compiled=False)
