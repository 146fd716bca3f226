"""Laws of the audit trail of aliases: a move writes one event with actor, old and new version; a failed one none."""

import re
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from darkroom.app.settings import REPOSITORY
from darkroom.model.digest import digest_of
from darkroom.store.aliases import remove_alias, set_alias
from darkroom.store.artifacts import Artifacts
from darkroom.store.audit_repository import COMMAND_LINE, Actor, list_audit_events
from darkroom.store.checkpoint_repository import register_checkpoint
from darkroom.store.database import Database
from darkroom.store.job_repository import Claimant, Lease, Origin, claim_job, hold, submit_job
from darkroom.store.model_repository import VersionNotFound, production_targets
from darkroom.store.promotion import promote_best
from darkroom.store.run_repository import record_checkpoint
from darkroom.store.tables import AuditEvent, CheckpointSource, ModelAlias

PRODUCTION = "models/digits/alias/production"
Told = tuple[str, str, str, dict[str, Any]]


def facts(data: bytes, version: int) -> dict[str, Any]:
    return {"version": version, "digest": digest_of(data)}


def register(database: Database, data: bytes, source: CheckpointSource = "trained") -> None:
    with database.session() as session:
        register_checkpoint(
            session,
            model_name="digits",
            data=data,
            configuration={},
            class_names=["zero"],
            images_seen=1,
            metrics={},
            source=source,
        )


def told(database: Database) -> list[Told]:
    """Return all events, oldest first."""
    with database.session() as session:
        return [(event.actor, event.action, event.target, event.data) for event in reversed(list_audit_events(session))]


def test_who_points_an_alias_is_told_with_where_it_pointed_before(database: Database) -> None:
    register(database, b"a")
    register(database, b"b")
    by = Actor("ops", request_id="mine-1", client_address="10.0.0.1")
    for version in (1, 2):
        with database.session() as session:
            set_alias(session, by, "digits", "production", version)
    with database.session() as session:
        remove_alias(session, COMMAND_LINE, "digits", "production")
    assert told(database) == [
        ("ops", "alias.moved", PRODUCTION, facts(b"a", 1) | {"from": None}),
        ("ops", "alias.moved", PRODUCTION, facts(b"b", 2) | {"from": facts(b"a", 1)}),
        ("command line", "alias.deleted", PRODUCTION, {"from": facts(b"b", 2)}),
    ]
    with database.session() as session:
        assert session.scalars(select(ModelAlias)).all() == []
        first = session.scalars(select(AuditEvent).order_by(AuditEvent.id).limit(1)).one()
    assert (first.request_id, first.client_address) == ("mine-1", "10.0.0.1")


def test_shipped_weights_are_told_as_who_took_production(database: Database) -> None:
    register(database, b"a", "shipped")
    register(database, b"a", "shipped")  # known already: no alias moves
    register(database, b"b", "shipped")
    register(database, b"c", "trained")  # not shipped: no alias moves
    assert told(database) == [
        ("shipped weights", "alias.moved", PRODUCTION, facts(b"a", 1) | {"from": None}),
        ("shipped weights", "alias.moved", PRODUCTION, facts(b"b", 2) | {"from": facts(b"a", 1)}),
    ]


def test_a_job_that_promotes_is_told_once(database: Database) -> None:
    register(database, b"a", "shipped")
    with database.session() as session:
        submit_job(
            session,
            kind="train",
            model_name="digits",
            configuration={"recipe": {"evaluation": None}},
            total_images=100,
            promote="best",
            origin=Origin(),
        )
    with database.session() as session:
        job = claim_job(session, Claimant("w", "cpu"), 60.0)
        assert job is not None
        record_checkpoint(
            session,
            job,
            100,
            weights=b"b",
            state_digest=Artifacts(session).put(b"state"),
            configuration={},
            class_names=["zero"],
            keep_last=1,
        )
        job.images_done = 100
    with database.session() as session:
        promote_best(session, hold(session, Lease(job.id, job.attempt)))
    assert told(database)[1:] == [
        (f"train job {job.id}", "alias.moved", PRODUCTION, facts(b"b", 2) | {"from": facts(b"a", 1)})
    ]


def test_a_move_that_comes_to_nothing_is_not_told(database: Database) -> None:
    register(database, b"a")
    for version, alias, error in ((2, "production", VersionNotFound), (1, "NO NAME", IntegrityError)):
        with pytest.raises(error), database.session() as session:
            set_alias(session, COMMAND_LINE, "digits", alias, version)
    with pytest.raises(VersionNotFound), database.session() as session:
        remove_alias(session, COMMAND_LINE, "digits", "production")
    with database.session() as session:
        set_alias(session, COMMAND_LINE, "digits", "production", 1)
        session.flush()
        session.rollback()
    assert told(database) == []
    with database.session() as session:
        assert production_targets(session) == {}


def test_nothing_else_writes_aliases() -> None:
    """Any module may read aliases. Only one may insert, update or delete them."""
    writes = re.compile(r"(?<![\w.])ModelAlias\(|(insert|upsert|update|delete|get|get_one|merge)\(\s*ModelAlias\b")
    found = {
        str(path.relative_to(REPOSITORY))
        for folder in ("app", "bench", "store", "worker")
        for path in Path(REPOSITORY / folder).rglob("*.py")
        if writes.search(path.read_text().replace("class ModelAlias(", ""))
    }
    assert found == {"store/aliases.py"}
