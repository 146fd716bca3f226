"""Plans trainings for registered data sets, with the speed that workers have measured."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter

from pydantic import ValidationError
from sqlalchemy.orm import Session

from darkroom.app.http.problems import Problem, invalid, retry_after
from darkroom.model.config import DatasetConfig, Recipe
from darkroom.model.planning.cautions import cautions
from darkroom.model.planning.data_facts import DataFacts
from darkroom.model.planning.plan import PlanError, make_plan, model_side
from darkroom.model.planning.prepare import model_name
from darkroom.model.planning.scaled_speed import Rate, scaled_speed
from darkroom.store.job_forms import Planned, PlannedField
from darkroom.store.model_repository import ModelNotFound, VersionNotFound, resolve
from darkroom.store.tables import Dataset, Device, Worker
from darkroom.store.worker_repository import is_alive, known_workers

MEASURING_SECONDS = 10.0


@dataclass(frozen=True)
class WorkerSpeed:
    """The speed of the slowest worker that could run a job. of: images per second of a recipe, 0 if unknown."""

    worker: Worker
    of: Callable[[Recipe], float]
    alive: bool


def find_speed(session: Session, device: Device) -> WorkerSpeed | None:
    """Return the speed to plan with: of the slowest live worker, else of the one seen last.

    device: that the job asks for. Returns None when no worker has measured its speed.
    """
    found = [
        (rates[0].images_per_second, WorkerSpeed(worker, scaled_speed(rates), is_alive(worker)))
        for worker in known_workers(session, device)
        if (rates := _rates(worker))
    ]
    alive = [one for one in found if one[1].alive]
    if alive:
        return min(alive, key=itemgetter(0))[1]
    return found[0][1] if found else None


def require_speed(session: Session, device: Device) -> WorkerSpeed:
    """Like `find_speed`. Raises Problem (503) when no worker has measured its speed."""
    speed = find_speed(session, device)
    if speed is not None:
        return speed
    named = "" if device == "auto" else f" with the device {device}"
    workers = sorted(one.name for one in known_workers(session, device) if is_alive(one))
    otherwise = "Or send a recipe instead of minutes."
    if workers:
        detail = (
            f"no worker{named} has measured its speed yet: {', '.join(workers)} does so when it has no job, within "
            f"about a minute. Try again then. {otherwise}"
        )
        raise Problem(503, "speed-unknown", detail, headers=retry_after(MEASURING_SECONDS))
    detail = (
        f"no worker{named} is running, so nobody knows how fast this would train: start one with `darkroom worker`; it "
        f"measures its speed within about a minute. {otherwise}"
    )
    raise Problem(503, "speed-unknown", detail)


def plan_training(session: Session, dataset: Dataset, minutes: float, device: Device) -> tuple[Recipe, Planned]:
    """Return the recipe for a data set and a time, and why it is so. Raises Problem."""
    speed = require_speed(session, device)
    channels = dataset.image_channels
    facts = DataFacts(
        channels,
        model_side(dataset.image_size, minutes, speed.of, channels),
        tuple(dataset.class_names),
        tuple(dataset.class_counts),
        dataset.image_count if dataset.distinct_count is None else dataset.distinct_count,
        None if dataset.mirrored is None else tuple(dataset.mirrored),
        dataset.flat_grounds,
    )
    config = DatasetConfig.model_validate(dataset.configuration or {"format": dataset.format})
    try:
        plan = make_plan(facts, config, _model_for(session, dataset), minutes, speed.of)
    except PlanError as error:
        raise invalid([("/minutes", str(error))]) from error
    warnings = cautions(plan)
    if not speed.alive:
        seen = f"{speed.worker.seen_at:%Y-%m-%d %H:%M} UTC"
        warnings.append(f"no worker is running: planned with the speed of {speed.worker.name}, last seen at {seen}")
    return plan.recipe, Planned(
        minutes=minutes,
        images_per_second=plan.images_per_second,
        passes=plan.passes,
        worker=speed.worker.name,
        expectation=plan.expectation(),
        choices=tuple(PlannedField(field=one.field, value=one.value, why=one.why) for one in plan.reasons),
        warnings=tuple(warnings),
    )


def _model_for(session: Session, dataset: Dataset) -> str:
    """Return the model that is named after the data set: with a number where that model has other classes."""
    name = model_name(dataset.name)
    for candidate in itertools.chain([name], (f"{name[:58]}-{number}" for number in itertools.count(2))):
        try:
            if resolve(session, candidate).class_names == dataset.class_names:
                break
        except (ModelNotFound, VersionNotFound):
            break
    return candidate


def expected_seconds(recipe: Recipe, speed: WorkerSpeed | None) -> float | None:
    """Return how long a recipe is expected to train, evaluations left out; None when nobody has measured a speed."""
    if recipe.training.minutes is not None:
        return 60.0 * recipe.training.minutes
    per_second = speed.of(recipe) if speed is not None else 0.0
    return recipe.training.total_images / per_second if per_second > 0.0 else None


def _rates(worker: Worker) -> Sequence[Rate]:
    """Return what the worker measured; nothing when another version of Darkroom has written it."""
    try:
        return [Rate.model_validate(one) for one in worker.rates or ()]
    except ValidationError:
        return ()
