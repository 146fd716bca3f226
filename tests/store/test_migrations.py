"""Laws of the migrations."""

import hashlib
import io
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData, NullPool, create_engine, inspect, null, text
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.orm import Session

from darkroom.model.config import SamplingConfig
from darkroom.model.figure import Figure
from darkroom.model.training.curve_point import CurvePoint
from darkroom.model.user_error import UserError
from darkroom.store import migrations, run_repository
from darkroom.store.aliases import set_alias
from darkroom.store.artifacts import Artifacts
from darkroom.store.audit_repository import COMMAND_LINE
from darkroom.store.checkpoint_repository import checkpoint_bytes, register_checkpoint
from darkroom.store.counters import count
from darkroom.store.database import Database, parse_url
from darkroom.store.dataset_repository import DatasetFacts, register_dataset
from darkroom.store.generate_repository import submit_generate_job
from darkroom.store.idempotency import remember
from darkroom.store.job_forms import GenerateRun
from darkroom.store.job_repository import Claimant, Lease, claim_job, hold, submit_job
from darkroom.store.key_repository import KeyLimits, create_key
from darkroom.store.migrations import NewerSchema, downgrade, require_current, upgrade
from darkroom.store.model_repository import resolve
from darkroom.store.part_repository import record_part
from darkroom.store.sweep_repository import create_sweep
from darkroom.store.tables import Base, Checkpoint, Counter
from darkroom.store.worker_repository import see_worker

DATA = b"some bytes" * 200_000
"""More than one chunk."""


def _tables(url: str) -> set[str]:
    with create_engine(parse_url(url), poolclass=NullPool).connect() as connection:
        return set(inspect(connection).get_table_names())


def _constraints(url: str) -> set[str]:
    with create_engine(parse_url(url), poolclass=NullPool).connect() as connection:
        inspector = inspect(connection)
        names = {
            str(check["name"]) for table in Base.metadata.tables for check in inspector.get_check_constraints(table)
        }
        return names | {str(inspector.get_pk_constraint(table)["name"]) for table in Base.metadata.tables}


def _register(session: Session, data: bytes) -> Checkpoint:
    return register_checkpoint(
        session,
        model_name="digits",
        data=data,
        configuration={"a": 1},
        class_names=["zero"],
        images_seen=1,
        metrics={"fid": 2.5},
        source="shipped",
    )


def _add_row(url: str) -> None:
    database = Database(url)
    with database.session() as session:
        _register(session, b"weights")
    with database.session() as session:
        assert checkpoint_bytes(session, resolve(session, "digits")) == b"weights"
    database.dispose()


def _fill(database: Database) -> None:
    """Write a record to every table, with the repositories."""
    with database.session() as session:
        facts = DatasetFacts("npz", f"sha256:{'0' * 64}", ["zero"], [1], 1, 8)
        dataset = register_dataset(session, "data", facts, io.BytesIO(b"data set"), b"picture").dataset
        sweep = create_sweep(session, "sweep", {}, ["training.seed"])
        given: dict[str, Any] = {"model_name": "digits", "configuration": {}, "total_images": 8}
        submit_job(session, kind="train", dataset_id=dataset.id, sweep_id=sweep.id, priority=1, **given)
        sampling = SamplingConfig()
        run = GenerateRun(class_indices=(0,), images_per_class=1, seed=0, sampling=sampling, format="npz")
        submit_generate_job(session, resolve(session, "digits"), run, shard_images=1)
        remember(session, "POST /train-jobs", "key", "digest")
        see_worker(session, "worker", "cpu", 1)
        count(session, "lease_lapses")
        session.merge(Counter(name="lease_lapses", label="", value=1.0))  # as the version before counted
        secret: dict[str, Any] = {"prefix": "drk_key", "digest": b"d" * 32}
        create_key(session, COMMAND_LINE, name="key", scopes=["train"], limits=KeyLimits(), **secret)
        run_repository.store_reference_statistics(session, "key", b"statistics")
    train, sample = (_claim(database) for _ in range(2))
    with database.session() as session:
        state = Artifacts(session).put(b"state")
        job = hold(session, train)
        run_repository.record_curve_points(session, job, [CurvePoint(4, 1.0, 1.0, 1.0, 1.0, 1)])
        kept: dict[str, Any] = {"weights": b"trained", "state_digest": state, "keep_last": 1}
        run_repository.record_checkpoint(session, job, 8, configuration={}, class_names=["zero"], **kept)
        run_repository.record_evaluations(session, job, 8, [Figure("fid", 1.0, {}, 1.0)])
        run_repository.record_frontier(session, job, 8, [Figure("fid", 1.0, {})])
        run_repository.record_samples(session, job, 8, Artifacts(session).put(b"samples"))
        run_repository.append_log(session, job, ["line"])
    with database.session() as session:
        record_part(session, sample, 0, 1, b"part")


