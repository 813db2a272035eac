"""The process that runs the programs and code blocks of the documents."""

import pytest

from support.forked import Forks


@pytest.fixture(scope="session")
def forks():
    server = Forks()
    yield server
    server.close()
