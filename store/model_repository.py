"""Finds models and versions by name, number, digest or alias. `store/aliases.py` moves aliases."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from darkroom.store.job_repository import UNFINISHED
from darkroom.store.owners import OwnedByAnother, Owner, owned, require_owned
from darkroom.store.tables import Checkpoint, Job, Model, ModelAlias

PRODUCTION = "production"
"""The alias whose version serves requests that name none."""

VERSIONS_TOLD = 5
"""How many versions and aliases an error names."""


class ModelNotFound(LookupError):
    """No model has this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no model {name!r}")
        self.name = name


class VersionCollected(RuntimeError):
    """The version's weights are no longer kept."""

    def __init__(self, name: str, version: int) -> None:
        super().__init__(f"the weights of model {name!r} version {version} are no longer kept")


class VersionNotFound(LookupError):
    """The model has no such version, digest or alias; the message names some that it has.

    versions: how many it has. newest, aliases: a few of them, for the message.
    """

    def __init__(self, name: str, version: str, versions: int, newest: Sequence[int], aliases: Sequence[str]) -> None:
        count = "1 version" if versions == 1 else f"{versions} versions"
        if version == PRODUCTION:
            message = f"model {name!r} has {count}, and none is in production"
        else:
            message = f"model {name!r} has no version or alias {version[:100]!r}; it has {count}"
        if newest:
            message += f", the newest that are kept: {', '.join(f'{name}@{number}' for number in newest)}"
        if aliases:
            message += f"; its aliases: {', '.join(f'{name}@{alias}' for alias in aliases)}"
        if version == PRODUCTION and newest:
            message += (
                f'. Name one of these, or promote it: PUT /v1/models/{name}/alias/{PRODUCTION} {{"version": NUMBER}}'
            )
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class AliasTarget:
    """The version that an alias points at. digest: "sha256:..."."""

    version: int
    digest: str


@dataclass(frozen=True, slots=True)
class ModelSummary:
    """A model as a list shows it. versions: how many checkpoints it has."""

    name: str
    created_at: datetime
    versions: int
    aliases: Mapping[str, AliasTarget]


@dataclass(frozen=True, slots=True)
class ModelPage:
    """One page of models by name. next_after: pass it as `after` for the next page; None on the last."""

    models: tuple[ModelSummary, ...]
    next_after: str | None


def list_models(session: Session, after: str | None = None, limit: int = 50, owner: Owner | None = None) -> ModelPage:
    """Up to `limit` models in the order of their names, after the name `after`.

    owner: lists only models that are the owner's or have a version in production.

    A model that exists from the first page to the last is listed exactly once, whatever else is added meanwhile.
    """
    if limit < 1:
        raise ValueError(f"limit must be at least 1, not {limit}")
    query = select(Model).order_by(Model.name).limit(limit + 1)
    if owner is not None:
        published = select(ModelAlias.model_id).where(ModelAlias.alias == PRODUCTION)
        query = query.where(owned(Model.api_key_id, owner) | Model.id.in_(published))
    if after is not None:
        query = query.where(Model.name > after)
    models = list(session.scalars(query))
    page = models[:limit]
    return ModelPage(_summaries(session, page), page[-1].name if len(models) > limit else None)


def find_model(session: Session, name: str) -> Model:
    """A model's record; raises ModelNotFound."""
    model = session.scalars(select(Model).where(Model.name == name)).one_or_none()
    if model is None:
        raise ModelNotFound(name)
    return model


def require_model(session: Session, name: str, owner: Owner | None) -> None:
    """Raise OwnedByAnother when the model exists, or a stranger's unfinished job will make it. Others are free."""
    if owner is None:
        return
    model = session.scalar(select(Model).where(Model.name == name))
    if model is not None:
        require_owned(session, model, owner)
        return
    waiting = select(Job.id).where(Job.is_training, Job.model_name == name, Job.status.in_(UNFINISHED))
    if session.scalar(waiting.where(~owned(Job.api_key_id, owner)).limit(1)) is not None:
        raise OwnedByAnother(f"the model {name!r}, which an unfinished job trains,")


def get_model(session: Session, name: str) -> ModelSummary:
    """One model; raises ModelNotFound."""
    return _summaries(session, [find_model(session, name)])[0]


