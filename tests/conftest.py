"""Fixtures that every part's tests may ask for, and one thread for all arithmetic, here and in processes started here.

The number of threads decides the order of sums, so runs are equal to the last bit only where it is the same; and with
several threads a test's tiny networks are no faster.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is imported, so it stands before

import pytest
import torch

from tests.processes import pass_on_no_ignored_signal

torch.set_num_threads(1)
pass_on_no_ignored_signal()

SYSTEM_TIMEOUT_SECONDS = 1800

pytest_plugins = ["tests.fixtures.postgres", "tests.fixtures.redis", "tests.fixtures.spans"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole systems first: their tests are the longest and mostly wait, so none should be left alone at the end."""
    items.sort(key=lambda item: not _of_a_system(item))
    for item in filter(_of_a_system, items):
        item.add_marker(pytest.mark.timeout(SYSTEM_TIMEOUT_SECONDS))


def _of_a_system(item: pytest.Item) -> bool:
    return item.nodeid.startswith("tests/system/")
