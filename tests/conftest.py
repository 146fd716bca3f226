"""Fixtures for all tests. Also sets one thread for arithmetic, in this process and in those that tests start.

The number of threads changes the order of sums, so runs are equal to the last bit only with the same number. More
threads would not make the tests' tiny networks faster.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # torch reads it when it is imported

import pytest
import torch

from tests.processes import pass_on_no_ignored_signal

torch.set_num_threads(1)
pass_on_no_ignored_signal()

SYSTEM_TIMEOUT_SECONDS = 1800

pytest_plugins = ["tests.fixtures.postgres", "tests.fixtures.redis", "tests.fixtures.spans"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests of whole systems first: they are the longest and mostly wait, so others fill their waits."""
    items.sort(key=lambda item: not _of_a_system(item))
    for item in filter(_of_a_system, items):
        item.add_marker(pytest.mark.timeout(SYSTEM_TIMEOUT_SECONDS))


def _of_a_system(item: pytest.Item) -> bool:
    return item.nodeid.startswith("tests/system/")
