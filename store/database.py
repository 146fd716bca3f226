"""Engine and sessions: how the rest of the code reaches PostgreSQL."""

import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import psycopg
from psycopg import errors
from sqlalchemy import URL, Engine, NullPool, QueuePool, create_engine, make_url, text
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


UNPREPARED: Mapping[str, Any] = {"prepare_threshold": None}
"""Arguments of a connection without prepared statements. A pooler in transaction mode gives the next transaction to
another server process, which does not know them, and leaves them behind for the next client."""


def connecting_once(url: str) -> Engine:
    """An engine that opens a connection for each use, through a pooler too. Raises the errors of `parse_url`."""
    return create_engine(parse_url(url), poolclass=NullPool, connect_args=dict(UNPREPARED))


@dataclass(frozen=True, slots=True)
class Pool:
    """The size of a pool of connections. kept: stay open. extra: opened while all kept ones are in use.

    wait_seconds: the longest wait for a free one. ping: try each connection before its use, so that a restart of the
    server fails no transaction. A process that tries again anyway saves this round trip.
    """

    kept: int = 5
    extra: int = 5
    wait_seconds: float = 30.0
    ping: bool = True

    @property
    def limit(self) -> int:
        """The most connections at once."""
        return self.kept + self.extra


DEFAULT_POOL = Pool()


@dataclass(frozen=True, slots=True)
class PoolUse:
    """Connections of a pool at one moment. limit: how many may be open; a caller that needs one more waits."""

    in_use: int
    idle: int
    limit: int


class Database:
    """A pool of connections to one PostgreSQL database. Safe to share between threads.

    name: of the process, for PostgreSQL (`application_name`). artifacts_url: folder or bucket for new artifact bytes
    (`store.places`); None keeps them in the database. prepared: let the server keep the plans of repeated statements,
    which halves its work; a pooler in transaction mode does not allow it.
    """

    def __init__(
        self,
        url: str,
        pool: Pool = DEFAULT_POOL,
        *,
        name: str = "darkroom",
        artifacts_url: str | None = None,
        prepared: bool = True,
    ) -> None:
        parsed = parse_url(url)
        defaults = {"application_name": name, **_NOTICE_A_LOST_SERVER}
        given: dict[str, Any] = {key: value for key, value in defaults.items() if key not in parsed.query}
        self.engine: Engine = create_engine(
            parsed,
            pool_size=pool.kept,
            max_overflow=pool.extra,
            pool_timeout=pool.wait_seconds,
            pool_pre_ping=pool.ping,
            connect_args=given if prepared else {**given, **UNPREPARED},
            # refuse NaN here with a ValueError, before the server refuses it in the middle of a transaction
            json_serializer=partial(json.dumps, allow_nan=False),
        )
        self._connection_limit = pool.limit
        self._reads = self.engine.execution_options(isolation_level="AUTOCOMMIT")
        self._sessions = sessionmaker(expire_on_commit=False, info={"artifacts_url": artifacts_url})

    def session(self) -> AbstractContextManager[Session]:
        """Run one transaction: committed when the block ends, rolled back when it raises.

        Records stay readable after the commit. Raises DatabaseAway, and SQLAlchemy's other errors.
        """
        return self._on(self.engine)

    def reading(self) -> AbstractContextManager[Session]:
        """Run statements that only read, each in a transaction of its own. It saves the round trips of BEGIN and
        COMMIT, which cost more than a short query. Errors as for `session`."""
        return self._on(self._reads)

    @contextmanager
    def _on(self, engine: Engine) -> Iterator[Session]:
        try:
            with self._sessions(bind=engine) as session, session.begin():
                yield session
        except (DBAPIError, PoolTimeout) as error:
            away = _away(error)
            if away is None:
                raise
            raise away(str(error).splitlines()[0]) from error

    def answers(self) -> bool:
        """True when a connection opens and a statement is answered. Waits up to the limits of both."""
        try:
            with self._reads.connect() as connection:
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
