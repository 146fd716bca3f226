"""The service that most tests of the API share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.app.served import Service, serving, weights_folder


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the weights of two tiny models, `other` and `tiny`."""
    return weights_folder(tmp_path_factory.mktemp("weights"), other=1, tiny=0)


@pytest.fixture(scope="session")
def service(weights: Path) -> Iterator[Service]:
    """A service with two tiny models, `tiny` the default, small limits, and no database."""
    with serving(weights, default_model="tiny", request_rows=32, body_limit_bytes=50_000) as service:
        yield service
