"""The rooms of hnn_models: who may import whom, and what a name at the top needs."""

import subprocess
import sys

import pytest

import hnn_models
from support.imports import problems

# From the bottom to the top. Data and the network know nothing of each other; both are below the rooms that use them.
LAYERS = [
    [
        "hnn_models.errors",
        "hnn_models.paths",
        "hnn_models.plain",
        "hnn_models.memory",
        "hnn_models.signals",
        "hnn_models.records",
    ],
    ["hnn_models.network.*", "hnn_models.data.*"],
    ["hnn_models.training.*"],
    ["hnn_models.analysis.*"],
    ["hnn_models.paper.*"],
    ["hnn_models.cli.*"],
    ["hnn_models", "hnn_models.__main__"],
]


def test_imports_go_down():
    assert not problems("hnn_models", LAYERS)


@pytest.mark.parametrize("room", ["network", "data"])
def test_data_and_network_do_not_import_each_other(room):
    """One of the two is put above the other, and may not be imported from there; then the other way round."""
    other = {"network": "data", "data": "network"}[room]
    layers = [LAYERS[0], [f"hnn_models.{room}.*"], [f"hnn_models.{other}.*"], *LAYERS[2:]]
    assert not problems("hnn_models", layers)


def test_the_top_level_names():
    assert [getattr(hnn_models, name) for name in hnn_models.__all__]
    assert set(hnn_models.__all__) <= set(dir(hnn_models))
    assert hnn_models.__all__ == sorted(hnn_models.__all__, key=lambda name: (not name.isupper(), name))
    with pytest.raises(AttributeError, match="'hnn_models' has no attribute 'Network'"):
        hnn_models.Network  # noqa: B018


@pytest.mark.parametrize(
    "use",
    [
        "hnn_models.HybridNetwork('A16-S10', (1, 4, 4))",
        "hnn_models.NetworkConfig('A16-S10', (1, 4, 4))",
        "hnn_models.parse('A16-S10')",
        "hnn_models.Protocol.of('digits')",
        "hnn_models.load, hnn_models.load_images, hnn_models.ImageSet",
    ],
)
def test_needs_torch_alone(use):
    """The packages of the extra 'models' cannot be imported here, as where they are not installed."""
    extra = ("lightning", "torchmetrics", "tensorboard", "torchvision", "PIL", "sklearn", "typer", "rich", "matplotlib")
    hide = f"import sys; sys.modules.update(dict.fromkeys({extra!r}))"
    done = subprocess.run([sys.executable, "-c", f"{hide}; import hnn_models; {use}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