def _claim(database: Database) -> Lease:
    with database.session() as session:
        job = claim_job(session, Claimant("worker", "cpu"), 60.0)
    assert job is not None
    return Lease(job.id, job.attempt)


def _rows(url: str, *tables: str) -> Mapping[str, list[Mapping[str, Any]]]:
    """Return all records of these tables, in a fixed order."""
    with create_engine(parse_url(url), poolclass=NullPool).connect() as connection:
        found = {
            table: [dict(row) for row in connection.execute(text(f"SELECT * FROM {table}")).mappings()]
            for table in tables
        }
    return {table: sorted(rows, key=repr) for table, rows in found.items()}


NEWER = ("artifact_digest", "keep", "verdict", "api_key_id")
"""Columns of checkpoints that came after the first migration."""


def _without(rows: list[Mapping[str, Any]], *columns: str) -> list[Mapping[str, Any]]:
    return [{name: value for name, value in row.items() if name not in columns} for row in rows]


def test_the_migrated_schema_is_the_one_of_the_tables(database_url: str, empty_database_url: str) -> None:
    with create_engine(parse_url(database_url), poolclass=NullPool).connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True, "target_metadata": Base.metadata}
        )
        assert compare_metadata(context, Base.metadata) == []
    # Alembic does not compare check constraints and the names of primary keys: compare them with a fresh schema.
    engine = create_engine(parse_url(empty_database_url), poolclass=NullPool)
    Base.metadata.create_all(engine)
    assert _constraints(database_url) == _constraints(empty_database_url)


def test_down_and_up_again_with_rows_present(empty_database_url: str) -> None:
    for _ in range(2):
        upgrade(empty_database_url)
        _add_row(empty_database_url)
        downgrade(empty_database_url, "base")
        assert _tables(empty_database_url) == {"alembic_version"}


def test_upgrading_again_keeps_the_rows(empty_database_url: str) -> None:
    upgrade(empty_database_url)
    _add_row(empty_database_url)
    upgrade(empty_database_url)
    database = Database(empty_database_url)
    with database.session() as session:
        assert checkpoint_bytes(session, resolve(session, "digits")) == b"weights"
    database.dispose()


