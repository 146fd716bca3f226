"""Engine and sessions: how the rest of the code reaches PostgreSQL."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import psycopg
from psycopg import errors
from sqlalchemy import URL, Engine, QueuePool, create_engine, make_url, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session, sessionmaker


class DatabaseAway(RuntimeError):
    """The database cannot be used now, but the same transaction may succeed later.

    Raised when no server answers, it starts or shuts down, it only reads (a failover), or no connection is free.
    """


class DatabaseBusy(DatabaseAway):
    """The server answers, but gave a statement up: it took longer than `statement_timeout`, or a lock did not come."""


class DatabaseFull(DatabaseAway):
    """The database's disk is full."""


DATABASE_ERRORS = (DatabaseAway, SQLAlchemyError)
"""All that a transaction raises because of the database: also when it lacks tables that nobody has migrated yet."""

_GIVEN_UP = (errors.QueryCanceled, errors.LockNotAvailable, errors.DeadlockDetected, errors.SerializationFailure)
_AWAY = (psycopg.OperationalError, psycopg.InterfaceError, errors.ReadOnlySqlTransaction)

ADVISORY_LOCK = 0x6461726B726F6F6D
"""The key of the lock of those who change the schema or its rights: the bytes of "darkroom" as one number."""

_NOTICE_A_LOST_SERVER = {
    "connect_timeout": "10",
    "tcp_user_timeout": "10000",  # milliseconds
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "2",
}
"""A server without power or network sends nothing. Without these options a statement would wait about 15 minutes."""


def parse_url(url: str) -> URL:
    """Parse a DATABASE_URL for SQLAlchemy: `postgres://` and `postgresql://` get the psycopg 3 driver.

    Raises ValueError when the URL cannot be parsed or names another database or driver.
    """
    try:
        parsed = make_url(url)
    except Exception as error:
        # do not repeat the URL, which may hold a password
        raise ValueError("DATABASE_URL is not a valid URL: write postgresql://USER@HOST/DATABASE") from error
    if parsed.drivername not in ("postgres", "postgresql", "postgresql+psycopg"):
        raise ValueError(f"DATABASE_URL must begin with postgresql://, not {parsed.drivername}://")
    return parsed.set(drivername="postgresql+psycopg")


@dataclass(frozen=True, slots=True)
class PoolUse:
    """Connections of a pool at one moment. limit: how many may be open; a caller that needs one more waits."""

    in_use: int
    idle: int
    limit: int


class Database:
    """A pool of connections to one PostgreSQL database. Safe to share between threads.

    pool_connections: connections kept open; as many again are opened under load.
    artifacts_url: folder or bucket for new artifact bytes (`store.places`); None keeps them in the database.
    """

    def __init__(self, url: str, *, pool_connections: int = 5, artifacts_url: str | None = None) -> None:
        parsed = parse_url(url)
        defaults = {"application_name": "darkroom", **_NOTICE_A_LOST_SERVER}
        self.engine: Engine = create_engine(
            parsed,
            pool_size=pool_connections,
            max_overflow=pool_connections,
            pool_pre_ping=True,  # after a restart of the server, reconnect instead of failing a request
            connect_args={name: value for name, value in defaults.items() if name not in parsed.query},
            # refuse NaN here with a ValueError, before the server refuses it in the middle of a transaction
            json_serializer=partial(json.dumps, allow_nan=False),
        )
        self._connection_limit = 2 * pool_connections
        self._sessions = sessionmaker(self.engine, expire_on_commit=False, info={"artifacts_url": artifacts_url})

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Run one transaction: committed when the block ends, rolled back when it raises.

        Records stay readable after the commit. Raises DatabaseAway, and SQLAlchemy's other errors.
        """
        try:
            with self._sessions.begin() as session:
                yield session
        except (DBAPIError, PoolTimeout) as error:
            away = _away(error)
            if away is None:
                raise
            raise away(str(error).splitlines()[0]) from error

    def answers(self) -> bool:
        """True when a connection opens and a statement is answered. Waits up to the limits of both."""
        try:
            with self.engine.connect() as connection:
                connection.execute(text("SELECT 1"))
        except SQLAlchemyError:
            return False
        return True

    def pool_use(self) -> PoolUse:
        """The use of the pool, without asking the server."""
        pool = self.engine.pool
        assert isinstance(pool, QueuePool)
        return PoolUse(in_use=pool.checkedout(), idle=pool.checkedin(), limit=self._connection_limit)

    def dispose(self) -> None:
        """Close every idle connection."""
        self.engine.dispose()


def _away(error: DBAPIError | PoolTimeout) -> type[DatabaseAway] | None:
    """The kind of absence that the error means; None when the same transaction would fail again."""
    cause = error.orig if isinstance(error, DBAPIError) else None
    if isinstance(cause, errors.DiskFull):
        return DatabaseFull
    if isinstance(cause, _GIVEN_UP):
        return DatabaseBusy
    lost = isinstance(error, PoolTimeout) or error.connection_invalidated or isinstance(cause, _AWAY)
    return DatabaseAway if lost else None
