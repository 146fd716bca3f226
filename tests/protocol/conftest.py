"""The model's graph, for all tests of the folder."""

import pytest

from tests.protocol.model import Edges, explore


@pytest.fixture(scope="session")
def edges() -> Edges:
    """Return every state with its steps; the laws hold at each of them."""
    return explore()
