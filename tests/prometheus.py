"""Finds programs of Debian's packages for tests, such as Prometheus' own."""

import os
import shutil

import pytest


def program(name: str, package: str = "prometheus") -> str:
    """Return the program's path. A missing program skips the test, but fails it in CI, which installs it."""
    found = shutil.which(name)
    if found is not None:
        return found
    reason = f"{name} is missing: install Debian's package {package}"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
