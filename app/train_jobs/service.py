"""Turns a request for training into the work of a train job, and queues it. Checks everything before it stores it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from sqlalchemy.orm import Session

from darkroom.app.access.caller import Caller
from darkroom.app.dataset_registry.bundled_digits import BUNDLED, register_digits
from darkroom.app.exceptions import at
from darkroom.app.http.problems import Problem, invalid, pointer_part
from darkroom.app.plans.service import expected_seconds, find_speed, plan_training
from darkroom.app.train_jobs.recipe_fit import misfits
from darkroom.app.train_jobs.schemas import TrainFields, TrainJobRequest
from darkroom.model.config import (
    MOVED,
    DatasetConfig,
    ModelConfig,
    Recipe,
    RecipeError,
    SettingsError,
    image_form_moved,
    load_recipe,
    set_field,
)
from darkroom.model.datasets import DatasetError
from darkroom.model.misfit import Misfit
from darkroom.model.training.curve_point import DAY_SECONDS, duration
from darkroom.model.training.trainer import rate_jump
from darkroom.model.user_error import fault_text
from darkroom.model.words import several
from darkroom.store.dataset_repository import (
    DatasetConflict,
    DatasetNotFound,
    find_configured,
    get_dataset,
    keep_dataset,
)
from darkroom.store.job_forms import ContinueFrom, ForkFrom, Planned, TrainWork
from darkroom.store.job_repository import JobNotFound, add_event, get_job, lock_job, submit_job
from darkroom.store.model_repository import (
    ModelNotFound,
    VersionCollected,
    VersionNotFound,
    lock_model,
    require_model,
    resolve,
    resolve_kept,
)
from darkroom.store.owners import Owner, require_owned
from darkroom.store.run_repository import kept_states
from darkroom.store.tables import Dataset, Job, Worker
from darkroom.store.worker_repository import known_workers

MOST_PARTS = 8
"""The most parts of a field's dotted name. Recipes nest less deeply."""


@dataclass(frozen=True)
class Change:
    """A field of the recipe that a request sets. path: the parts of its name; pointer: where the request sets it."""

    path: tuple[str, ...]
    value: Any
    pointer: str

    @property
    def name(self) -> str:
        """The field's dotted name."""
        return ".".join(self.path)

    def leaves(self) -> Iterator["Change"]:
        """Yield one change for each field that is set. A section given as an object changes only the fields it names.

        A field that has moved in newer recipes is set at its new place.
        """
        if not isinstance(self.value, Mapping) or not self.value:
            yield replace(self, path=MOVED.get(self.path, self.path))
            return
        for key, value in self.value.items():
            yield from Change((*self.path, key), value, f"{self.pointer}/{pointer_part(key)}").leaves()


@dataclass(frozen=True)
class TrainingPlan:
    """Everything that the jobs of one request have in common.

    recipe: complete except for name and dataset. pointer: the recipe's place in the request.
    changes: the request's changes, in order. name: the model's name.
    start_from: the recipe of the state, or the configuration of the weights, that the jobs begin with.
    workers: all known ones with the job's device. planned: how the recipe was planned, if it was.
    """

    fields: TrainFields
    recipe: Mapping[str, Any]
    pointer: str
    changes: tuple[Change, ...]
    name: str
    dataset: Dataset
    start: ContinueFrom | ForkFrom | None
    start_from: Recipe | ModelConfig | None
    workers: Sequence[Worker]
    planned: Planned | None = None


def parse_change(name: str, value: Any, pointer: str) -> Change:
    """Return the change of the field with this dotted name. Raises Problem."""
    path = tuple(name.split("."))
    if len(path) > MOST_PARTS:
        text = f"has {len(path)} parts between its dots; the name of a field has at most {MOST_PARTS}"
        raise invalid([(pointer, text)])
    if not all(path):
        raise invalid([(pointer, f"{name!r} is not a dotted name of a field, such as training.total_images")])
    if path[0] in ("name", "dataset"):
        field = "model" if path[0] == "name" else path[0]
        raise invalid([(pointer, f"cannot be set here; set the request's own field {field!r}")])
    return Change(path, value, pointer)


