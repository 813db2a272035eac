"""Networks in wrappers, and networks whose layers have been changed: their training, their state, their checkpoints."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm
from torch.optim.swa_utils import AveragedModel

from hnn_models import HybridNetwork, SpikingLayer, load
from hnn_models.analysis import energy
from hnn_models.network.activity import activity
from hnn_models.network.wrappers import unwrapped
from support.small_network import CPU, PROTOCOL, assert_same_weights, build, saved_weights, train

learning = pytest.importorskip("hnn_models.training.learning", reason="training needs the extra 'models'")

ONE = PROTOCOL._replace(epochs=1)


def compiled_in_place(network):
    network.compile(backend="eager")
    return network


WRAPPERS = {
    "torch.compile": lambda network: torch.compile(network, backend="eager"),
    "compile in place": compiled_in_place,
    "DataParallel": nn.DataParallel,
    "AveragedModel": AveragedModel,
    "DataParallel of torch.compile": lambda network: nn.DataParallel(torch.compile(network, backend="eager")),
}


@pytest.fixture(scope="module")
def few(digits):
    return digits.subset(torch.arange(200))


@pytest.fixture(scope="module")
def trained(few, tmp_path_factory):
    """The weights of a plain network after an epoch."""
    folder = tmp_path_factory.mktemp("plain")
    return saved_weights(folder) if train(build(), few, folder, ONE) else None


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_a_wrapped_network_trains_as_the_network_inside(wrap, few, trained, tmp_path):
    wrapped = wrap(build())
    inside = unwrapped(wrapped)
    outcome = train(wrapped, few, tmp_path, ONE)
    assert_same_weights(saved_weights(tmp_path), trained)
    loaded = load(outcome.checkpoint).network
    assert_same_weights(loaded.state_dict(), inside.state_dict())
    assert learning.evaluate(wrapped, few, ONE, device=CPU, progress=False) == outcome.test_accuracy
    images = few[torch.arange(5)][0]
    assert torch.equal(loaded(images), wrapped(images))
    assert [cost.spikes for cost in energy.profile(wrapped, [images])] == [
        cost.spikes for cost in energy.profile(inside, [images])
    ]
    assert len(list(activity(wrapped, images))) == 2


def test_a_compiled_network_runs_as_compiled(few, tmp_path):
    graphs = []
    torch.compiler.reset()

    def backend(graph, inputs):
        graphs.append(graph)
        return graph

    train(torch.compile(build(), backend=backend), few, tmp_path / "wrapped", ONE)
    wrapped = len(graphs)
    assert wrapped > 0
    torch.compiler.reset()  # else the code that is compiled for the first network may serve the second one, too
    network = build()
    network.compile(backend=backend)
    train(network, few, tmp_path / "in place", ONE)
    assert len(graphs) > wrapped


def test_hooks_of_the_network_run_in_training(few, tmp_path):
    network, seen = build(), []
    network.register_forward_hook(lambda *_: seen.append(1))
    train(network, few, tmp_path, ONE)
    assert len(seen) > 5


def test_what_is_no_network_is_refused(few, tmp_path):
    with pytest.raises(TypeError, match=r"network must be a HybridNetwork, or one inside .* got Linear"):
        train(nn.Linear(2, 2), few, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_the_state_of_a_wrapped_network_loads_and_the_other_way_round(wrap):
    source, plain = wrap(build()), build()
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.mul_(3)
    plain.load_state_dict(source.state_dict())
    assert_same_weights(plain.state_dict(), unwrapped(source).state_dict())
    other = build()
    other.spiking[0] = torch.compile(other.spiking[0], backend="eager")
    other.load_state_dict(source.state_dict())
    images = torch.rand(3, 1, 8, 8)
    assert torch.equal(other(images), plain(images))
    assert plain(images).sum() > 0
    plain.load_state_dict(other.state_dict())


def test_the_state_of_another_network_is_refused():
    state = torch.compile(build(), backend="eager").state_dict()
    state["_orig_mod.artificial.9.weight"] = torch.zeros(1)
    with pytest.raises(RuntimeError, match=r'Unexpected key.*"_orig_mod.artificial.9.weight"'):
        build().load_state_dict(state)
    with pytest.raises(RuntimeError, match="size mismatch"):
        build("A64-S31-S10").load_state_dict(nn.DataParallel(build()).state_dict())
    with pytest.raises(TypeError, match="state_dict"):
        build().load_state_dict(None)


def no_bias(network):
    network.spiking[0].weights.bias = None


CHANGES = {
    "pruned": lambda network: prune.l1_unstructured(network.spiking[0].weights, "weight", 0.5),
    "pruned bias": lambda network: prune.random_unstructured(network.artificial[1], "bias", 0.5),
    "weight_norm of hooks": lambda network: weight_norm(network.spiking[0].weights),
    "weight_norm": lambda network: parametrizations.weight_norm(network.spiking[0].weights),
    "spectral_norm of hooks": lambda network: spectral_norm(network.artificial[1]),
    "spectral_norm": lambda network: parametrizations.spectral_norm(network.artificial[1]),
    "orthogonal": lambda network: parametrizations.orthogonal(network.artificial[1]),
    "no bias": no_bias,
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_network_trains_and_its_checkpoint_holds_the_weights_that_it_used(change, few, tmp_path):
    network = build(gain=6.0)
    change(network)
    outcome = train(network, few, tmp_path / "run", PROTOCOL._replace(epochs=2))
    images = few[torch.arange(50)][0]
    loaded = load(outcome.checkpoint).network
    network.eval()
    assert network(images).sum() > 0
    torch.testing.assert_close(loaded(images), network(images))
    assert learning.evaluate(loaded, few, PROTOCOL, device=CPU, progress=False) == outcome.test_accuracy
    assert_same_weights(loaded.state_dict(), network.plain_state())
    # A run that is continued has the same change, and goes on with its tensors.
    again = build(gain=6.0)
    change(again)
    train(again, few, tmp_path / "run", PROTOCOL._replace(epochs=2), resume=True)
    assert_same_weights(again.plain_state(), network.plain_state())


class Adapter(nn.Module):
    def __init__(self, base):
        super().__init__()
        self.base = base

    @property
    def weight(self):
        return self.base.weight

    @property
    def bias(self):
        return self.base.bias

    def forward(self, x):
        return 2 * self.base(x)


def adapted(network):
    network.spiking[0].weights = Adapter(network.spiking[0].weights)


def other_activation(network):
    network.artificial[2] = nn.GELU()


def more_modules(network):
    network.artificial.append(nn.Dropout())


def more_tensors(network):
    network.register_buffer("scale", torch.ones(1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (adapted, "its spiking.0.weights is Adapter, not Linear"),
        (other_activation, "its artificial.2 is GELU, not ReLU"),
        (more_modules, "its arguments have no artificial.3"),
        (more_tensors, "its arguments have no scale"),
        (HybridNetwork.double, "its artificial.1.weight is torch.float64"),
        (lambda network: setattr(network.spiking[0].weights, "weight", nn.Parameter(torch.ones(3, 64))), "is torch"),
    ],
)
def test_what_no_checkpoint_can_describe_is_refused_before_training(change, message, few, tmp_path):
    network = build()
    change(network)
    with pytest.raises(ValueError, match=f"network cannot be rebuilt from its arguments.*{message}"):
        train(network, few, tmp_path / "run", ONE)
    assert not (tmp_path / "run").exists()


def test_weight_decay_reaches_the_matrices_of_changed_layers_and_no_coefficient():
    from hnn_models.training.classifier import Classifier

    network = build(learn=("axon",), input="axon")
    CHANGES["pruned"](network)
    parametrizations.weight_norm(network.spiking[1].weights)
    module = Classifier(network, PROTOCOL._replace(weight_decay=0.1))
    decayed, free = (group["params"] for group in module.configure_optimizers()["optimizer"].param_groups)
    names = {id(p): name for name, p in network.named_parameters()}
    assert {names[id(p)] for p in decayed} == {
        "artificial.1.weight",
        "spiking.0.weights.weight_orig",
        "spiking.1.weights.parametrizations.weight.original0",
        "spiking.1.weights.parametrizations.weight.original1",
    }
    assert {names[id(p)] for p in free} == {name for name in names.values() if "bias" in name or "feed" in name}


def test_training_looks_at_a_network_without_hooks_on_its_weights(few, tmp_path, monkeypatch):
    """Such a hook would have the weights meet every step."""
    folded, once = [], SpikingLayer.once

    def recorded(layer, signal):
        if signal.response is not None:
            folded.append(once(layer, signal))
        return once(layer, signal)

    monkeypatch.setattr(SpikingLayer, "once", recorded)
    train(build(input="axon"), few, tmp_path, ONE)
    assert len(folded) > 5
    assert all(folded)


@pytest.mark.parametrize("options", [{}, {"input": "axon"}, {"input": "axon", "learn": ("axon",)}])
def test_a_network_is_exported(options):
    network = HybridNetwork("A8-S6-S10", (1, 8, 8), steps=3, gain=6, **options)
    images = torch.rand(3, 1, 8, 8)
    exported = torch.export.export(network, (images,)).module()
    assert torch.equal(exported(images), network(images))


@pytest.mark.parametrize("wrapper", ["", "_orig_mod.", "module."])
def test_the_former_name_of_the_coding_is_understood(wrapper):
    one, other = (HybridNetwork("S6-S10", (1, 8, 8), steps=3, input="axon", learn=("axon",)) for _ in range(2))
    with torch.no_grad():
        one.code.axon.feedback.mul_(0.5)
    former = {wrapper + name.replace("coder.", "code."): value for name, value in one.state_dict().items()}
    assert wrapper + "code.axon.feedback" in former
    other.load_state_dict(former)
    assert torch.equal(other.code.axon.feedback, one.code.axon.feedback)
    if not wrapper:  # a run that goes on loads the state of the module around the network
        third = torch.nn.ModuleDict({"network": HybridNetwork(**one.config)})
        third.load_state_dict({f"network.{name}": value for name, value in former.items()})
        assert torch.equal(third["network"].code.axon.feedback, one.code.axon.feedback)
