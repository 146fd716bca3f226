"""Laws of deploy/postgres/roles.sql: the services work with their role, and no role can change the audit trail."""

from collections.abc import Iterator

import pytest
from sqlalchemy import NullPool, create_engine, text
from sqlalchemy.exc import ProgrammingError

from darkroom.app.settings import REPOSITORY
from darkroom.store.audit_repository import COMMAND_LINE, list_audit_events, record
from darkroom.store.database import Database, parse_url
from darkroom.store.deletion import delete_dataset
from darkroom.store.job_repository import Claimant, Lease, claim_job, renew, submit_job, succeed
from darkroom.store.tables import Base
from tests.app.training import add_dataset

ROLES = (REPOSITORY / "deploy" / "postgres" / "roles.sql").read_text(encoding="utf-8")


@pytest.fixture
def as_role(database_url: str) -> Iterator[dict[str, Database]]:
    """The database as each role reaches it."""
    with create_engine(parse_url(database_url), poolclass=NullPool).begin() as owner:
        for _ in range(2):  # it may run after each migration
            owner.exec_driver_sql(ROLES.replace("%", "%%"))
    urls = {name: parse_url(database_url).set(username=f"darkroom_{name}") for name in ("service", "autoscaler")}
    made = {name: Database(url.render_as_string(hide_password=False)) for name, url in urls.items()}
    yield made
    for database in made.values():
        database.dispose()


def refused(database: Database, statement: str) -> None:
    with pytest.raises(ProgrammingError, match=r"permission denied|must be owner"), database.session() as session:
        session.execute(text(statement))


def test_the_services_role_reads_and_writes_all_but_the_trail_and_is_no_superuser(as_role: dict[str, Database]) -> None:
    service = as_role["service"]
    add_dataset(service)
    with service.session() as session:
        assert session.scalar(text("SHOW is_superuser")) == "off"
        record(session, COMMAND_LINE, "a.b", "c")
        submit_job(session, kind="train", model_name="m", configuration={}, total_images=1)
    with service.session() as session:
        job = claim_job(session, Claimant("w", "cpu"), 60.0)
        assert job is not None
        renew(session, Lease(job.id, job.attempt), 60.0)
        succeed(session, Lease(job.id, job.attempt))
        delete_dataset(session, COMMAND_LINE, "shapes")
    with service.session() as session:
        assert {event.action for event in list_audit_events(session)} == {"a.b", "dataset.deleted"}
        for table in Base.metadata.tables:
            session.execute(text(f"SELECT count(*) FROM {table}"))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_events SET actor = 'nobody'",
        "DELETE FROM audit_events",
        "TRUNCATE audit_events",
        "ALTER TABLE audit_events DISABLE TRIGGER ALL",
        "DROP TRIGGER audit_events_append_only ON audit_events",
        "DROP TABLE audit_events",
        "SET session_replication_role = replica",
        "CREATE TABLE mine (a int)",
        "CREATE ROLE other SUPERUSER",
        "UPDATE alembic_version SET version_num = '0001'",
    ],
)
def test_the_services_role_cannot_change_the_trail_or_the_schema(as_role: dict[str, Database], statement: str) -> None:
    refused(as_role["service"], statement)


def test_the_autoscaler_s_role_reads_jobs_and_workers_alone(as_role: dict[str, Database]) -> None:
    autoscaler = as_role["autoscaler"]
    for table in Base.metadata.tables:
        if table in ("jobs", "workers"):
            with autoscaler.session() as session:
                session.execute(text(f"SELECT count(*) FROM {table}"))
            refused(autoscaler, f"DELETE FROM {table}")
        else:
            refused(autoscaler, f"SELECT * FROM {table}")
