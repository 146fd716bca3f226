"""Prometheus' own programs, for tests; they come with Debian's package `prometheus`."""

import os
import shutil

import pytest


def program(name: str) -> str:
    """Where the program is. Without it a test is skipped, but fails in CI, where it is installed beforehand."""
    found = shutil.which(name)
    if found is not None:
        return found
    reason = f"{name} is missing: install Debian's package prometheus"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
