"""Finds Prometheus' programs for tests. They are in Debian's package `prometheus`."""

import os
import shutil

import pytest


def program(name: str) -> str:
    """Return the program's path. A missing program skips the test, but fails it in CI, which installs it."""
    found = shutil.which(name)
    if found is not None:
        return found
    reason = f"{name} is missing: install Debian's package prometheus"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
