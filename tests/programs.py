"""Finds programs of Debian's packages for tests."""

import os
import shutil
from pathlib import Path

import pytest


def program(name: str, package: str = "prometheus") -> str:
    """Return the program's path. A missing program skips the test, but fails it in CI, which installs it."""
    servers = sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")))  # Debian puts PostgreSQL outside of PATH
    found = shutil.which(name, path=os.pathsep.join([os.environ["PATH"], *servers]))
    if found is not None:
        return found
    reason = f"{name} is missing: install Debian's package {package}"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