def make_plan(session: Session, recipes_folder: Path, fields: TrainFields, owner: Owner | None) -> TrainingPlan:
    """Find everything that the request names. Raises Problem, and OwnedByAnother for what its owner may not use.

    Locks the job or the model that is the starting point until the transaction ends.
    """
    start, source = _start(session, fields, owner)
    planned = None
    if isinstance(fields, TrainJobRequest) and fields.minutes is not None:
        recipe, pointer, name, planned = _planned(session, fields, fields.minutes, owner)
    else:
        recipe, pointer, name = _recipe(fields, source, recipes_folder)
    if fields.model is None and name is None:
        raise invalid([("/model", "neither the request nor its recipe names the model; give a name here")])
    changes = [parse_change(key, value, f"/overrides/{pointer_part(key)}") for key, value in fields.overrides.items()]
    if fields.evaluate_every_images is not None:
        every = fields.evaluate_every_images
        changes.append(Change(("evaluation", "every_images"), every, "/evaluate_every_images"))
    _require_distinct(changes)
    dataset = _dataset(session, fields, recipe, pointer, source, owner)
    with at("/dataset", DatasetNotFound):
        keep_dataset(session, dataset)
    if not dataset.class_names:
        raise invalid([("/dataset", f"the data set {dataset.name!r} has no classes")])
    start_from = _start_from(session, start, source, dataset, fields)
    model = fields.model or str(name)
    workers = known_workers(session, fields.device)
    return TrainingPlan(fields, recipe, pointer, tuple(changes), model, dataset, start, start_from, workers, planned)


def _planned(
    session: Session, fields: TrainFields, minutes: float, owner: Owner | None
) -> tuple[Mapping[str, Any], str, str | None, Planned]:
    """Plan the recipe of a request that names a time; returns what `_recipe` does, and the plan. Raises Problem."""
    others = [name for name in ("recipe", "from_job", "from_model") if getattr(fields, name) is not None]
    if others:
        text = "minutes plans the whole recipe; for a time limit alone, override training.minutes"
        raise invalid([(f"/{name}", text) for name in others])
    if fields.dataset is None:
        raise invalid([("/dataset", "is needed with minutes: the name of a registered data set")])
    with at("/dataset", DatasetNotFound):
        dataset = get_dataset(session, fields.dataset, owner)
    recipe, planned = plan_training(session, dataset, minutes, fields.device)
    return recipe.model_dump(mode="json"), "/minutes", recipe.name, planned


def make_work(plan: TrainingPlan, *, name: str, more: Sequence[Change] = ()) -> TrainWork:
    """Return a job's work: the plan's recipe with this name, the plan's changes and `more` changes.

    Raises Problem, which points at each faulty field in the request.
    """
    changes = [leaf for one in (*plan.changes, *more) for leaf in one.leaves()]
    data = _copied(plan.recipe)
    try:
        data["model"] = image_form_moved(data.get("model", {}))
    except ValueError as error:
        raise invalid([(f"{plan.pointer}/model", str(error))]) from error
    for one in changes:
        try:
            set_field(data, one.path, one.value)
        except SettingsError as error:
            raise invalid([(one.pointer, str(error))]) from error
    data["name"] = name
    data["dataset"] = plan.dataset.configuration or {"format": plan.dataset.format}
    try:
        recipe = Recipe.model_validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        faults = [_field_and_text(fault) for fault in error.errors()]
        raise invalid([(_pointer(plan, changes, path), text) for path, text in faults]) from error
    found = list(misfits(recipe, plan.dataset, plan.start, plan.start_from, plan.workers))
    if found:
        raise invalid([_located(plan, changes, misfit) for misfit in found])
    return TrainWork(
        recipe=recipe, start=plan.start, keep_last=plan.fields.keep_last, planned=_as_changed(plan.planned, changes)
    )


def _as_changed(planned: Planned | None, changes: Sequence[Change]) -> Planned | None:
    """Return how the recipe was planned, without the fields that the request has set itself."""
    if planned is None:
        return None
    own = [one.path for one in changes]
    kept = (one for one in planned.choices if not any(_overlap(one.field.split("."), path) for path in own))
    return planned.model_copy(update={"choices": tuple(kept)})


def _overlap(one: Sequence[str], other: Sequence[str]) -> bool:
    return all(ours == theirs for ours, theirs in zip(one, other, strict=False))