def test_down_to_the_first_tables_and_up_again_keeps_what_they_hold(empty_database_url: str, tmp_path: Path) -> None:
    url = empty_database_url
    upgrade(url)
    inside, outside = Database(url), Database(url, artifacts_url=str(tmp_path))
    with inside.session() as session:
        shipped = _register(session, DATA)
    _fill(inside)
    with inside.session() as session:
        collected = _register(session, b"collected")
        set_alias(session, COMMAND_LINE, "digits", "old", collected.version)
        collected.artifact_digest = None
    with outside.session() as session:
        elsewhere = _register(session, b"elsewhere")
        set_alias(session, COMMAND_LINE, "digits", "far", elsewhere.version)
        set_alias(session, COMMAND_LINE, "digits", "production", 1)
    everything = _rows(url, *Base.metadata.tables)
    assert [table for table, rows in everything.items() if not rows] == []

    downgrade(url, "0001")
    old = _tables(url) - {"alembic_version"}
    assert old == {"artifacts", "artifact_chunks", "models", "checkpoints", "model_aliases"}
    lost = {collected.id, elsewhere.id}
    kept = {
        "artifacts": _without([row for row in everything["artifacts"] if row["location"] is None], "location"),
        "artifact_chunks": everything["artifact_chunks"],
        "models": _without(everything["models"], *NEWER),
        "checkpoints": _without([row for row in everything["checkpoints"] if row["id"] not in lost], *NEWER),
        "model_aliases": [row for row in everything["model_aliases"] if row["checkpoint_id"] not in lost],
    }
    assert _rows(url, *old) == kept
    assert {row["id"] for row in kept["checkpoints"]} > {shipped.id}
    for row in kept["checkpoints"]:
        chunks = sorted(
            (chunk for chunk in kept["artifact_chunks"] if chunk["digest"] == row["digest"]),
            key=lambda one: one["position"],
        )
        assert row["digest"] == "sha256:" + hashlib.sha256(b"".join(chunk["data"] for chunk in chunks)).hexdigest()

    upgrade(url)
    now = _rows(url, *Base.metadata.tables)
    assert {table: _without(now[table], "location", *NEWER) for table in old} == kept
    assert all(not now[table] for table in Base.metadata.tables if table not in old)
    with inside.session() as session:
        assert resolve(session, "digits").id == shipped.id
        assert checkpoint_bytes(session, resolve(session, "digits")) == DATA
        assert checkpoint_bytes(session, resolve(session, "digits", 2)) == b"trained"
    _fill(inside)
    inside.dispose()
    outside.dispose()


