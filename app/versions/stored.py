"""Reads and registers model versions in the store."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from darkroom.app.versions.version import Version
from darkroom.model.checkpoint import (
    Checkpoint,
    CheckpointError,
    CheckpointHeader,
    decode_checkpoint,
    header_end,
    read_header,
)
from darkroom.model.digest import digest_of
from darkroom.model.figure import Figure
from darkroom.store.aliases import set_alias
from darkroom.store.artifacts import ArtifactCorrupted, ArtifactMissing
from darkroom.store.audit_repository import Actor
from darkroom.store.checkpoint_repository import checkpoint_beginning, checkpoint_bytes, register_checkpoint
from darkroom.store.database import Database
from darkroom.store.figure_repository import figures_by, record_figures
from darkroom.store.model_repository import (
    PRODUCTION,
    AliasTarget,
    ensure_model,
    production_targets,
    resolve,
    resolve_kept,
)
from darkroom.store.tables import Checkpoint as CheckpointRow
from darkroom.store.tables import CheckpointSource

HEADER_BYTES = 1 << 20
"""Bytes of a weights file to read for its header. A longer header needs a second read."""


def resolve_version(database: Database, name: str, selector: str) -> AliasTarget:
    """Return digest and number of the version that `selector` means, without reading its bytes."""
    with database.session() as session:
        row = resolve(session, name, selector)
        return AliasTarget(row.version, row.digest)


def stored_version(database: Database, name: str, digest: str) -> Version:
    """Return a version from its header and its figures in the store, without reading its weights."""
    with _kept(database, name, digest) as (session, row):
        beginning = checkpoint_beginning(session, row, HEADER_BYTES)
        if header_end(beginning) > len(beginning):
            beginning = checkpoint_beginning(session, row, header_end(beginning))
        header = read_header(beginning, source=f"{name}@{digest}")
        measured = figures_by(session, "frontier", CheckpointRow.digest, [digest]).get(digest, ())
        return Version(name, digest, header, row.version, tuple(measured))


def read_weights(database: Database, name: str, digest: str) -> Checkpoint:
    with _kept(database, name, digest) as (session, row):
        return decode_checkpoint(checkpoint_bytes(session, row), source=f"{name}@{digest}")


@contextmanager
def _kept(database: Database, name: str, digest: str) -> Iterator[tuple[Session, CheckpointRow]]:
    """Yield a transaction and a version's record. Raises VersionCollected if its weights are no longer kept.

    If the block finds missing or damaged bytes, this raises CheckpointError.
    """
    with database.session() as session:
        row = resolve_kept(session, name, digest)
        try:
            yield session, row
        except (ArtifactMissing, ArtifactCorrupted) as error:
            raise CheckpointError(f"{name}@{digest}: {error}") from error


def frontier_figures(database: Database, digests: Collection[str]) -> Mapping[str, Sequence[Figure]]:
    with database.reading() as session:
        return figures_by(session, "frontier", CheckpointRow.digest, digests)


def register_weights(
    session: Session,
    header: CheckpointHeader,
    data: bytes,
    source: CheckpointSource,
    name: str,
    actor: Actor | None = None,
) -> tuple[CheckpointRow, bool]:
    """Register weights and the frontier in their header as a version of model `name`.

    Returns the version, and True unless the model has had its weights already.
    """
    owner = None if actor is None else actor.api_key_id
    model = ensure_model(session, name, owner)
    known = CheckpointRow.model_id == model.id, CheckpointRow.digest == digest_of(data)
    created = session.scalar(select(CheckpointRow.id).where(*known, CheckpointRow.artifact_digest.is_not(None))) is None
    checkpoint = register_checkpoint(
        session,
        model_name=name,
        data=data,
        configuration=header.model.model_dump(mode="json"),
        class_names=header.class_names,
        images_seen=header.images_seen,
        metrics=header.metrics,
        source=source,
        actor=actor,
        api_key_id=owner,
    )
    record_figures(session, checkpoint.id, "frontier", header.evaluations)
    return checkpoint, created


def register_shipped(database: Database, header: CheckpointHeader, path: Path) -> int:
    """Register shipped weights, and return the version's number."""
    with database.session() as session:
        return register_weights(session, header, path.read_bytes(), "shipped", header.name)[0].version


def production_versions(database: Database) -> dict[str, AliasTarget]:
    with database.reading() as session:
        return dict(production_targets(session))


def point_production(database: Database, actor: Actor, name: str, digest: str) -> None:
    with database.session() as session:
        set_alias(session, actor, name, PRODUCTION, digest)