def require_agreement(session: Session, works: Sequence[TrainWork], fields: TrainFields) -> list[TrainWork]:
    """Return the works with their expected times.

    Raises Problem (422) when all of them, one after another, take more than a day without the request's `long`. Without
    a worker that has measured its speed nobody knows the time of a recipe, and nothing is refused.
    """
    speed = find_speed(session, fields.device)
    timed = [work.model_copy(update={"expected_seconds": expected_seconds(work.recipe, speed)}) for work in works]
    seconds = sum(work.expected_seconds or 0.0 for work in timed)
    if seconds > DAY_SECONDS and not fields.long:
        what = "the job is" if len(works) == 1 else f"{len(works)} jobs are"
        after = "" if len(works) == 1 else ", one after another"
        planned = isinstance(fields, TrainJobRequest) and fields.minutes is not None
        shorter = "minutes" if planned else "training.total_images"
        text = (
            f"{what} expected to run for about {duration(seconds)}{after}: send true (--long on the command line) to "
            f"agree, or lower {shorter}"
        )
        raise invalid([("/long", text)])
    return timed


def queue_work(
    session: Session, plan: TrainingPlan, work: TrainWork, *, caller: Caller, sweep_id: int | None = None
) -> Job:
    """Submit the job. A jump of the learning rate is noted in the job's events, before it starts.

    Raises OwnedByAnother when the model that it would train belongs to another key.
    """
    require_model(session, work.recipe.name, caller.owner)
    job = submit_job(
        session,
        kind="train",
        model_name=work.recipe.name,
        configuration=work.model_dump(mode="json"),
        total_images=work.recipe.training.total_images,
        dataset_id=plan.dataset.id,
        sweep_id=sweep_id,
        parent_id=plan.start.job_id if isinstance(plan.start, ContinueFrom) else None,
        origin=caller.origin,
        priority=plan.fields.priority,
        device=plan.fields.device,
        devices=work.recipe.training.devices,
        promote=plan.fields.promote,
        max_attempts=plan.fields.max_attempts,
    )
    if isinstance(plan.start, ContinueFrom):
        before = TrainWork.model_validate(get_job(session, plan.start.job_id).configuration).recipe
        note = rate_jump(before, work.recipe, plan.start.images_seen)
        if note is not None:
            add_event(session, job, "note", {"detail": note})
    return job


def get_train_job(session: Session, job_id: int, owner: Owner | None) -> Job:
    """Return the train job. Raises JobNotFound, also for jobs of other kinds, and OwnedByAnother.

    owner: who asks; None for somebody who may use all.
    """
    job = get_job(session, job_id)
    if not job.is_training:
        raise JobNotFound(job_id)
    require_owned(session, job, owner)
    return job


def require_state(session: Session, job: Job) -> None:
    """Raise Problem if the state from which the job would go on was deleted: it would begin anew, or fail."""
    if not job.is_training or kept_states(session, job.id):
        return
    removed = job.removed.get("states")
    start = TrainWork.model_validate(job.configuration).start
    if removed is not None:
        lost = f"job {job.id} has no training state any more: {removed['why']}"
    elif isinstance(start, ContinueFrom) and not kept_states(session, start.job_id, at=start.images_seen):
        lost = f"the state of job {start.job_id}, with which job {job.id} begins, is no longer kept"
    else:
        return
    advice = f'submit a new job, which may begin with a version\'s weights: "from_model": "{job.model_name}@NUMBER"'
    raise Problem(409, "state-not-kept", f"{lost}; {advice}")


def _start(
    session: Session, fields: TrainFields, owner: Owner | None
) -> tuple[ContinueFrom | ForkFrom | None, Job | None]:
    """Return the starting point, and the job that the new one continues."""
    if fields.from_job is None and fields.images_seen is not None:
        raise invalid([("/images_seen", "needs from_job")])
    if fields.from_job is not None and fields.from_model is not None:
        raise invalid([("/from_model", "from_job and from_model exclude each other; give one of them")])
    if fields.from_job is not None:
        with at("/from_job", JobNotFound):
            source = lock_job(session, fields.from_job)
            if not source.is_training:
                raise JobNotFound(source.id)
            require_owned(session, source, owner)
            require_model(session, source.model_name, owner)
        return ContinueFrom(job_id=source.id, images_seen=_state(session, source, fields.images_seen)), source
    if fields.from_model is not None:
        name, _, version = fields.from_model.partition("@")
        with at("/from_model", ModelNotFound, VersionNotFound, VersionCollected):
            require_owned(session, lock_model(session, name), owner)
            checkpoint = resolve_kept(session, name, version)
        return ForkFrom(model=name, digest=checkpoint.digest), None
    return None, None


