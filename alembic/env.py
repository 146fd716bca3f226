"""Runs migrations on the connection that store.migrations passes, or on DATABASE_URL."""

from alembic import context
from sqlalchemy import Connection

from darkroom.store.database import connecting_once, parse_url
from darkroom.store.operator_settings import OperatorSettings
from darkroom.store.tables import Base


def _url() -> str:
    url = OperatorSettings().database_url
    if not url:
        raise SystemExit("alembic: DATABASE_URL is not set; set it to the address of PostgreSQL")
    return url


def _migrate(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=Base.metadata, compare_server_default=True)
    with context.begin_transaction():
        context.run_migrations()


given: Connection | None = context.config.attributes.get("connection")
if context.is_offline_mode():
    context.configure(url=parse_url(_url()), target_metadata=Base.metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()
elif given is not None:
    _migrate(given)
else:
    with connecting_once(_url()).connect() as opened:
        _migrate(opened)