def test_figures_of_two_tables_become_one_and_two_again(empty_database_url: str) -> None:
    url = empty_database_url
    upgrade(url, "0006")
    engine = create_engine(parse_url(url), poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO models (name) VALUES ('digits')"))
        connection.execute(
            text(
                "INSERT INTO checkpoints"
                " (model_id, version, digest, size_bytes, images_seen, source, configuration, class_names, metrics)"
                " VALUES (1, 1, 'sha256:1', 1, 1, 'trained', '{}', '[]', '{}')"
            )
        )
        for metric in ("fid", "kid"):
            connection.execute(
                text(
                    "INSERT INTO evaluations"
                    " (checkpoint_id, metric, protocol_digest, value, protocol, seconds, created_at)"
                    " VALUES (1, :metric, 'sha256:0', 10.0, '{\"steps\": 20}', 1.5, '2024-01-01')"
                ),
                {"metric": metric},
            )
        for metric in ("fid", "fid-x"):  # "fid" is in both tables, with different values
            connection.execute(
                text(
                    "INSERT INTO frontier_figures (checkpoint_id, metric, protocol_digest, value, protocol, created_at)"
                    " VALUES (1, :metric, 'sha256:0', 1.0, '{\"steps\": 20}', '2024-01-02')"
                ),
                {"metric": metric},
            )
    before = _rows(url, "evaluations", "frontier_figures")
    assert [len(rows) for rows in before.values()] == [2, 2]
    with engine.begin() as connection:  # values that cannot be read as figures
        for value in ("NaN", "-Infinity"):
            for table, more in (("evaluations", ", seconds"), ("frontier_figures", "")):
                connection.execute(
                    text(
                        f"INSERT INTO {table} (checkpoint_id, metric, protocol_digest, value, protocol{more})"
                        f" VALUES (1, '{value}', 'sha256:0', '{value}', '{{}}'{', 1' if more else ''})"
                    )
                )

    upgrade(url)
    assert "frontier_figures" not in _tables(url)
    now = _rows(url, "evaluations")["evaluations"]
    of = {purpose: [row for row in now if row["purpose"] == purpose] for purpose in ("evaluation", "frontier")}
    assert _without(of["evaluation"], "purpose") == before["evaluations"]
    assert _without(of["frontier"], "purpose", "seconds") == before["frontier_figures"]
    assert [row["seconds"] for row in of["frontier"]] == [None, None]

    downgrade(url, "0006")
    assert _rows(url, "evaluations", "frontier_figures") == before


def test_sweeps_and_generate_jobs_get_the_key_of_their_jobs(empty_database_url: str) -> None:
    upgrade(empty_database_url, "0014")
    statements = [
        "INSERT INTO api_keys (name, prefix, digest, scopes)"
        " SELECT 'k', n, decode(repeat('00', 32), 'hex'), '[\"train\"]' FROM generate_series(1, 2) AS n",
        "INSERT INTO models (name) VALUES ('m')",
        "INSERT INTO checkpoints"
        " (model_id, version, digest, size_bytes, images_seen, source, configuration, class_names, metrics)"
        " VALUES (1, 1, 'sha256:1', 1, 1, 'trained', '{}', '[]', '{}')",
        "INSERT INTO sweeps (name, configuration, fields) SELECT 's', '{}', '[]' FROM generate_series(1, 3)",
        "INSERT INTO generate_jobs (checkpoint_id, configuration, total_images) VALUES (1, '{}', 1), (1, '{}', 1)",
        "INSERT INTO jobs (kind, model_name, configuration, total_images, sweep_id, generate_job_id, api_key_id)"
        " SELECT kind, 'm', '{}', 1, sweep, images, key FROM (VALUES"
        " ('train', 1, NULL, 2), ('train', 1, NULL, 1), ('train', 2, NULL, NULL), ('sample', NULL, 2, 1)"
        ") AS made (kind, sweep, images, key)",
    ]
    with create_engine(parse_url(empty_database_url), poolclass=NullPool).begin() as connection:
        for statement in statements:
            connection.execute(text(statement))
    upgrade(empty_database_url)
    now = _rows(empty_database_url, "sweeps", "generate_jobs")
    owners = {table: {row["id"]: row["api_key_id"] for row in rows} for table, rows in now.items()}
    assert owners == {"sweeps": {1: 2, 2: None, 3: None}, "generate_jobs": {1: None, 2: 1}}


def test_two_starters_do_not_collide(empty_database_url: str) -> None:
    start = threading.Barrier(2)
    errors: list[SQLAlchemyError] = []

    def migrate() -> None:
        start.wait()
        try:
            upgrade(empty_database_url)
        except SQLAlchemyError as error:
            errors.append(error)

    threads = [threading.Thread(target=migrate) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert "models" in _tables(empty_database_url)


def test_no_server_is_an_error() -> None:
    with pytest.raises(OperationalError):
        upgrade("postgresql://nobody@/nothing?host=/nonexistent")


def _stamp(url: str, revision: str) -> None:
    with create_engine(parse_url(url), poolclass=NullPool).begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})


def test_a_database_of_a_newer_darkroom_is_one_sentence(database_url: str) -> None:
    _stamp(database_url, "9999")
    with pytest.raises(NewerSchema, match="newer Darkroom") as refused:
        upgrade(database_url)
    assert "9999" in str(refused.value)
    assert "\n" not in str(refused.value)
    require_current(database_url)


@pytest.mark.parametrize("revision", ["0000", "a_name"])
def test_a_revision_that_is_neither_known_nor_newer_is_refused(database_url: str, revision: str) -> None:
    _stamp(database_url, revision)
    for look in (upgrade, require_current):
        with pytest.raises(UserError, match=f"unknown revision {revision}") as refused:
            look(database_url)
        assert not isinstance(refused.value, NewerSchema)