def _state(session: Session, source: Job, images_seen: int | None) -> int:
    kept = [seen for seen, _ in kept_states(session, source.id)]
    if not kept:
        why = f": {source.removed['states']['why']}" if "states" in source.removed else ""
        raise _conflict("state-not-kept", f"job {source.id} has no stored training state{why}", "/from_job")
    if images_seen is None:
        return kept[0]
    if images_seen not in kept:
        states = ", ".join(map(str, sorted(kept)))
        detail = f"job {source.id} has no stored state at {images_seen} images; choose from {states}"
        raise _conflict("state-not-kept", detail, "/images_seen")
    return images_seen


def _recipe(fields: TrainFields, source: Job | None, folder: Path) -> tuple[Mapping[str, Any], str, str | None]:
    """Return the recipe as plain data, the pointer to it in the request, and its name."""
    match fields.recipe:
        case None if source is not None:
            recipe = TrainWork.model_validate(source.configuration).recipe
            return recipe.model_dump(mode="json"), "/from_job", recipe.name
        case None:
            raise invalid([("/recipe", "is needed: a recipe's name or a configuration")])
        case str(name):
            try:
                recipe = load_recipe(folder / f"{name}.yaml")
            except RecipeError as error:
                if (folder / f"{name}.yaml").exists():
                    raise invalid([("/recipe", str(error))]) from error
                names = ", ".join(sorted(path.stem for path in folder.glob("*.yaml")))
                raise invalid([("/recipe", f"there is no recipe {name!r}; choose from: {names or 'none'}")]) from error
            return recipe.model_dump(mode="json"), "/recipe", recipe.name
        case data:
            given = data.get("name")
            if given is not None and not isinstance(given, str):
                raise invalid([("/recipe/name", "must be text")])
            return data, "/recipe", given


def _dataset(
    session: Session,
    fields: TrainFields,
    recipe: Mapping[str, Any],
    pointer: str,
    source: Job | None,
    owner: Owner | None,
) -> Dataset:
    """Return the data set that the request names, else that of the job to continue, else the one of the recipe."""
    if fields.dataset is not None:
        with at("/dataset", DatasetNotFound):
            return get_dataset(session, fields.dataset, owner)
    if source is not None and source.dataset_id is not None:
        dataset = session.get_one(Dataset, source.dataset_id)
        require_owned(session, dataset, owner)
        return dataset
    advice = "register one with POST /v1/datasets and name it here"
    section = recipe.get("dataset")
    if section is None:
        raise invalid([("/dataset", f"neither the request nor its recipe names a data set: {advice}")])
    try:
        config = DatasetConfig.model_validate_json(json.dumps(section), strict=True)
    except ValidationError as error:
        parts = [("/".join((pointer, "dataset", *map(str, f["loc"]))), fault_text(f)) for f in error.errors()]
        raise invalid(parts) from error
    known = find_configured(session, config, owner)
    if known is not None:
        return known
    if config == BUNDLED:
        try:
            return register_digits(session)
        except (DatasetConflict, DatasetError) as error:
            raise invalid([("/dataset", f"{error}; {advice}")]) from error
    where = f" {config.path}" if config.path else ""
    raise invalid([("/dataset", f"the recipe's own data set ({config.format}{where}) is not registered: {advice}")])


