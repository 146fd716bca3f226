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


def test_no_module_with_a_signal_handler_has_an_event() -> None:
    """`Event.set` in a handler waits for the event's lock, which the interrupted main thread may hold."""
    modules = [
        path for folder in ("app", "model", "store", "telemetry", "worker") for path in (ROOT / folder).rglob("*.py")
    ]
    with_handlers = {
        path.relative_to(ROOT): path.read_text() for path in modules if "signal.signal(" in path.read_text()
    }
    assert len(with_handlers) > 3
    assert {str(path) for path, text in with_handlers.items() if "Event()" in text} == set()
