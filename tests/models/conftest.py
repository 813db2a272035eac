"""Images, and one run on them that several files look at."""

import pytest

from hnn_models.data import datasets


@pytest.fixture(scope="session")
def digits():
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn, in the extra 'models'")
    return datasets.load_images("digits")


@pytest.fixture(scope="session")
def run(digits, tmp_path_factory):
    """``(network, outcome)`` of three epochs."""
    from support.small_network import build, train

    network = build()
    return network, train(network, digits, tmp_path_factory.mktemp("run"))
