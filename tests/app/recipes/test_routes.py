"""Laws of GET /recipes: a job can name every listed recipe, and the answer has the fields that overrides can change."""

import shutil
from pathlib import Path

from darkroom.app.settings import REPOSITORY
from tests.app.served import Service, serving


def test_every_recipe_of_the_repository_is_listed_by_its_files_name(service: Service) -> None:
    listed = service.client.get("/v1/recipes").json()
    assert listed["unreadable"] == []
    names = [recipe["name"] for recipe in listed["recipes"]]
    assert names == sorted(path.stem for path in (REPOSITORY / "recipes").glob("*.yaml"))
    digits = next(recipe for recipe in listed["recipes"] if recipe["name"] == "digits")
    assert digits["configuration"]["training"]["total_images"] == 150_000
    assert digits["configuration"]["training"]["precision"] == "float32"  # defaults are included


def test_an_invalid_recipe_file_is_named_and_hides_no_other(weights: Path, tmp_path: Path) -> None:
    shutil.copy(REPOSITORY / "recipes" / "digits.yaml", tmp_path / "mine.yaml")
    (tmp_path / "broken.yaml").write_text("name: [", encoding="utf-8")
    with serving(weights, recipes_folder=tmp_path) as service:
        listed = service.client.get("/v1/recipes").json()
    assert [recipe["name"] for recipe in listed["recipes"]] == ["mine"]
    assert listed["unreadable"] == ["broken.yaml"]
