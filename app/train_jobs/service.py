"""From what a request asks for to a train job's work: everything is checked before anything is stored."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from sqlalchemy.orm import Session

from darkroom.app.dataset_registry.bundled_digits import BUNDLED, register_digits
from darkroom.app.exceptions import at
from darkroom.app.http.problems import Problem, invalid, pointer_part
from darkroom.app.train_jobs.recipe_fit import misfits
from darkroom.app.train_jobs.schemas import TrainFields
from darkroom.model.config import MOVED, DatasetConfig, ModelConfig, Recipe, RecipeError, image_form_moved, load_recipe
from darkroom.model.datasets import DatasetError
from darkroom.model.misfit import Misfit
from darkroom.model.training.trainer import rate_jump
from darkroom.store.dataset_repository import DatasetConflict, DatasetNotFound, find_configured, get_dataset
from darkroom.store.job_forms import ContinueFrom, ForkFrom, TrainWork
from darkroom.store.job_repository import JobNotFound, Origin, add_event, get_job, lock_job, submit_job
from darkroom.store.model_repository import (
    ModelNotFound,
    VersionCollected,
    VersionNotFound,
    lock_model,
    resolve,
    resolve_kept,
)
from darkroom.store.run_repository import kept_states
from darkroom.store.tables import Dataset, Job


@dataclass(frozen=True)
class Change:
    """A field of the recipe that a request sets. path: its parts; pointer: where the request says so."""

    path: tuple[str, ...]
    value: Any
    pointer: str

    @property
    def name(self) -> str:
        """The dotted name."""
        return ".".join(self.path)

    def leaves(self) -> Iterator["Change"]:
        """The fields that a section given as an object sets: what it does not name stays as it is in the recipe.

        A field that has moved is set at its place of now.
        """
        if not isinstance(self.value, Mapping) or not self.value:
            yield replace(self, path=MOVED.get(self.path, self.path))
            return
        for key, value in self.value.items():
            yield from Change((*self.path, key), value, f"{self.pointer}/{pointer_part(key)}").leaves()


@dataclass(frozen=True)
class TrainingPlan:
    """What a request's jobs share. recipe: complete but for name and dataset; pointer: where the request has it.

    changes: the request's own, in order; name: of the model; start_from: the recipe of the state, or the configuration
    of the weights, that the jobs begin with.
    """

    fields: TrainFields
    recipe: Mapping[str, Any]
    pointer: str
    changes: tuple[Change, ...]
    name: str
    dataset: Dataset
    start: ContinueFrom | ForkFrom | None
    start_from: Recipe | ModelConfig | None


def parse_change(name: str, value: Any, pointer: str) -> Change:
    """One field by its dotted name; raises Problem."""
    path = tuple(name.split("."))
    if not all(path):
        raise invalid([(pointer, f"{name!r} is no dotted name of a field, such as training.total_images")])
    if path[0] in ("name", "dataset"):
        raise invalid([(pointer, f"the request's own field {'model' if path[0] == 'name' else path[0]!r} decides it")])
    return Change(path, value, pointer)


def make_plan(session: Session, recipes_folder: Path, fields: TrainFields) -> TrainingPlan:
    """Find everything that the request names; raises Problem.

    A job or model that it begins from stays as it is until the transaction ends.
    """
    start, source = _start(session, fields)
    recipe, pointer, name = _recipe(fields, source, recipes_folder)
    if fields.model is None and name is None:
        raise invalid([("/model", "neither the request nor its recipe has a name for the model")])
    changes = [parse_change(key, value, f"/overrides/{pointer_part(key)}") for key, value in fields.overrides.items()]
    if fields.evaluate_every_images is not None:
        every = fields.evaluate_every_images
        changes.append(Change(("evaluation", "every_images"), every, "/evaluate_every_images"))
    _require_distinct(changes)
    dataset = _dataset(session, fields, recipe, pointer, source)
    if not dataset.class_names:
        raise invalid([("/dataset", f"the data set {dataset.name!r} has no classes")])
    start_from = _start_from(session, start, source, dataset, fields)
    return TrainingPlan(fields, recipe, pointer, tuple(changes), fields.model or str(name), dataset, start, start_from)


def make_work(plan: TrainingPlan, *, name: str, more: Sequence[Change] = ()) -> TrainWork:
    """A job's work: the plan's recipe under that name, changed by the plan's changes and `more`.

    Raises Problem that names each faulty field where the request has it.
    """
    changes = [leaf for one in (*plan.changes, *more) for leaf in one.leaves()]
    data = _copied(plan.recipe)
    try:
        data["model"] = image_form_moved(data.get("model", {}))
    except ValueError as error:
        raise invalid([(f"{plan.pointer}/model", str(error))]) from error
    for one in changes:
        _put(data, one)
    data["name"] = name
    data["dataset"] = plan.dataset.configuration or {"format": plan.dataset.format}
    try:
        recipe = Recipe.model_validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        faults = [_field_and_text(fault) for fault in error.errors()]
        raise invalid([(_pointer(plan, changes, path), text) for path, text in faults]) from error
    found = list(misfits(recipe, plan.dataset, plan.start, plan.start_from))
    if found:
        raise invalid([_located(plan, changes, misfit) for misfit in found])
    return TrainWork(recipe=recipe, start=plan.start, keep_last=plan.fields.keep_last)


def queue_work(
    session: Session, plan: TrainingPlan, work: TrainWork, *, origin: Origin, sweep_id: int | None = None
) -> Job:
    """Submit the job. Its first events tell what its owner should know before it starts."""
    job = submit_job(
        session,
        kind="train",
        model_name=work.recipe.name,
        configuration=work.model_dump(mode="json"),
        total_images=work.recipe.training.total_images,
        dataset_id=plan.dataset.id,
        sweep_id=sweep_id,
        parent_id=plan.start.job_id if isinstance(plan.start, ContinueFrom) else None,
        origin=origin,
        priority=plan.fields.priority,
        device=plan.fields.device,
        devices=work.recipe.training.devices,
        promote=plan.fields.promote,
        max_attempts=plan.fields.max_attempts,
    )
    if isinstance(plan.start, ContinueFrom):
        before = TrainWork.model_validate(get_job(session, plan.start.job_id).configuration).recipe
        told = rate_jump(before, work.recipe, plan.start.images_seen)
        if told is not None:
            add_event(session, job, "note", {"detail": told})
    return job


def get_train_job(session: Session, job_id: int) -> Job:
    """The train job; raises JobNotFound for any other id."""
    job = get_job(session, job_id)
    if not job.is_training:
        raise JobNotFound(job_id)
    return job


def _start(session: Session, fields: TrainFields) -> tuple[ContinueFrom | ForkFrom | None, Job | None]:
    """Where the job begins, and the job that it goes on from."""
    if fields.from_job is None and fields.images_seen is not None:
        raise invalid([("/images_seen", "goes with from_job")])
    if fields.from_job is not None and fields.from_model is not None:
        raise invalid([("/from_model", "from_job and from_model exclude each other")])
    if fields.from_job is not None:
        with at("/from_job", JobNotFound):
            source = lock_job(session, fields.from_job)
            if not source.is_training:
                raise JobNotFound(source.id)
        return ContinueFrom(job_id=source.id, images_seen=_state(session, source, fields.images_seen)), source
    if fields.from_model is not None:
        name, _, version = fields.from_model.partition("@")
        with at("/from_model", ModelNotFound, VersionNotFound, VersionCollected):
            lock_model(session, name)
            checkpoint = resolve_kept(session, name, version)
        return ForkFrom(model=name, digest=checkpoint.digest), None
    return None, None


def _state(session: Session, source: Job, images_seen: int | None) -> int:
    kept = [seen for seen, _ in kept_states(session, source.id)]
    if not kept:
        raise _conflict("state-not-kept", f"job {source.id} keeps no training state", "/from_job")
    if images_seen is None:
        return kept[0]
    if images_seen not in kept:
        states = ", ".join(map(str, sorted(kept)))
        detail = f"job {source.id} keeps no state at {images_seen} images, only at {states}"
        raise _conflict("state-not-kept", detail, "/images_seen")
    return images_seen


def _recipe(fields: TrainFields, source: Job | None, folder: Path) -> tuple[Mapping[str, Any], str, str | None]:
    """The recipe as plain data, where the request has it, and its name."""
    match fields.recipe:
        case None if source is not None:
            recipe = TrainWork.model_validate(source.configuration).recipe
            return recipe.model_dump(mode="json"), "/from_job", recipe.name
        case None:
            raise invalid([("/recipe", "a recipe's name or a configuration is needed")])
        case str(name):
            try:
                recipe = load_recipe(folder / f"{name}.yaml")
            except RecipeError as error:
                if (folder / f"{name}.yaml").exists():
                    raise invalid([("/recipe", str(error))]) from error
                names = ", ".join(sorted(path.stem for path in folder.glob("*.yaml")))
                raise invalid([("/recipe", f"there is no recipe {name!r}; there are: {names or 'none'}")]) from error
            return recipe.model_dump(mode="json"), "/recipe", recipe.name
        case data:
            given = data.get("name")
            if given is not None and not isinstance(given, str):
                raise invalid([("/recipe/name", "must be a text")])
            return data, "/recipe", given


def _dataset(
    session: Session, fields: TrainFields, recipe: Mapping[str, Any], pointer: str, source: Job | None
) -> Dataset:
    """The data set that is named, else that of the job to go on from, else the one that the recipe reads."""
    if fields.dataset is not None:
        with at("/dataset", DatasetNotFound):
            return get_dataset(session, fields.dataset)
    if source is not None and source.dataset_id is not None:
        return session.get_one(Dataset, source.dataset_id)
    advice = "register one with POST /v1/datasets and name it here"
    section = recipe.get("dataset")
    if section is None:
        raise invalid([("/dataset", f"no data set: {advice}")])
    try:
        config = DatasetConfig.model_validate_json(json.dumps(section), strict=True)
    except ValidationError as error:
        parts = [("/".join((pointer, "dataset", *map(str, f["loc"]))), str(f["msg"])) for f in error.errors()]
        raise invalid(parts) from error
    known = find_configured(session, config)
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
    """What the starting point was trained by, which the data set must suit; raises Problem."""
    if isinstance(start, ContinueFrom):
        assert source is not None
        trained_on = session.get(Dataset, source.dataset_id) if source.dataset_id is not None else None
        if trained_on is None or trained_on.digest != dataset.digest:
            named = f"{trained_on.name!r}" if trained_on else "another one"
            detail = f"job {source.id} was trained on {named}; a training state goes on with the same data set only"
            raise invalid([("/dataset", f"{detail} (from_model begins with the weights alone)")])
        return TrainWork.model_validate(source.configuration).recipe
    if isinstance(start, ForkFrom):
        checkpoint = resolve(session, start.model, start.digest)
        theirs, ours = len(checkpoint.class_names), len(dataset.class_names)
        if theirs != ours:
            raise invalid([("/from_model", f"it knows {theirs} classes, and the data set {dataset.name!r} has {ours}")])
        try:
            return ModelConfig.model_validate(checkpoint.configuration)
        except ValidationError as error:
            detail = f"{fields.from_model} was written by a version of the software that this one cannot read"
            raise _conflict("weights-unreadable", detail, "/from_model") from error
    return None


def _copied(data: Mapping[str, Any]) -> dict[str, Any]:
    """The objects in it are new, so that they can be changed."""
    return {key: _copied(value) if isinstance(value, Mapping) else value for key, value in data.items()}


def _put(data: dict[str, Any], one: Change) -> None:
    here = data
    for part in one.path[:-1]:
        inner = here.get(part)
        if inner is None:  # a section that the recipe leaves out
            inner = here[part] = {}
        if not isinstance(inner, dict):
            raise invalid([(one.pointer, f"{part} in {one.name} has no fields of its own")])
        here = inner
    if not isinstance(one.value, Mapping):
        here[one.path[-1]] = one.value
    elif not isinstance(here.get(one.path[-1]), dict):  # an empty one (Change.leaves) changes no section
        here[one.path[-1]] = {}


def _field_and_text(fault: Any) -> tuple[tuple[str, ...], str]:
    """A fault's field and text. A rule of several fields has no place of its own: its text begins with one of them."""
    path, text = tuple(map(str, fault["loc"])), str(fault["msg"]).removeprefix("Value error, ")
    return path or tuple(text.split()[0].split(".")), text


