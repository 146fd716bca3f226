"""Checkpoints: the versions of a model, each with its bytes in the artifact store."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from darkroom.store.aliases import move_alias
from darkroom.store.artifacts import ArtifactMissing, Artifacts
from darkroom.store.audit_repository import Actor
from darkroom.store.model_repository import PRODUCTION, ModelNotFound, ensure_model
from darkroom.store.tables import Checkpoint, CheckpointSource, Model, ModelAlias


def register_checkpoint(
    session: Session,
    *,
    model_name: str,
    data: bytes,
    configuration: Mapping[str, Any],
    class_names: Sequence[str],
    images_seen: int,
    metrics: Mapping[str, Any],
    source: CheckpointSource,
    actor: Actor | None = None,
    api_key_id: int | None = None,
    stored: str | None = None,
) -> Checkpoint:
    """Add a checkpoint to a model, which is created if it is new. Bytes that the model already has add nothing.

    Returns the record of the version with these bytes. A model's first checkpoint becomes "production" unless a job
    trained it: the job's end or a person promotes that. In production, a later shipped checkpoint replaces only a
    shipped one: an update of the software never replaces what somebody trained or chose.

    data: the safetensors file. metrics: finite numbers (NaN raises an error). model_name: lower-case letters,
    digits and `._-`, at most 63; anything else raises sqlalchemy.exc.IntegrityError. actor: moves the alias; default:
    the weights themselves. api_key_id: owns a new model. If this transaction has stored `data`, `stored` is its digest.
    """
    model = ensure_model(session, model_name, api_key_id)
    digest = stored or Artifacts(session).put(data)
    known = session.scalars(
        select(Checkpoint).where(Checkpoint.model_id == model.id, Checkpoint.digest == digest)
    ).one_or_none()
    if known is not None:
        known.artifact_digest = digest  # its bytes may have been deleted before
        return known
    latest = session.scalar(select(func.max(Checkpoint.version)).where(Checkpoint.model_id == model.id)) or 0
    checkpoint = Checkpoint(
        model=model,
        version=latest + 1,
        digest=digest,
        artifact_digest=digest,
        size_bytes=len(data),
        images_seen=images_seen,
        source=source,
        configuration=dict(configuration),
        class_names=list(class_names),
        metrics=dict(metrics),
    )
    session.add(checkpoint)
    session.flush()
    session.refresh(checkpoint)  # reads created_at, which the database's clock sets
    production = _production_source(session, model)
    if (production is None and source != "trained") or production == source == "shipped":
        move_alias(session, actor or Actor(f"{source} weights"), model, PRODUCTION, checkpoint)
    return checkpoint


def list_checkpoints(
    session: Session, model_name: str, before: int | None = None, limit: int = 50
) -> tuple[Checkpoint, ...]:
    """Up to `limit` versions of a model, newest first, below version `before`; raises ModelNotFound."""
    if limit < 1:
        raise ValueError(f"limit must be at least 1, not {limit}")
    model_id = session.scalar(select(Model.id).where(Model.name == model_name))
    if model_id is None:
        raise ModelNotFound(model_name)
    query = select(Checkpoint).where(Checkpoint.model_id == model_id).order_by(Checkpoint.version.desc()).limit(limit)
    if before is not None:
        query = query.where(Checkpoint.version < before)
    return tuple(session.scalars(query))


def checkpoint_bytes(session: Session, checkpoint: Checkpoint) -> bytes:
    """The checkpoint's safetensors file, checked against its digest.

    Raises store.artifacts.ArtifactMissing, ArtifactCorrupted.
    """
    return Artifacts(session).get(_artifact(checkpoint))


def checkpoint_beginning(session: Session, checkpoint: Checkpoint, size: int) -> bytes:
    """The first bytes, up to `size`, of the checkpoint's file, not checked against its digest.

    Raises store.artifacts.ArtifactMissing, ArtifactCorrupted.
    """
    return Artifacts(session).beginning(_artifact(checkpoint), size)


def _artifact(checkpoint: Checkpoint) -> str:
    if checkpoint.artifact_digest is None:
        raise ArtifactMissing(checkpoint.digest)
    return checkpoint.artifact_digest


def _production_source(session: Session, model: Model) -> CheckpointSource | None:
    return session.scalar(
        select(Checkpoint.source)
        .join(ModelAlias, ModelAlias.checkpoint_id == Checkpoint.id)
        .where(ModelAlias.model_id == model.id, ModelAlias.alias == PRODUCTION)
    )