def resolve(session: Session, name: str, version: str | int | None = None) -> Checkpoint:
    """The checkpoint of model `name` that `version` means: a number, a digest ("sha256:..."), an alias.

    None means the alias "production". Raises ModelNotFound, VersionNotFound.
    """
    model = find_model(session, name)
    wanted = PRODUCTION if version is None else str(version)
    query = select(Checkpoint).where(Checkpoint.model_id == model.id)
    if wanted.isascii() and wanted.isdigit():
        number = int(wanted)
        if number >= 2**31:  # outside the column's range
            raise version_not_found(session, model, wanted)
        query = query.where(Checkpoint.version == number)
    elif wanted.startswith("sha256:"):
        query = query.where(Checkpoint.digest == wanted)
    else:
        query = query.join(
            ModelAlias, (ModelAlias.model_id == model.id) & (ModelAlias.checkpoint_id == Checkpoint.id)
        ).where(ModelAlias.alias == wanted)
    checkpoint = session.scalars(query).one_or_none()
    if checkpoint is None:
        raise version_not_found(session, model, wanted)
    return checkpoint


def resolve_kept(session: Session, name: str, version: str | int) -> Checkpoint:
    """Like `resolve`, but raises VersionCollected when the version's weights are no longer kept.

    If the caller holds the model's lock (`lock_model`), the weights stay until the transaction ends.
    """
    checkpoint = resolve(session, name, version)
    if checkpoint.artifact_digest is None:
        raise VersionCollected(name, checkpoint.version)
    return checkpoint


def production_targets(session: Session) -> Mapping[str, AliasTarget]:
    """The version in production of every model that has one, in the order of the models' names."""
    rows = session.execute(
        select(Model.name, Checkpoint.version, Checkpoint.digest)
        .join(ModelAlias, ModelAlias.model_id == Model.id)
        .join(Checkpoint, Checkpoint.id == ModelAlias.checkpoint_id)
        .where(ModelAlias.alias == PRODUCTION)
        .order_by(Model.name)
    )
    return {name: AliasTarget(version, digest) for name, version, digest in rows}


def lock_model(session: Session, name: str) -> Model:
    """Lock the model's record until the transaction ends and return it. So its versions and aliases change one by one.

    Raises ModelNotFound.
    """
    model = session.scalars(select(Model).where(Model.name == name).with_for_update()).one_or_none()
    if model is None:
        raise ModelNotFound(name)
    return model


def ensure_model(session: Session, name: str, api_key_id: int | None = None) -> Model:
    """Lock the model's record as `lock_model` does, and create it if it is missing.

    api_key_id: owns a new model.
    """
    new = upsert(Model).values(name=name, api_key_id=api_key_id)
    session.execute(new.on_conflict_do_nothing(index_elements=[Model.name]))
    return lock_model(session, name)


def version_not_found(session: Session, model: Model, wanted: str) -> VersionNotFound:
    """The error, with some of the versions and aliases that the model has."""
    of_model = Checkpoint.model_id == model.id
    versions = session.scalar(select(func.count()).select_from(Checkpoint).where(of_model)) or 0
    kept = select(Checkpoint.version).where(of_model, Checkpoint.artifact_digest.is_not(None))
    newest = session.scalars(kept.order_by(Checkpoint.version.desc()).limit(VERSIONS_TOLD)).all()
    aliases = select(ModelAlias.alias).where(ModelAlias.model_id == model.id).order_by(ModelAlias.alias)
    told = session.scalars(aliases.limit(VERSIONS_TOLD)).all()
    return VersionNotFound(model.name, wanted, versions, newest, told)


def _summaries(session: Session, models: list[Model]) -> tuple[ModelSummary, ...]:
    ids = [model.id for model in models]
    versions: dict[int, int] = dict.fromkeys(ids, 0)
    for model_id, count in session.execute(
        select(Checkpoint.model_id, func.count()).where(Checkpoint.model_id.in_(ids)).group_by(Checkpoint.model_id)
    ):
        versions[model_id] = count
    aliases: dict[int, dict[str, AliasTarget]] = {model_id: {} for model_id in ids}
    for model_id, alias, version, digest in session.execute(
        select(ModelAlias.model_id, ModelAlias.alias, Checkpoint.version, Checkpoint.digest)
        .join(Checkpoint, Checkpoint.id == ModelAlias.checkpoint_id)
        .where(ModelAlias.model_id.in_(ids))
        .order_by(ModelAlias.alias)
    ):
        aliases[model_id][alias] = AliasTarget(version, digest)
    return tuple(ModelSummary(m.name, m.created_at, versions[m.id], aliases[m.id]) for m in models)
