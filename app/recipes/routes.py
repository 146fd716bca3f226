"""GET /recipes: the recipes that a train job can name."""

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
    """A recipe. configuration: all fields, defaults included; `overrides` can change them."""

    name: str
    description: str
    configuration: dict[str, Any]


class RecipesAnswer(BaseModel):
    """Recipes by name."""

    recipes: list[RecipeAnswer]
    unreadable: list[str] = Field(description="files that are not valid recipes; the service's log says why")


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
        answer = RecipeAnswer(  # requests name a recipe by its file, not by its field `name`
            name=path.stem, description=recipe.description, configuration=recipe.model_dump(mode="json")
        )
        found.append(answer)
    return RecipesAnswer(recipes=found, unreadable=unreadable)
