"""Laws of the pages of settings, recipes and commands: they are complete and match the code."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.reference import PAGES, all_tables, rewritten
from darkroom.model.config import parse_recipe
from tests.compose import ROOT

CODE = ("app", "model", "store", "telemetry", "worker")
# Patterns for environment variables that a user may set, by kind of file.
VARIABLES = {
    "docker-compose.yml": r"\$\{([A-Z_]+)",
    "docker-compose.workers.yml": r"\$\{([A-Z_]+)",
    "deploy/compose/servers.yml": r"\$\{([A-Z_]+)",
    "Dockerfile.gpu": r"^ARG ([A-Z_]+)",
    "Makefile": r"^([A-Z]+) \??= ",
}


def _page(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def _named_in_code() -> Iterator[str]:
    for folder in CODE:
        for path in (ROOT / folder).rglob("*.py"):
            yield from re.findall(r"\bDARKROOM_[A-Z_]+[A-Z]", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", PAGES)
def test_the_tables_are_those_of_the_code(name: str) -> None:
    assert _page(name) == rewritten(_page(name)), "run `make docs`"


def test_every_table_has_its_page_and_no_empty_cell() -> None:
    placed = {table for name in PAGES for table in re.findall(r"<!-- table (\S+) -->", _page(name))}
    assert placed == all_tables().keys()
    rows = [row for text in all_tables().values() for row in text.splitlines() if row.startswith("|")]
    assert len(rows) > 100
    assert not [row for row in rows if re.search(r"\|\s*\|", row)]


def test_the_page_of_settings_has_every_variable_that_code_deployment_and_makefile_name() -> None:
    named = set(_named_in_code())
    for file, pattern in VARIABLES.items():
        named |= set(re.findall(pattern, (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE))
    first_cells = re.findall(r"^\| ([^|]+) \|", _page("settings.md"), re.MULTILINE)
    listed = {variable for cell in first_cells for variable in re.findall(r"`([\w*]+)`", cell)}
    assert {"DARKROOM_URL", "DARKROOM_LPIPS_ALEXNET", "API_CPUS", "TORCH_INDEX", "PYTHON"} <= named
    assert named <= listed


def test_the_example_is_a_recipe() -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", _page("recipe.md"), re.DOTALL)
    recipe = parse_recipe(yaml.safe_load(example), source="docs/recipe.md")
    assert recipe.model.image_size == recipe.dataset.image_size


@pytest.mark.parametrize("page", sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").glob("*.md")), ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)", page.read_text(encoding="utf-8")):
        file = page.parent / target if target else page
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", one).lower().replace(" ", "-") for one in headings}, anchor


def test_the_code_that_contributing_shows_is_the_code() -> None:
    shown = re.findall(r"```python\n# (\S+)\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    assert len(shown) == 3
    for file, code in shown:
        assert code in (ROOT / file).read_text(encoding="utf-8"), file


def test_the_library_draws_as_the_page_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", _page("generate.md"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    made: dict[str, Any] = {}
    exec(code, made)
    assert made["images"].pixels.shape == (8, 28, 28, 1)
    assert (len(made["best"]), len(made["between"])) == (8, 10)
    assert (tmp_path / "clothes.png").is_file()
