"""Laws of ARCHITECTURE.md and CONTRIBUTING.md: every path in them exists, and every room is in the list of floors."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = {"app": r"### The floors of app/(.*?)\n### ", "model": r"### The floors of model/(.*?)\n## "}


@pytest.mark.parametrize("page", ["ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_every_path_that_a_page_names_exists(page: str) -> None:
    text = (ROOT / page).read_text()
    named = set(re.findall(r"`([a-z_]+/[a-z0-9_]+(?:/[a-z0-9_]+)*(?:\.[a-z0-9]+|/))`", text))
    assert len(named) > 5
    assert {path for path in named if not (ROOT / path).exists()} == set()


@pytest.mark.parametrize("folder", ROOMS)
def test_every_room_stands_on_a_floor(folder: str) -> None:
    found = re.search(ROOMS[folder], (ROOT / "ARCHITECTURE.md").read_text(), re.DOTALL)
    assert found
    told = set(re.findall(r"`([a-z_]+)/`", found[1]))
    rooms = {path.parent.name for path in (ROOT / folder).glob("*/__init__.py")}
    assert told >= rooms
    assert told - rooms <= {"model", "app"}
