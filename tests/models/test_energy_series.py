"""``hnn energy``: one network at several numbers of steps, its quantised rival, the record and its page."""

import pytest
import torch

from hnn_models import HybridNetwork, load_images
from hnn_models.analysis.quantise import quantised_accuracy
from hnn_models.paper import energy_record, energy_runs
from hnn_models.paper.record import RecordError
from hnn_models.training import learning
from support.commands import hnn, refused
from support.paths import ROOT

COMMAND = ("energy", "S16-S10", "--dataset", "digits", "--epochs", "3", "--device", "cpu", "--no-progress")
SERIES = ("--steps", "1,3", "--rate-penalties", "50", "--penalised", "3")


def test_series_is_trained_once_and_written(tmp_path, monkeypatch):
    monkeypatch.setitem(energy_runs._SHORT, "lr", 0.05)  # so that neurons fire after a few steps
    asked = []
    train = learning.train
    monkeypatch.setattr(learning, "train", lambda *a, **k: asked.append(k["run_dir"].name) or train(*a, **k))
    where = ("--out", str(tmp_path / "energy.csv"), "--runs", str(tmp_path / "runs"))
    hnn(*COMMAND, *SERIES, *where)
    rows = energy_record.read(tmp_path / "energy.csv")
    assert [(r.architecture, r.steps, r.rate_penalty, r.bits) for r in rows] == [
        ("A16-A10", 0, 0.0, 0),
        ("A16-A10", 0, 0.0, 1),
        ("A16-A10", 0, 0.0, 2),
        ("A16-A10", 0, 0.0, 8),
        ("S16-S10", 1, 0.0, 0),
        ("S16-S10", 3, 0.0, 0),
        ("S16-S10", 3, 50.0, 0),
    ]
    assert len(asked) == 4
    rival, one, three, penalised = rows[0], *rows[4:]
    assert (rival.spikes, rival.macs, one.macs, three.macs) == (0, 64 * 16 + 160, 64 * 16, 64 * 16)
    assert penalised.hidden_rate < three.hidden_rate
    assert three.accumulates == pytest.approx(10 * 16 * 3 * three.hidden_rate / 100, rel=1e-3)
    page = (tmp_path / "energy.md").read_text()
    assert page == energy_record.markdown(rows)
    assert "| 2 bits | up to 3 |" in page
    before = (tmp_path / "energy.csv").read_bytes()
    hnn(*COMMAND, *SERIES, *where)
    assert len(asked) == 4
    assert (tmp_path / "energy.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--steps", "1,0"], "--steps must be different numbers from 1 on, such as 0,1,2; got '1,0'"),
        (["--rate-penalties", "inf"], "--rate-penalties must be different numbers from 0 on"),
        (["--out", "x.md"], "--out must be a CSV file"),
    ],
)
def test_refused(options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in refused(*COMMAND, *options)


def test_refuses_an_artificial_network_and_a_damaged_record(tmp_path):
    assert "must have a spiking layer" in refused("energy", "A16-A10", *COMMAND[2:])
    path = tmp_path / "energy.csv"
    path.write_text("a,b\n1,2\n")
    assert "is not a record of energies: its columns are a, b" in refused(*COMMAND, "--out", str(path))
    path.write_text(",".join(energy_record.EnergyRow._fields) + "\nx\n")
    with pytest.raises(RecordError, match="damaged in line 2: it has 1 columns of 28"):
        energy_record.read(path)


def test_quantised_accuracy_comes_to_that_of_the_network_with_many_bits():
    torch.manual_seed(0)
    images = load_images("digits")
    network = HybridNetwork("A32-A10", images.shape)
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for index in torch.randperm(1200).split(100):
        pixels, labels = images[index]
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(pixels), labels).backward()
        optimizer.step()
    validation, test = torch.arange(1200, 1500), torch.arange(1500, 1797)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    pixels, labels = images[test]
    plain = (network(pixels).argmax(1) == labels).float().mean().item()
    found = {bits: quantised_accuracy(network, images, validation, test, bits)[1] for bits in (1, 8, 16)}
    # Weights of 8 bits change about one decision in a hundred of a network that was trained for 12 steps.
    assert found[16] == pytest.approx(plain, abs=0.03)
    assert found[8] == pytest.approx(found[16], abs=0.011)  # three of 297 images
    assert found[1] < found[8]
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    for refused_network, bits, message in (
        (HybridNetwork("S10", images.shape), 8, "purely artificial"),
        (HybridNetwork("A8-A10", images.shape, activation="identity"), 8, "at least 0"),
        (network, 0, "bits must be at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            quantised_accuracy(refused_network, images, validation, test, bits)


def test_committed_page_is_what_the_committed_record_gives():
    path = ROOT / "benchmarks" / "results" / "energy.csv"
    rows = energy_record.read(path)
    assert rows
    assert path.with_suffix(".md").read_text() == energy_record.markdown(rows)
