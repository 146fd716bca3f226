"""Laws of the roles: the services work with theirs, and no role can change the audit trail or the schema."""

from collections.abc import Iterator

import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from darkroom.model.user_error import UserError
from darkroom.store.audit_repository import COMMAND_LINE, list_audit_events, record
from darkroom.store.database import Database, parse_url
from darkroom.store.deletion import delete_dataset
from darkroom.store.job_repository import Claimant, Lease, claim_job, renew, submit_job, succeed
from darkroom.store.migrations import downgrade, upgrade
from darkroom.store.roles import AUTOSCALER, SERVICE, grant_roles
from darkroom.store.tables import Base
from tests.app.training import add_dataset


@pytest.fixture
def as_role(database_url: str) -> Iterator[dict[str, Database]]:
    """The database as each role reaches it."""
    for _ in range(2):  # it runs after each migration
        grant_roles(database_url, {SERVICE: "secret", AUTOSCALER: "secret"})
    urls = {name: parse_url(database_url).set(username=name) for name in (SERVICE, AUTOSCALER)}
    made = {name: Database(url.render_as_string(hide_password=False)) for name, url in urls.items()}
    yield made
    for database in made.values():
        database.dispose()


def refused(database: Database, statement: str) -> None:
    with pytest.raises(ProgrammingError, match=r"permission denied|must be owner"), database.session() as session:
        session.execute(text(statement))


def test_the_services_role_reads_and_writes_all_but_the_trail_and_is_no_superuser(as_role: dict[str, Database]) -> None:
    service = as_role[SERVICE]
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
        "ALTER TABLE jobs ADD COLUMN mine int",
        "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "ALTER FUNCTION refuse_change_of_audit_events() RENAME TO mine",
        "SET ROLE postgres",
        "COPY jobs TO PROGRAM 'true'",
        "SELECT pg_read_file('/etc/passwd')",
        "TRUNCATE jobs CASCADE",
        "UPDATE alembic_version SET version_num = '0001'",
    ],
)
def test_the_services_role_cannot_change_the_trail_or_the_schema(as_role: dict[str, Database], statement: str) -> None:
    refused(as_role[SERVICE], statement)


def test_the_autoscaler_s_role_reads_jobs_and_workers_alone(as_role: dict[str, Database]) -> None:
    autoscaler = as_role[AUTOSCALER]
    for table in Base.metadata.tables:
        if table in ("jobs", "workers"):
            with autoscaler.session() as session:
                session.execute(text(f"SELECT count(*) FROM {table}"))
            refused(autoscaler, f"DELETE FROM {table}")
        else:
            refused(autoscaler, f"SELECT * FROM {table}")


def test_the_services_role_may_look_whether_the_tables_are_up_to_date_and_is_told_who_must_migrate(
    as_role: dict[str, Database], database_url: str
) -> None:
    url = as_role[SERVICE].engine.url.render_as_string(hide_password=False)
    upgrade(url)  # as every command of the operator does
    downgrade(database_url, "0014")
    with pytest.raises(UserError, match="run `darkroom migrate` with the account that owns them"):
        upgrade(url)


def test_a_role_is_created_with_a_password_and_then_only_its_rights_are_renewed(
    as_role: dict[str, Database], database: Database
) -> None:
    def known() -> list[tuple[str, str]]:
        query = "SELECT rolname, rolpassword FROM pg_authid WHERE rolname LIKE 'darkroom_%' ORDER BY 1"
        with database.session() as session:
            return [(row[0], row[1]) for row in session.execute(text(query))]

    before = known()
    assert [name for name, _ in before] == [AUTOSCALER, SERVICE]
    assert all(password.startswith("SCRAM-SHA-256$") for _, password in before)
    with database.session() as session:
        session.execute(text("CREATE TABLE of_a_later_migration (a int)"))
    url = database.engine.url.render_as_string(hide_password=False)
    refused(as_role[SERVICE], "SELECT * FROM of_a_later_migration")
    grant_roles(url, {})
    with as_role[SERVICE].session() as session:
        session.execute(text("SELECT * FROM of_a_later_migration"))
    refused(as_role[AUTOSCALER], "SELECT * FROM of_a_later_migration")
    assert known() == before
