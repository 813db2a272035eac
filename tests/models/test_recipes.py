"""The recipes of the paper's cells: the authors' program beside the paper's text, and its faults as controls."""

import pytest
import torch

from hnn_models import HybridNetwork, load_images
from hnn_models.paper import cells as paper
from hnn_models.paper.cells import Run, select
from hnn_models.paper.plan import CUTS, Plan
from hnn_models.paper.recipes import RULES, Rule
from hnn_models.training import checkpoint, learning
from hnn_models.training.classifier import Classifier
from hnn_models.training.protocol import RECIPES, Protocol
from support.paper_cells import CELLS, SEPARATE, reproduction
from support.small_network import PROTOCOL

SHAPES = {"mnist": (1, 28, 28), "cifar10": (3, 32, 32)}


def cell(name):
    (found,) = select([name], paper.CELLS)
    return found


def settings(name, recipe):
    """The network and the protocol of a cell."""
    run = cell(name).run_of(recipe)
    with torch.device("meta"):
        network = run.network(SHAPES[run.dataset], recipe)
    return network, Plan(recipe).protocol(run.dataset, run=run)


def test_every_recipe_is_in_every_list():
    assert set(RULES) == set(RECIPES) == set(CUTS)


def test_rules_name_what_there_is():
    for rule in (rule for rules in RULES.values() for rule in rules):
        assert set(rule.when) <= {*Run._fields, "part", "table"}
        assert set(rule.run) <= set(Run._fields)
        assert set(rule.protocol) <= set(Protocol._fields)
        assert rule != Rule()


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_cell_can_be_built_and_takes_its_artificial_layers(recipe):
    for run in {cell.run_of(recipe) for cell in paper.CELLS}:
        with torch.device("meta"):
            network = run.network(SHAPES[run.dataset], recipe)
            assert network.has_fixed_part == (run.artificial is not None)
            if run.artificial is not None:
                network.load_artificial(run.artificial.network(SHAPES[run.dataset], recipe))


def test_the_text_and_modern_leave_the_run_alone():
    for one in paper.CELLS:
        assert one.run_of("paper") == one.run_of("modern") == one.run


@pytest.mark.parametrize(
    ("name", "architecture", "input_", "activations", "milestones", "batch"),
    [
        ("1a/S784-S500-S10/simultaneous", "S500-S500-S10", "axon", (), (0.5, 0.75), 64),
        ("1a/A784-S500-S10/simultaneous", "A500-S500-S10", "axon", ("sigmoid",), (0.5, 0.75), 64),
        ("1a/A784-A500-S10/separate", "A500-A500-S10", "axon", ("relu", "sigmoid"), (0.5,), 64),
        ("1a/A784-A500-A10/simultaneous", "A500-A500-A10", "direct", ("relu", "relu"), (0.5, 0.75), 64),
        ("2a/A784-A500-S10/simultaneous", "A500-A500-S10", "axon", ("relu", "relu"), (0.5,), 64),
        ("3a/S784-S500-S10/simultaneous", "S500-S500-S10", "axon", (), (0.75,), 64),
        ("3a/A784-A500-S10/separate", "A500-A500-S10", "axon", ("sigmoid", "sigmoid"), (0.75,), 64),
        ("4.2/S784-S500-S10/direct", "S500-S500-S10", "direct", (), (0.5, 0.75), 64),
        ("4.2/S784-S500-S10/axon", "S500-S500-S10", "axon", (), (0.5, 0.75), 64),
        (f"1b/{paper._CNNS[2]}/separate", paper._CNNS[2], "axon", ("relu", "relu", "sigmoid"), (0.5, 112 / 150), 16),
        (f"1b/{paper._CNNS[0]}/simultaneous", paper._CNNS[0], "axon", (), (0.5, 112 / 150), 32),
    ],
)  # fmt: skip
def test_the_authors_program(name, architecture, input_, activations, milestones, batch):
    network, protocol = settings(name, "authors")
    assert (network.architecture, network.input, network.activations) == (architecture, input_, activations)
    assert (protocol.milestones, protocol.batch_size, protocol.logit_scale) == (milestones, batch, network.steps)
    assert not protocol.leaked_split
    assert (network.settings.learn, network.settings.per) == (("axon",), "neuron")
    # Behind each pool between spiking layers stands an axon for each neuron that comes out of it.
    second = {
        i: tuple(layer.axon.feedback.shape[1:]) for i, layer in enumerate(network.spiking) if layer.axon is not None
    }
    assert second == {paper._CNNS[0]: {3: (64, 13, 13), 4: (1600,)}, paper._CNNS[2]: {1: (1600,)}}.get(architecture, {})


def test_gaussian_coding_of_the_authors_program():
    network, _ = settings("2a/A784-S500-S10/simultaneous", "authors")
    assert network.coding == "gaussian-variance"
    torch.manual_seed(0)
    network = HybridNetwork("A20-S10", (1, 4, 4), "gaussian-variance", steps=4000)
    features = torch.cat([torch.full((1, 20), 3.0), torch.full((1, 20), 1.0)], dim=1)
    train = network.code.encode(features).value
    # 80,000 draws: the error of the mean is e^0.5 / 283, that of the deviation its 1.4th part.
    assert train.mean().item() == pytest.approx(3, abs=0.03)
    assert train.std().item() == pytest.approx(torch.tensor(0.5).exp().item(), abs=0.02)


