"""Fixtures for all tests. Also sets one thread for arithmetic, in this process and in those that tests start.

The number of threads changes the order of sums, so runs are equal to the last bit only with the same number. More
threads would not make the tests' tiny networks faster.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # torch reads it when it is imported
os.environ["DARKROOM_MEASURE_SPEED"] = "false"  # workers of the tests would train in their idle moments

import pytest
import torch

from tests.processes import pass_on_no_ignored_signal

torch.set_num_threads(1)
pass_on_no_ignored_signal()

PROCESSES_TIMEOUT_SECONDS = 300
SYSTEM_TIMEOUT_SECONDS = 600
"""Limits for one test that starts processes, and for one of a whole system; the others have pytest's own setting."""

SERVERS = frozenset(("postgres_server", "redis_server", "s3_server", "browser"))
"""Fixtures that start a process."""

STARTERS = frozenset(("subprocess", "warm", "proxy"))
"""Modules and functions that start processes."""

pytest_plugins = ["tests.fixtures.postgres", "tests.fixtures.redis", "tests.fixtures.s3", "tests.fixtures.spans"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run whole systems first, then other tests that start processes: they wait much, and shorter tests fill the waits.

    Tests that start processes get the marker `processes`, which `make test-quick` leaves out, and more time.
    """
    items.sort(key=lambda item: (not _of_a_system(item), not _starts_processes(item)))
    for item in filter(_starts_processes, items):
        seconds = SYSTEM_TIMEOUT_SECONDS if _of_a_system(item) else PROCESSES_TIMEOUT_SECONDS
        item.add_marker(pytest.mark.processes)
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(seconds))


def _starts_processes(item: pytest.Item) -> bool:
    """True when the test asks for a server or a browser, or its module imports one of STARTERS."""
    assert isinstance(item, pytest.Function)
    return _of_a_system(item) or not SERVERS.isdisjoint(item.fixturenames) or not STARTERS.isdisjoint(vars(item.module))


def _of_a_system(item: pytest.Item) -> bool:
    return item.nodeid.startswith("tests/system/")
