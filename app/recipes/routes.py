"""GET /recipes: what a training job may name."""

import logging
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from darkroom.app.dependencies.services import ServicesHere
from darkroom.app.http.problems import documented
from darkroom.model.config import RecipeError, load_recipe

log = logging.getLogger(__name__)

router = APIRouter(tags=["training"])


class RecipeAnswer(BaseModel):
    """A recipe. configuration: with every default written out; its fields are what `overrides` may change."""

    name: str
    description: str
    configuration: dict[str, Any]


class RecipesAnswer(BaseModel):
    """By name."""

    recipes: list[RecipeAnswer]
    unreadable: list[str] = Field(description="files that are no valid recipes; the service's log says why")


@router.get("/recipes", responses=documented(500))
def recipes(services: ServicesHere) -> RecipesAnswer:
    """The recipes that POST /train-jobs and POST /v1/sweeps take by name."""
    found, unreadable = [], []
    for path in sorted(services.settings.recipes_folder.glob("*.yaml")):
        try:
            recipe = load_recipe(path)
        except RecipeError as error:
            log.warning("%s", error)
            unreadable.append(path.name)
            continue
        # by the file's name, which is what a request says
        told = RecipeAnswer(
            name=path.stem, description=recipe.description, configuration=recipe.model_dump(mode="json")
        )
        found.append(told)
    return RecipesAnswer(recipes=found, unreadable=unreadable)