def test_faults_are_off_but_in_their_own_recipe():
    leaked, divided = "1a/A784-A500-S10/separate", "3a/A784-A500-S10/separate"
    for recipe in RECIPES:
        assert settings(leaked, recipe)[1].leaked_split == (recipe == "fault-leaked-split")
        assert (settings(divided, recipe)[0].coding == "poisson-divided-twice") == (recipe == "fault-divided-twice")
        # Pixels of a purely spiking network are divided once.
        assert settings("3a/S784-S500-S10/simultaneous", recipe)[0].coding == "poisson"


def test_a_second_division_leaves_few_spikes():
    network = HybridNetwork("A20-S10", (1, 4, 4), "poisson-divided-twice", steps=2000, fixed_artificial=True)
    spikes = network.code.encode(torch.full((10, 20), 0.5)).value
    # 400,000 draws of 1 / 510: their number has the standard deviation 28.
    assert spikes.sum().item() == pytest.approx(400_000 / 510, abs=5 * 28)


def test_a_leaked_split_tests_on_images_that_the_fixed_layers_were_trained_on():
    images = load_images("digits")
    protocol = Protocol.of("digits", "fault-leaked-split", seed=3, leaked_split=True)
    artificial, hybrid = HybridNetwork("A16-A10", images.shape), SEPARATE.network(images.shape, "authors")
    trained = set(learning.parts(artificial, images, protocol)[0].tolist())
    tested = set(learning.parts(hybrid, images, protocol)[2].tolist())
    # Six of ten, as among all images; the number among 359 has a standard deviation of 9.3 or less.
    assert len(trained & tested) == pytest.approx(0.6 * len(tested), abs=5 * 9.3)
    without = protocol._replace(leaked_split=False)
    assert not trained & set(learning.parts(hybrid, images, without)[2].tolist())
    assert set(learning.parts(artificial, images, without)[0].tolist()) == trained


@pytest.mark.parametrize(("architecture", "scale"), [("A16-A10", 25), ("A16-S10", 1)])
def test_logits_of_an_artificial_network_count_t_times_in_its_loss(architecture, scale):
    torch.manual_seed(0)
    module = Classifier(HybridNetwork(architecture, (1, 8, 8)), PROTOCOL._replace(logit_scale=25.0))
    logits = torch.randn(4, 10)
    assert torch.equal(module._scaled(logits), scale * logits)
    # T log-softmaxes added, and the softmax of their sum: so it is in the authors' program.
    added = 25 * logits.log_softmax(1)
    torch.testing.assert_close(added.log_softmax(1), (25 * logits).log_softmax(1))


def test_a_second_axon_is_one_filter_more():
    """The current behind the pool is that of the filtered, pooled train filtered once more."""
    torch.manual_seed(0)
    options = {"steps": 6, "gain": 4.0, "input": "axon"}
    network = HybridNetwork("S4C3-P2-S10", (1, 8, 8), pool_axon=True, **options)
    plain = HybridNetwork("S4C3-P2-S10", (1, 8, 8), **options)
    plain.load_state_dict(network.state_dict())
    signal = network.code(torch.rand(3, 1, 8, 8))
    pooled = network.spiking[1].before(network.spiking[0](signal).flatten(0, 1)).unflatten(0, (6, 3))
    assert pooled.any()
    filtered = network.spiking[1].axon(pooled)
    found = network.spiking[1].current(type(signal)(network.spiking[0](signal)))
    torch.testing.assert_close(found, network.spiking[1].weights(filtered))
    assert not torch.allclose(found, plain.spiking[1].current(type(signal)(plain.spiking[0](signal))))
    with pytest.raises(ValueError, match="takes a train; got a signal that is constant"):
        network.spiking[1].once(type(signal)(pooled[0], 6))
    with pytest.raises(ValueError, match="pool_axon needs an axon; got axon=None"):
        HybridNetwork("S4C3-P2-S10", (1, 8, 8), axon=None, pool_axon=True)


@pytest.mark.parametrize("recipe", ["authors", "fault-leaked-split", "fault-divided-twice"])
def test_cells_are_trained_with_the_recipe(recipe, tmp_path):
    chosen = [CELLS[2], CELLS[6]] if recipe == "authors" else [CELLS[2]]
    work = reproduction(tmp_path, Plan(recipe, epochs=1))
    work.fill(chosen, [0])
    assert work.left(chosen, [0]) == []
    found = checkpoint.load(work.run_dir(work.run_of(CELLS[2]), 0) / "best.ckpt")
    assert found.protocol.leaked_split == (recipe == "fault-leaked-split")
    assert found.network.activations == ("sigmoid",)
    assert found.network.settings.learn == ("axon",)
    page = work.record.with_suffix(".md").read_text()
    assert f"| A16-S10 | separate | {recipe}, 1 epoch |" in page
    assert Plan(recipe, epochs=1).label("digits") == f"{recipe}, 1 epoch"
