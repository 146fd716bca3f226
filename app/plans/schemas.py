"""The fields of answers about plans."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from darkroom.model.planning.plan import MINUTES_BELOW
from darkroom.store.job_forms import Planned

Minutes = Annotated[float, Field(gt=0.0, lt=MINUTES_BELOW, allow_inf_nan=False)]


class ChoiceAnswer(BaseModel):
    """Why the plan sets a field. field: its dotted name in the recipe."""

    model_config = ConfigDict(from_attributes=True)

    field: str
    value: Any
    why: str


class PlanAnswer(BaseModel):
    """A training that was planned and not started. POST /train-jobs with the same `dataset` and `minutes` starts it."""

    dataset: str
    model: str = Field(description="the model's name unless the request gives one")
    minutes: float
    recipe: dict[str, Any] = Field(description="the complete recipe; `overrides` of the job can change its fields")
    choices: list[ChoiceAnswer] = Field(description="the fields that the plan sets, each with its reason")
    total_images: int = Field(description="images that the run is expected to see")
    passes: float = Field(description="how often it sees each distinct image")
    images_per_second: float
    worker: str = Field(description="the worker whose measured speed decides: the slowest that could run the job")
    expectation: str = Field(description="what to expect, in words")
    warnings: list[str]


def plan_answer(dataset: str, recipe: dict[str, Any], planned: Planned) -> PlanAnswer:
    """Return the answer about a plan."""
    return PlanAnswer(
        dataset=dataset,
        model=recipe["name"],
        minutes=planned.minutes,
        recipe=recipe,
        choices=[ChoiceAnswer.model_validate(choice) for choice in planned.choices],
        total_images=recipe["training"]["total_images"],
        passes=planned.passes,
        images_per_second=planned.images_per_second,
        worker=planned.worker,
        expectation=planned.expectation,
        warnings=list(planned.warnings),
    )
