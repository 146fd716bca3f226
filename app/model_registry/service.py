"""Describes versions, and adds weights files as versions."""

from collections.abc import Collection, Sequence
from typing import BinaryIO

from sqlalchemy.orm import Session

from darkroom.app.dependencies.paging import LARGEST_ID
from darkroom.app.dependencies.services import Services
from darkroom.app.http.problems import Problem, invalid
from darkroom.app.http.storable import require_storable
from darkroom.app.jobs.schemas import VerdictAnswer
from darkroom.app.model_registry.schemas import VersionAnswer, VersionDetailAnswer, VersionFigure
from darkroom.app.versions.stored import register_weights, stored_version
from darkroom.model.checkpoint import CheckpointError, decode_checkpoint
from darkroom.model.config import ModelConfig
from darkroom.model.figure import Figure
from darkroom.model.metrics.frontier import Frontier, frontiers
from darkroom.model.training.verdict import little_training
from darkroom.store.aliases import version_facts
from darkroom.store.audit_repository import Actor, record
from darkroom.store.figure_repository import figures_by
from darkroom.store.model_repository import PRODUCTION, find_model, production_targets, resolve
from darkroom.store.owners import Owner, require_owned
from darkroom.store.run_repository import forked
from darkroom.store.tables import Checkpoint


def _frontiers(row: Checkpoint, measured: Sequence[Figure]) -> Sequence[Frontier]:
    return frontiers(measured, ModelConfig.model_validate(row.configuration).schedule) if measured else ()


def _little_training(row: Checkpoint, forks: Collection[int]) -> str | None:
    """A fork counts its images from 0, but begins with trained weights."""
    return None if row.id in forks else little_training(row.images_seen, ModelConfig.model_validate(row.configuration))


def describe_versions(session: Session, services: Services, rows: Sequence[Checkpoint]) -> list[VersionAnswer]:
    """Return the answers about versions, in the same order."""
    measured = figures_by(session, "frontier", Checkpoint.digest, [row.digest for row in rows])
    evaluated = figures_by(session, "evaluation", Checkpoint.id, [row.id for row in rows])
    forks = forked(session, [row.id for row in rows])
    resident = services.engine.status().resident
    return [
        VersionAnswer(
            version=row.version,
            digest=row.digest,
            source=row.source,
            created_at=row.created_at,
            size_bytes=row.size_bytes,
            images_seen=row.images_seen,
            class_names=list(row.class_names),
            metrics=row.metrics,
            evaluations=[VersionFigure.model_validate(one) for one in evaluated.get(row.id, ())],
            verdict=VerdictAnswer.model_validate(row.verdict) if row.verdict else None,
            little_training=_little_training(row, forks),
            kept=row.artifact_digest is not None,
            keep=row.keep,
            resident=row.digest in resident,
            frontiers=_frontiers(row, measured.get(row.digest, ())),
        )
        for row in rows
    ]


def require_readable(session: Session, name: str, selector: str, owner: Owner | None) -> Checkpoint:
    """Return a version. Everybody may read the version in production, and others only the model's owner.

    Raises ModelNotFound, VersionNotFound and OwnedByAnother.
    """
    served = production_targets(session).get(name)
    if served is None or selector not in (PRODUCTION, str(served.version), served.digest):
        require_owned(session, find_model(session, name), owner)
    return resolve(session, name, selector)


def describe_version(services: Services, name: str, selector: str, owner: Owner | None) -> VersionDetailAnswer:
    """Return the answer about one version, with the facts in the header of its weights file."""
    with services.transaction() as session:
        answer = describe_versions(session, services, [require_readable(session, name, selector, owner)])[0]
    if not answer.kept:
        return VersionDetailAnswer(**dict(answer))
    header = stored_version(services.store, name, answer.digest).header
    return VersionDetailAnswer(
        **dict(answer),
        image_size=header.model.image_size,
        image_channels=header.model.image_channels,
        parameters=header.parameters,
        default_sampling=header.sampling,
        recipe=header.recipe,
        undrawn=[header.class_names[label] for label in header.undrawn],
    )


def add_version(services: Services, actor: Actor, name: str, file: BinaryIO) -> tuple[VersionAnswer, bool]:
    """Check a weights file completely and add it as a version. Returns the version and True when it is new.

    Raises Problem (422) when the service could not draw with the weights, or could not store their header.
    """
    with file:
        file.seek(0)
        data = file.read()
    try:
        checkpoint = decode_checkpoint(data, source="the file")
        checkpoint.denoiser()  # builds the network and draws an image
    except CheckpointError as error:
        raise Problem(422, "weights-unusable", str(error)) from error
    require_storable(checkpoint.header)
    if checkpoint.header.images_seen > LARGEST_ID:
        raise invalid([("/images_seen", f"must be at most {LARGEST_ID}")])
    with services.transaction() as session:
        row, created = register_weights(session, checkpoint.header, data, "imported", name, actor)
        if created:
            record(session, actor, "version.added", f"models/{name}/versions/{row.version}", version_facts(row))
        return describe_versions(session, services, [row])[0], created
