"""Recipes: shipped ones load, and errors name misspelt fields."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from darkroom.model.config import (
    Recipe,
    RecipeError,
    SamplingConfig,
    SettingsError,
    load_recipe,
    parse_recipe,
    set_field,
)

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_shipped_recipe_loads(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


def test_recipes_are_shipped() -> None:
    assert {"cifar10", "digits", "fashion-mnist", "stl10"} <= {path.stem for path in RECIPES}


def minimal(**changes: Any) -> dict[str, Any]:
    training = {"total_images": 10, "checkpoint_every_images": 5, "sample_every_images": 5}
    return {"name": "tiny", "dataset": {"format": "digits"}, "training": training} | changes


def test_fields_that_are_left_out_have_the_documented_defaults() -> None:
    recipe = parse_recipe(minimal(), source="tiny")
    assert (recipe.model.schedule.name, recipe.model.schedule.steps, recipe.model.prediction) == ("cosine", 1000, "eps")
    assert (recipe.ema.warmup, recipe.ema.warmup_iterations) == ("copy", 2000)
    assert recipe.objective.label_drop == 0.1


@pytest.mark.parametrize(
    ("data", "field"),
    [
        (minimal(optimiser={}), "optimiser"),
        (minimal(model={"unet": {"widht": 64}}), "model.unet.widht"),
        (minimal(model={"shedule": {}}), "model.shedule"),
        (minimal(training={"total_images": 10}), "training.checkpoint_every_images"),
        (minimal(sampling={"sampler": "euler"}), "sampling.sampler"),
        (minimal(ema={"decay": 1.0}), "ema.decay"),
        (minimal(name="Not A Name"), "name"),
        ([1, 2], "recipe"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_faulty_field_is_named(data: Any, field: str) -> None:
    with pytest.raises(RecipeError, match=rf"^bad\.yaml: {field}: "):
        parse_recipe(data, source="bad.yaml")


def test_every_fault_is_named_at_once() -> None:
    with pytest.raises(RecipeError, match=r"ema\.decoy.*sampling\.stepz"):
        parse_recipe(minimal(ema={"decoy": 1}, sampling={"stepz": 2}), source="x")


def test_files_that_cannot_be_read_are_recipe_errors(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"none\.yaml: No such file"):
        load_recipe(tmp_path / "none.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [1, 2")
    with pytest.raises(RecipeError, match=r"broken\.yaml: not valid YAML"):
        load_recipe(broken)
    broken.write_bytes(b"name: \xff\xfe")
    with pytest.raises(RecipeError, match="not valid YAML"):
        load_recipe(broken)
    broken.write_text("!!python/object/apply:os.getcwd []")
    with pytest.raises(RecipeError, match="not valid YAML"):
        load_recipe(broken)


@pytest.mark.parametrize("field", SamplingConfig.model_fields)
def test_configuration_cannot_be_changed(field: str) -> None:
    with pytest.raises(ValidationError):
        setattr(SamplingConfig(), field, 3)


@pytest.mark.parametrize("guidance", [float("nan"), float("inf"), -0.1])
def test_guidance_is_a_finite_weight(guidance: float) -> None:
    with pytest.raises(ValidationError):
        SamplingConfig(guidance=guidance)


def test_a_field_is_set_by_its_path_and_a_section_changes_only_what_it_names() -> None:
    data: dict[str, Any] = {"model": {"unet": {"width": 32, "dropout": 0.0}}, "evaluation": None}
    set_field(data, ("model", "unet", "width"), 64)
    set_field(data, ("model", "unet"), {"dropout": 0.1})
    set_field(data, ("model", "unet", "image_size"), 28)  # its old place
    set_field(data, ("evaluation",), {"images": 10})
    set_field(data, ("sampling", "steps"), 7)
    set_field(data, ("model", "unet"), {})
    assert data == {
        "model": {"unet": {"width": 64, "dropout": 0.1}, "image_size": 28},
        "evaluation": {"images": 10},
        "sampling": {"steps": 7},
    }
    with pytest.raises(SettingsError, match=r"width in model\.unet\.width\.more has no fields"):
        set_field(data, ("model", "unet", "width", "more"), 1)


def _fields(schema: dict[str, Any], kinds: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (path, schema) of every field below a schema of JSON Schema."""
    if "$ref" in schema:
        schema = kinds[schema["$ref"].rpartition("/")[2]]
    yield path, schema
    for name, one in schema.get("properties", {}).items():
        yield from _fields(one, kinds, f"{path}.{name}")
    for one in (*schema.get("anyOf", ()), *schema.get("prefixItems", ()), *filter(None, [schema.get("items")])):
        yield from _fields(one, kinds, path)


def test_every_number_and_every_list_of_a_recipe_has_an_upper_bound() -> None:
    schema = Recipe.model_json_schema()
    fields = list(_fields(schema, schema["$defs"], "recipe"))
    numbers = [(path, one) for path, one in fields if one.get("type") in ("integer", "number")]
    lists = [(path, one) for path, one in fields if one.get("type") == "array"]
    assert len(numbers) > 45
    assert len(lists) >= 7
    assert [path for path, one in numbers if not {"maximum", "exclusiveMaximum", "enum"} & one.keys()] == []
    assert [path for path, one in lists if "maxItems" not in one] == []
