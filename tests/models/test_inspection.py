"""``hnn describe`` and ``hnn profile``."""

import json

import pytest
import torch

from hnn_models import HybridNetwork, load
from hnn_models.analysis import energy
from hnn_models.analysis.costs import total
from hnn_models.data import images as data
from hnn_models.network import table as describe
from support.commands import hnn, refused

CPU = ["--device", "cpu"]


def test_describe():
    shown = hnn("describe", "A4C3-P2-S6C2-S5", "--input-shape", "2,9,8", "--steps", 7, "--json").stdout
    network = HybridNetwork("A4C3-P2-S6C2-S5", (2, 9, 8), steps=7)
    rows, kept = describe.rows(network), describe.kept_for_backward(network)
    *lines, whole = json.loads(shown)["rows"]
    assert [(line["layer"], line["shape"], line["parameters"], line["state (B)"]) for line in lines] == [
        (row.name, describe.show(row.shape), row.parameters, row.state) for row in rows
    ]
    assert [line["kept (B)"] for line in lines] == kept
    assert whole["parameters"] == sum(p.numel() for p in network.parameters())
    table = hnn(
        "describe", "A32C3-A32C3-A64C3-P2-S64C3-P2-S512-S10", "--dataset", "cifar10", "--coding", "gaussian"
    ).stdout
    for part in ("A64C3", "gaussian, direct", "64x11x11", "908,906", "kept (B)"):
        assert part in table


def test_describe_takes_the_options_of_a_network():
    options = ["--input", "axon", "--axon", "normalized", "--learn", "axon", "--learn", "decay"]
    lines = json.loads(hnn("describe", "S6-S5", *options, "--json").stdout)["rows"]
    assert [line["parameters"] for line in lines] == [0, 4 * 784, 785 * 6 + 5 * 6, 35 + 5, 4 * 784 + 785 * 6 + 30 + 40]
    assert json.loads(hnn("describe", "S6-S5", "--axon", "none", "--json").stdout)["rows"][2]["state (B)"] == 2 * 4 * 6
    fewer = ["--axon", "none", "--neuron", "reset=zero", "--readout", "membrane"]
    assert json.loads(hnn("describe", "S6-S5", *fewer, "--json").stdout)["rows"][2]["state (B)"] == 4 * 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["A64-S5-A10"], "  A64-S5-A10\n         ^^^\n"),
        (["A64-S10", "--coding", "poisson"], "Poisson coding has no gradient"),
        (
            ["A64-S10", "--dataset", "svhn"],
            "--dataset must be one of digits, mnist, fashion-mnist, cifar10; got 'svhn'",
        ),
        (["A64-S10", "--input-shape", "3,x"], "--input-shape must be numbers such as 3,32,32; got '3,x'"),
        (["A64-S10", "--learn", "weights"], "learn must be one of"),
    ],
)
def test_describe_refuses(arguments, message):
    assert message in refused("describe", *arguments)


def test_profile_and_its_plots(run, digits, tmp_path):
    network, outcome = run
    result = hnn("profile", outcome.checkpoint, *CPU, "--images", 40, "--plots", tmp_path / "plots", "--json")
    *lines, whole, artificial = json.loads(result.stdout)["rows"]
    index = data.split(len(digits), 1)[2][:40]
    costs = energy.profile(network, [digits[index][0]])
    for line, cost in zip(lines, costs, strict=True):
        assert (line["layer"], line["spikes"], line["MACs"]) == (cost.name, cost.spikes, cost.macs)
        assert line["energy (nJ)"] == pytest.approx(cost.energy() / 1000)
    assert whole["memory (nJ)"] == pytest.approx(sum(cost.memory_energy() for cost in costs) / 1000)
    assert artificial["MACs"] == 64 * 64 + 64 * 32 + 32 * 10
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == ["membranes.png", "raster.png"]
    for path in (tmp_path / "plots").iterdir():
        assert path.read_bytes().startswith(b"\x89PNG")
    assert "wrote" in result.stderr
    shown = hnn("profile", outcome.checkpoint, *CPU, "--images", 3).stdout
    for part in ("A64-S32-S10, per image, of 3", "rate (%)", "SOPs", "total"):
        assert part in shown


def test_profile_is_reproducible_with_noise(tmp_path, digits):
    out = tmp_path / "run"
    small = ["--epochs", 1, "--steps", 3, "--no-progress", *CPU]
    hnn("train", "A8-S10", *small, "--coding", "gaussian", "--out", out)
    one, other = (hnn("profile", out / "best.ckpt", *CPU, "--json").stdout for _ in range(2))
    assert one == other
    assert [line["MACs"] for line in json.loads(one)["rows"]] == [64 * 16, 3 * 80, 64 * 16 + 3 * 80, 64 * 8 + 80]


def test_plots_of_an_image_show_the_same_noise(tmp_path, monkeypatch):
    """Raster and membranes are looked at side by side; how many images were counted before makes no difference."""
    plots = pytest.importorskip("hnn_models.analysis.plots", reason="plots need the extra 'models'")
    found, activity = [], plots.activity

    def kept(network, images):
        works = list(activity(network, images))
        found.append(works[0].spikes)
        return iter(works)

    out = tmp_path / "run"
    hnn("train", "A8-S40-S10", "--epochs", 1, "--no-progress", *CPU, "--coding", "gaussian", "--out", out)
    monkeypatch.setattr(plots, "activity", kept)
    for images in (3, 40):
        hnn("profile", out / "best.ckpt", *CPU, "--images", images, "--plots", tmp_path / "plots")
    assert found[0].any()
    assert len(found) == 4
    assert all(torch.equal(spikes, found[0]) for spikes in found)


def test_profile_beside_a_quantised_rival(run, digits, tmp_path):
    """The rival's zeros cost nothing, and T = 8 needs values of 4 bits; what they cost is on the page."""
    from support.small_network import PROTOCOL, build, train

    rival = train(build("A16-A10"), digits, tmp_path, PROTOCOL._replace(epochs=1)).checkpoint
    words = "profile", run[1].checkpoint, *CPU, "--images", 40, "--rival", rival, "--model", "int8"
    *_, four, eight = json.loads(hnn(*words, "--json").stdout)["rows"]
    assert (four["layer"], eight["layer"], eight["MACs"]) == ("rival, 4 bits", "rival, 8 bits", 64 * 16 + 160)
    index = data.split(len(digits), 1)[2][:40]
    cost = total(energy.profile(load(rival).network, [digits[index][0]]))
    assert cost.nonzero < 0.7 * cost.macs
    assert eight["energy (nJ)"] == pytest.approx(cost.nonzero * 0.3 / 1000)
    assert four["memory (nJ)"] == pytest.approx(12.5 * (cost.nonzero * 1.5 + 26 * 0.5) / 1000)
    shown = hnn(*words).stdout
    share = cost.nonzero / cost.macs
    limit = 100 * share * 0.2 / 0.1 / 8
    assert f"4-bit values, {100 * share:.0f} % of them not zero, for rates below: arithmetic {limit:.2g} %" in shown
    spiking = "profile", run[1].checkpoint, *CPU, "--rival", run[1].checkpoint
    assert "--rival must be a purely artificial network" in refused(*spiking, "--model", "int8")
    assert "so the network needs them too: --model int8" in refused(*spiking)


def test_profile_refuses(run, tmp_path):
    (tmp_path / "foreign.ckpt").write_text("not a checkpoint")
    assert "is damaged" in refused("profile", tmp_path / "foreign.ckpt", *CPU)
    assert "--image must be below 359" in refused("profile", run[1].checkpoint, *CPU, "--image", 359)
