"""Commands print no lines of progress in tests, however slow the machine is. Tests of progress change that."""

import math

import pytest

from darkroom import progress


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no command reach the time of its first line."""
    monkeypatch.setattr(progress, "FIRST_LINE_SECONDS", math.inf)
