"""GET /plan: the recipe that a data set and a time would get, without starting anything."""

from typing import Annotated

from fastapi import APIRouter, Query

from darkroom.app.dependencies.callers import CallerHere
from darkroom.app.dependencies.services import ServicesHere
from darkroom.app.exceptions import at
from darkroom.app.http.problems import documented
from darkroom.app.plans.schemas import Minutes, PlanAnswer, plan_answer
from darkroom.app.plans.service import plan_training
from darkroom.store.dataset_repository import DatasetNotFound, get_dataset
from darkroom.store.tables import Device

router = APIRouter(tags=["training"])


@router.get("/plan", responses=documented(422, 500, 503))
def plan(
    dataset: Annotated[str, Query(min_length=1, max_length=100, description="a registered data set's name")],
    minutes: Annotated[Minutes, Query(description="time that the training may take")],
    services: ServicesHere,
    caller: CallerHere,
    device: Annotated[Device, Query(description="the device that the job would ask for")] = "auto",
) -> PlanAnswer:
    """Plan a training: the recipe, each choice with its reason, and what to expect.

    The plan uses the speed that a worker has measured. Until one has, the answer is 503 `speed-unknown`.
    """
    with services.transaction() as session:
        with at("dataset", DatasetNotFound):
            found = get_dataset(session, dataset, caller.owner)
        recipe, planned = plan_training(session, found, minutes, device)
        return plan_answer(found.name, recipe.model_dump(mode="json"), planned)
