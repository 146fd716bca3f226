"""A browser for the tests of a module. It ends with the module, because its event loop would disturb other tests."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.app.console.browser import chromium


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Headless Chromium."""
    with chromium() as found:
        yield found