def _require_distinct(changes: Sequence[Change]) -> None:
    """Refuse changes of which one would undo another; raises Problem. An empty object changes nothing."""
    leaves = (leaf for one in changes for leaf in one.leaves() if not isinstance(leaf.value, Mapping))
    at: dict[tuple[str, ...], Change] = {}
    under: dict[tuple[str, ...], Change] = {}  # by each section: one of the fields in it that are set
    for one in leaves:
        sections = [one.path[:depth] for depth in range(1, len(one.path))]
        found = [at[path] for path in (*sections, one.path) if path in at]
        if other := next(iter(found), under.get(one.path)):
            raise invalid([(one.pointer, f"sets {one.name}, and {other.pointer} sets {other.name}")])
        at[one.path] = one
        under.update(dict.fromkeys(sections, one))


def _located(plan: TrainingPlan, changes: Sequence[Change], misfit: Misfit) -> tuple[str, str]:
    """(pointer, text): at a field that the request changes, if there is one; elsewhere the text names the field."""
    paths = [tuple(name.split(".")) for name in misfit.fields]
    for path in paths:
        pointer = _changed_at(changes, path)
        if pointer is not None:
            return pointer, misfit.text if path == paths[0] else str(misfit)
    if isinstance(plan.fields.recipe, dict):
        return _pointer(plan, changes, paths[0]), misfit.text
    return plan.pointer, str(misfit)


def _pointer(plan: TrainingPlan, changes: Sequence[Change], path: tuple[str, ...]) -> str:
    """Where the request has the recipe's field; of a fault of several fields, a change among them."""
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
    """The pointer to the last change of that field, or else of one in it."""
    for one in reversed(changes):
        if path[: len(one.path)] == one.path:
            return "/".join((one.pointer, *map(pointer_part, path[len(one.path) :])))
    for one in reversed(changes):
        if one.path[: len(path)] == path:
            return one.pointer
    return None


def _conflict(kind: str, detail: str, pointer: str) -> Problem:
    return Problem(409, kind, detail, errors=[{"pointer": pointer, "detail": detail}])
