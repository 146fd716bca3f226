"""Laws of the types of problems: the page explains every type that the service can answer, and no other."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import darkroom.app
from darkroom.app.access.limits import IMAGES, NETWORK_ROWS, REQUESTS
from darkroom.app.http.problem_types import PAGE, TYPES, problem_type
from darkroom.app.http.problems import HTTP_KINDS
from tests.app.served import Service

APP = Path(darkroom.app.__path__[0])

BY_NAME = {(429, f"{window.name}-limit") for window in (REQUESTS, IMAGES, NETWORK_ROWS)} | {
    (403, f"{right}-limit") for right in ("priority", "devices")
}
BY_NAME |= {(429, f"{what}-limit") for what in ("open-requests", "open-event-streams")}
"""Those whose kind the code composes."""


def _answered() -> Iterator[tuple[int, str]]:
    """Yield (status, kind) of each call in app/ that makes a problem."""
    fixed = {"_conflict": 409, "_problem": 429, "_never": 403}
    for path in APP.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name | ast.Attribute):
                continue
            name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
            given = [one.value for one in node.args if isinstance(one, ast.Constant)]
            if name in ("Problem", "_answer", "_refusal") and len(given) >= 2:
                yield given[0], given[1]
            elif name in fixed and given:
                yield fixed[name], given[0]


def test_every_type_is_explained_and_no_other() -> None:
    answered = {*_answered(), *BY_NAME, *HTTP_KINDS.items(), (403, "above-limit")}
    explained = {(status, kind) for kind, one in TYPES.items() for status in one.statuses}
    assert answered == explained


@pytest.mark.parametrize("kind", TYPES)
def test_the_type_opens_at_its_section_of_the_page(service: Service, kind: str) -> None:
    address, _, section = problem_type(kind).partition("#")
    page = service.client.get(address)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.text.count(f'id="{section}"') == 1


def test_the_page_loads_nothing_from_elsewhere(service: Service) -> None:
    page = service.client.get(PAGE).text
    linked = re.findall(r'(?:src|href)="([^"#]+)"', page)
    assert len(linked) >= 4
    for address in linked:
        assert address.startswith("/")
        assert service.client.get(address).status_code == 200, address
    assert "<script" not in page
    assert "style=" not in page
