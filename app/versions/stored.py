"""Reads and registers model versions in the store. Each function has a transaction of its own."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

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
    production_targets,
    resolve,
    resolve_kept,
)
from darkroom.store.tables import Checkpoint as CheckpointRow

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
    with database.session() as session:
        return figures_by(session, "frontier", CheckpointRow.digest, digests)


def register_shipped(database: Database, header: CheckpointHeader, path: Path) -> int:
    """Register weights and the frontier in their header, and return the version's number."""
    with database.session() as session:
        checkpoint = register_checkpoint(
            session,
            model_name=header.name,
            data=path.read_bytes(),
            configuration=header.model.model_dump(mode="json"),
            class_names=header.class_names,
            images_seen=header.images_seen,
            metrics=header.metrics,
            source="shipped",
        )
        record_figures(session, checkpoint.id, "frontier", header.evaluations)
        return checkpoint.version


def production_versions(database: Database) -> dict[str, AliasTarget]:
    with database.session() as session:
        return dict(production_targets(session))


def point_production(database: Database, actor: Actor, name: str, digest: str) -> None:
    with database.session() as session:
        set_alias(session, actor, name, PRODUCTION, digest)