COLUMNS = """
SELECT attrelid::regclass || '.' || attname, format_type(atttypid, atttypmod),
  atthasdef OR attidentity <> '' OR NOT attnotnull
FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND attnum > 0 AND NOT attisdropped
"""
RULES = """
SELECT conrelid::regclass || '.' || conname, pg_get_constraintdef(pg_constraint.oid),
  array_agg(conrelid::regclass || '.' || attname)
FROM pg_constraint JOIN pg_attribute ON attrelid = conrelid AND attnum = ANY (conkey)
WHERE contype IN ('c', 'f') AND connamespace = 'public'::regnamespace GROUP BY pg_constraint.oid
UNION ALL
SELECT indrelid::regclass || '.' || indexrelid::regclass, pg_get_indexdef(indexrelid),
  array_agg(indrelid::regclass || '.' || attname)
FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
  JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY (indkey)
WHERE indisunique AND relnamespace = 'public'::regnamespace GROUP BY pg_index.indexrelid, indrelid
"""
"""Checks, foreign keys and unique indexes, with their columns."""


@dataclass(frozen=True)
class _Schema:
    """What a database asks of rows. Names are TABLE.NAME.

    columns: their types, and whether an INSERT may leave them out; rules: their definitions and columns.
    """

    columns: Mapping[str, tuple[str, bool]]
    rules: Mapping[str, tuple[str, frozenset[str]]]

    @property
    def tables(self) -> set[str]:
        return {_table(name) for name in self.columns}


def _table(name: str) -> str:
    return name.split(".")[0]


def _schema(url: str) -> _Schema:
    with create_engine(parse_url(url), poolclass=NullPool).connect() as connection:
        columns = {name: (kind, optional) for name, kind, optional in connection.execute(text(COLUMNS))}
        rules = {name: (rule, frozenset(of)) for name, rule, of in connection.execute(text(RULES))}
    return _Schema(columns, rules)


def _refused(before: _Schema, after: _Schema) -> set[str]:
    """Return the tables, columns and rules by which the version before could notice the migration."""
    kept = before.tables & after.tables
    faults = before.tables - after.tables
    faults |= {name for name in before.columns.keys() - after.columns.keys() if _table(name) in kept}
    for name, (kind, optional) in after.columns.items():
        old_kind, old_optional = before.columns.get(name, (kind, True))
        if _table(name) in kept and (kind != old_kind or optional < old_optional):
            faults.add(name)
    for name, (rule, of) in after.rules.items():
        if of & before.columns.keys() and before.rules.get(name) != (rule, of):
            faults.add(name)
    return faults


CONTRACTED = {
    "0006": {"jobs.hinted_at"},
    "0007": {
        "frontier_figures",
        "evaluations.purpose",
        "evaluations.pk_evaluations",
        "evaluations.ck_evaluations_seconds",
    },
}
"""What a migration took from the version before it. Both are older than the rule in CONTRIBUTING.md ("A migration").

Add to this only what the version before does not use any more, and a check that is wider than it was.
"""


def _revisions() -> list[str]:
    """Return all revisions, the oldest first."""
    script = ScriptDirectory.from_config(Config(str(migrations.CONFIG_FILE)))
    return [one.revision for one in script.walk_revisions()][::-1]


