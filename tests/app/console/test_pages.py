"""Laws of serving the console: types, revalidation, a strict policy that its files obey, and the package."""

import re
import tomllib
from importlib.resources import files
from pathlib import Path

import pytest

from darkroom.app.console.pages import FOLDER
from darkroom.app.settings import REPOSITORY
from tests.app.served import Service

STATIC = Path(str(FOLDER))
FILES = sorted(str(path.relative_to(STATIC)) for path in STATIC.rglob("*") if path.is_file())
TYPES = {".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".svg": "image/svg+xml"}


@pytest.mark.parametrize("path", ["/", *(f"/console/{name}" for name in FILES)])
def test_a_file_has_its_type_and_policy_and_is_sent_once(service: Service, path: str) -> None:
    answer = service.client.get(path)
    assert answer.status_code == 200
    suffix = Path(path).suffix or ".html"
    assert answer.headers["content-type"] == f"{TYPES[suffix]}; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-content-type-options"] == "nosniff"
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'self'"
    assert policy["img-src"] == "'self' blob: data:"
    assert "unsafe" not in str(policy)
    again = service.client.get(path, headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["content-security-policy"] == answer.headers["content-security-policy"]


def test_nothing_else_is_served(service: Service) -> None:
    for path in ("/console/none.js", "/console/", "/console/../pages.py", "/console/%2e%2e/pages.py", "/console/src"):
        answer = service.client.get(path)
        assert answer.status_code == 404, path
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".js")])
def test_every_import_names_a_served_module(name: str) -> None:
    source = (STATIC / name).read_text(encoding="utf-8")
    for target in re.findall(r'^(?:import|export) .*?from "([^"]+)";$', source, re.MULTILINE | re.DOTALL):
        assert ((STATIC / name).parent / target).is_file(), target


@pytest.mark.parametrize("name", FILES)
def test_no_file_names_another_origin_or_makes_markup_from_text(name: str) -> None:
    source = (STATIC / name).read_text(encoding="utf-8")
    known = {"http://www.w3.org/2000/svg"}  # a namespace, which browsers do not fetch
    assert set(re.findall(r"https?://[^\s\"'`$)]+", source)) <= known
    for unsafe in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
        assert unsafe not in source


def test_every_file_is_in_the_package() -> None:
    with (REPOSITORY / "pyproject.toml").open("rb") as file:
        patterns = tomllib.load(file)["tool"]["setuptools"]["package-data"]["darkroom.app.console"]
    package = Path(str(files("darkroom.app.console")))
    packed = {str(path.relative_to(STATIC)) for pattern in patterns for path in package.glob(pattern) if path.is_file()}
    assert packed == set(FILES)
