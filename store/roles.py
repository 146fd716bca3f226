"""Roles of the database with fewer rights than the owner of its tables, for a database that others can reach."""

from collections.abc import Mapping

import psycopg
from psycopg import sql

from darkroom.store.database import ADVISORY_LOCK, UNPREPARED, parse_url

SERVICE = "darkroom_service"
"""The role of the API, the workers and the reconciler. The trigger of the audit trail binds it, and it cannot disable
the trigger or empty the table."""

AUTOSCALER = "darkroom_autoscaler"
"""The role of what counts the waiting jobs."""

_RESET = ("REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {role}", "GRANT USAGE ON SCHEMA public TO {role}")
_RIGHTS: Mapping[str, tuple[str, ...]] = {
    SERVICE: (
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}",
        "REVOKE UPDATE, DELETE ON audit_events FROM {role}",
        "REVOKE INSERT, UPDATE, DELETE ON alembic_version FROM {role}",
    ),
    AUTOSCALER: ("GRANT SELECT ON jobs, workers TO {role}",),
}


def grant_roles(url: str, passwords: Mapping[str, str]) -> None:
    """Give each role that exists its rights, and no other ones. Call it after each migration.

    passwords: by role; a role that does not exist is created. The account of the URL must own the tables and, with
    passwords, may create roles. Raises psycopg.Error.
    """
    conninfo = parse_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(conninfo, **UNPREPARED) as connection:  # one transaction
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [ADVISORY_LOCK])  # PostgreSQL refuses two at once
        for role, password in passwords.items():
            _set_password(connection, role, password)
        connection.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        for role, statements in _RIGHTS.items():
            if _exists(connection, role):
                for statement in (*_RESET, *statements):
                    connection.execute(sql.SQL(statement).format(role=sql.Identifier(role)))


def _exists(connection: psycopg.Connection, role: str) -> bool:
    return connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [role]).fetchone() is not None


def _set_password(connection: psycopg.Connection, role: str, password: str) -> None:
    """Create the role if it does not exist. The server gets the password's digest only, which its log may show."""
    name = sql.Identifier(role)
    if not _exists(connection, role):
        rights = sql.SQL("LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS")
        connection.execute(sql.SQL("CREATE ROLE {} {}").format(name, rights))
    digest = connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
    connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(name, sql.Literal(digest)))