def test_a_migration_only_adds(empty_database_url: str) -> None:
    refused: dict[str, set[str]] = {}
    before = _schema(empty_database_url)
    for revision in _revisions():
        upgrade(empty_database_url, revision)
        after = _schema(empty_database_url)
        refused[revision] = _refused(before, after)
        before = after
    assert {revision: faults for revision, faults in refused.items() if faults} == CONTRACTED


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        ("DROP TABLE counter_slots", "counter_slots"),
        ("ALTER TABLE jobs RENAME priority TO urgency", "jobs.priority"),
        ("ALTER TABLE jobs ALTER priority DROP DEFAULT", "jobs.priority"),
        ("ALTER TABLE jobs ALTER traceparent SET NOT NULL", "jobs.traceparent"),
        ("ALTER TABLE jobs ALTER priority TYPE text", "jobs.priority"),
        ("ALTER TABLE jobs ADD colour text NOT NULL", "jobs.colour"),
        ("ALTER TABLE jobs ADD CONSTRAINT small CHECK (priority < 9)", "jobs.small"),
        ("CREATE UNIQUE INDEX once ON jobs (model_name)", "jobs.once"),
        ("ALTER TABLE jobs ADD CONSTRAINT known FOREIGN KEY (model_name) REFERENCES models (name)", "jobs.known"),
    ],
)
def test_a_migration_that_takes_away_is_noticed(statement: str, fault: str, database_url: str) -> None:
    before = _schema(database_url)
    with create_engine(parse_url(database_url), poolclass=NullPool).begin() as connection:
        connection.execute(text(statement))
    assert fault in _refused(before, _schema(database_url))


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE colours (name text PRIMARY KEY, job bigint NOT NULL REFERENCES jobs (id))",
        "ALTER TABLE jobs ADD colour text CONSTRAINT known CHECK (colour <> '')",
        "ALTER TABLE jobs ADD colour text NOT NULL DEFAULT 'red'",
        "CREATE INDEX looked_up ON jobs (model_name)",
        "ALTER TABLE jobs DROP CONSTRAINT ck_jobs_devices",
        "ALTER TABLE jobs ALTER model_name DROP NOT NULL",
    ],
)
def test_a_migration_that_adds_is_allowed(statement: str, database_url: str) -> None:
    before = _schema(database_url)
    with create_engine(parse_url(database_url), poolclass=NullPool).begin() as connection:
        connection.execute(text(statement))
    assert _refused(before, _schema(database_url)) == set()


def test_what_the_version_before_writes_fits_the_newest_tables(
    database_url: str, database: Database, empty_database_url: str
) -> None:
    """Today's code writes the rows; their columns are those that the version before knows, in an INSERT of its kind."""
    with database.session() as session:
        _register(session, DATA)
    _fill(database)
    *_, version_before, newest = _revisions()
    upgrade(empty_database_url, version_before)
    engine, known = create_engine(parse_url(empty_database_url), poolclass=NullPool), MetaData()
    known.reflect(engine)
    upgrade(empty_database_url, newest)
    known.remove(known.tables["alembic_version"])
    written = _rows(database_url, *(known.tables.keys() & _tables(database_url)))
    assert [table for table, rows in written.items() if not rows] == []
    old = {
        name: [{column: row[column] for column in known.tables[name].columns.keys() & row.keys()} for row in rows]
        for name, rows in written.items()
    }
    with engine.begin() as connection:
        for table in known.sorted_tables:
            for row in old.get(table.name, ()):
                values = {name: null() if value is None else value for name, value in row.items()}  # not JSON's null
                connection.execute(table.insert().values(values))
    now = _rows(empty_database_url, *old)
    assert {
        name: [{column: row[column] for column in old[name][0]} for row in rows] for name, rows in now.items()
    } == old


def test_who_does_not_migrate_is_told_to(empty_database_url: str) -> None:
    with pytest.raises(UserError, match="run `darkroom migrate`"):
        require_current(empty_database_url)
    assert _tables(empty_database_url) == set()
    upgrade(empty_database_url, "0001")
    with pytest.raises(UserError, match="run `darkroom migrate`"):
        require_current(empty_database_url)
    upgrade(empty_database_url)
    require_current(empty_database_url)


def test_a_migration_does_not_wait_for_ever_for_a_table(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    upgrade(empty_database_url, "0014")
    with create_engine(parse_url(empty_database_url), poolclass=NullPool).begin() as reader:
        reader.execute(text("SELECT FROM sweeps"))
        with monkeypatch.context() as patched:
            patched.setattr(migrations, "LOCK_MILLISECONDS", 1)
            with pytest.raises(UserError, match="nothing was changed"):
                upgrade(empty_database_url)
    with pytest.raises(UserError, match="run `darkroom migrate`"):
        require_current(empty_database_url)
    upgrade(empty_database_url)
    require_current(empty_database_url)