def _start_from(
    session: Session, start: ContinueFrom | ForkFrom | None, source: Job | None, dataset: Dataset, fields: TrainFields
) -> Recipe | ModelConfig | None:
    """Return the recipe or the configuration of the starting point. Raises Problem if the data set does not suit it."""
    if isinstance(start, ContinueFrom):
        assert source is not None
        trained_on = session.get(Dataset, source.dataset_id) if source.dataset_id is not None else None
        if trained_on is None or trained_on.digest != dataset.digest:
            named = f"{trained_on.name!r}" if trained_on else "another data set"
            detail = f"job {source.id} was trained on {named}, and a training state continues only on the same data set"
            raise invalid([("/dataset", f"{detail}; to begin with the weights alone, use from_model")])
        return TrainWork.model_validate(source.configuration).recipe
    if isinstance(start, ForkFrom):
        checkpoint = resolve(session, start.model, start.digest)
        theirs, ours = len(checkpoint.class_names), len(dataset.class_names)
        if theirs != ours:
            raise invalid(
                [("/from_model", f"has {several(theirs, 'class')}, and the data set {dataset.name!r} has {ours}")]
            )
        try:
            return ModelConfig.model_validate(checkpoint.configuration)
        except ValidationError as error:
            detail = f"{fields.from_model} was written by another version of Darkroom, which this version cannot read"
            raise _conflict("weights-unreadable", detail, "/from_model") from error
    return None


def _copied(data: Mapping[str, Any]) -> dict[str, Any]:
    """Copy the nested mappings, so that they can be changed."""
    return {key: _copied(value) if isinstance(value, Mapping) else value for key, value in data.items()}


def _field_and_text(fault: Any) -> tuple[tuple[str, ...], str]:
    """Return a fault's field and text. A rule about several fields has no path; its text begins with one of them."""
    path, text = tuple(map(str, fault["loc"])), fault_text(fault)
    return path or tuple(text.split()[0].split(".")), text


def _require_distinct(changes: Sequence[Change]) -> None:
    """Raise Problem if one change would undo another. An empty object changes nothing."""
    leaves = (leaf for one in changes for leaf in one.leaves() if not isinstance(leaf.value, Mapping))
    at: dict[tuple[str, ...], Change] = {}
    under: dict[tuple[str, ...], Change] = {}  # for each section: a change of one of its fields
    for one in leaves:
        sections = [one.path[:depth] for depth in range(1, len(one.path))]
        found = [at[path] for path in (*sections, one.path) if path in at]
        if other := next(iter(found), under.get(one.path)):
            raise invalid([(one.pointer, f"sets {one.name}, and {other.pointer} sets {other.name}")])
        at[one.path] = one
        under.update(dict.fromkeys(sections, one))


def _located(plan: TrainingPlan, changes: Sequence[Change], misfit: Misfit) -> tuple[str, str]:
    """Return (pointer, text). Points at a field that the request changes; without one, the text names the field."""
    paths = [tuple(name.split(".")) for name in misfit.fields]
    for path in paths:
        pointer = _changed_at(changes, path)
        if pointer is not None:
            return pointer, misfit.text if path == paths[0] else str(misfit)
    if isinstance(plan.fields.recipe, dict):
        return _pointer(plan, changes, paths[0]), misfit.text
    return plan.pointer, str(misfit)


def _pointer(plan: TrainingPlan, changes: Sequence[Change], path: tuple[str, ...]) -> str:
    """Return where the request sets this field of the recipe, else where the request has the recipe."""
    changed = _changed_at(changes, path)
    if changed is not None:
        return changed
    if isinstance(plan.fields.recipe, dict):
        moved = (was for was, now in MOVED.items() if now == path and _has(plan.recipe, was))
        return "/".join((plan.pointer, *map(pointer_part, next(moved, path))))
    return plan.pointer


def _has(data: Any, path: Sequence[str]) -> bool:
    for part in path:
        if not isinstance(data, Mapping) or part not in data:
            return False
        data = data[part]
    return True


def _changed_at(changes: Sequence[Change], path: tuple[str, ...]) -> str | None:
    """Return the pointer to the last change of that field, else to the last change inside it."""
    for one in reversed(changes):
        if path[: len(one.path)] == one.path:
            return "/".join((one.pointer, *map(pointer_part, path[len(one.path) :])))
    for one in reversed(changes):
        if one.path[: len(path)] == path:
            return one.pointer
    return None


def _conflict(kind: str, detail: str, pointer: str) -> Problem:
    return Problem(409, kind, detail, errors=[{"pointer": pointer, "detail": detail}])
