"""A private PostgreSQL, perhaps with PgBouncer before it, and what it counts."""

import os
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from darkroom.app.embedded.postgres import PrivatePostgres
from darkroom.store.migrations import upgrade

LOCK_MILLISECONDS = 20
"""A wait for a lock counts when it takes longer."""

_LOCK_WAIT = re.compile(
    r"still waiting for [^\n]*\n(?:.*DETAIL[^\n]*\n)?.*CONTEXT:  while [^\n]* in relation \"(\w+)\""
)
SETTINGS = {
    "log_lock_waits": "on",
    "deadlock_timeout": str(LOCK_MILLISECONDS),
}
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Reading:
    """The server's counts at one moment. cpu_seconds: of all its processes. lock_waits: by the table of the record."""

    at: float
    transactions: int
    cpu_seconds: float
    wal_bytes: int
    lock_waits: Counter[str]


class Server:
    """A running server with Darkroom's tables."""

    def __init__(self, server: PrivatePostgres) -> None:
        self.url = server.url
        self._log = server.log
        self._process = server.process
        self._connection = psycopg.connect(server.url, autocommit=True)

    def read(self) -> Reading:
        """Read the counts."""
        row = self._connection.execute(
            "SELECT xact_commit + xact_rollback, pg_current_wal_insert_lsn() - '0/0'::pg_lsn FROM pg_stat_database "
            "WHERE datname = current_database()"
        ).fetchone()
        assert row is not None
        waits = Counter(_LOCK_WAIT.findall(self._log.read_text(errors="replace")))
        return Reading(time.monotonic(), int(row[0]), self._cpu_seconds(), int(row[1]), waits)

    def waiting(self) -> Counter[str]:
        """Return what the clients' connections wait for now, besides their clients."""
        rows = self._connection.execute(
            "SELECT wait_event_type || ' ' || wait_event FROM pg_stat_activity WHERE backend_type = 'client backend' "
            "AND state <> 'idle' AND wait_event_type NOT IN ('Client', 'Activity') AND pid <> pg_backend_pid()"
        )
        return Counter(name for (name,) in rows.fetchall())

    def written(self) -> Counter[str]:
        """Return bytes of the write-ahead log, bytes of all writes, and how many checkpoints were not due."""
        row = self._connection.execute(
            "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn, num_requested, (SELECT sum(coalesce(write_bytes, 0) "
            "+ coalesce(extend_bytes, 0)) FROM pg_stat_io) FROM pg_stat_checkpointer"
        ).fetchone()
        assert row is not None
        return Counter(log=int(row[0]), forced=int(row[1]), files=int(row[2]))

    def write_buffers(self) -> None:
        """Let the server write all its buffers now, as it does every few minutes."""
        self._connection.execute("CHECKPOINT")

    def connections(self) -> int:
        """Return how many connections clients hold, besides this one."""
        row = self._connection.execute(
            "SELECT count(*) - 1 FROM pg_stat_activity WHERE backend_type = 'client backend'"
        )
        return int(row.fetchall()[0][0])

    def _cpu_seconds(self) -> float:
        """Return the processor time of the server, of its processes, and of those that have ended."""
        assert self._process is not None
        postmaster, total = self.postmaster(), 0
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                try:
                    parts = (folder / "stat").read_text().rpartition(")")[2].split()
                except OSError:  # it has ended
                    continue
                if int(folder.name) == postmaster:
                    total += sum(int(part) for part in parts[11:15])
                elif int(parts[1]) == postmaster:
                    total += sum(int(part) for part in parts[11:13])
        return total / TICKS

    def postmaster(self) -> int:
        """Return the server's process id."""
        row = self._connection.execute("SELECT split_part(pg_read_file('postmaster.pid'), E'\\n', 1)::int").fetchone()
        assert row is not None
        return int(row[0])


@contextmanager
def server(folder: Path, settings: Mapping[str, str]) -> Iterator[Server]:
    """Run a server with these settings. It writes to the disk as in production."""
    folder.mkdir(mode=0o755)
    running = PrivatePostgres(folder)
    running.start()
    try:
        with psycopg.connect(running.url, autocommit=True) as connection:
            for name, value in settings.items():
                connection.execute(f"ALTER SYSTEM SET {name} = '{value}'".encode())
        running.stop()
        running.start()
        upgrade(running.url)
        yield Server(running)
    finally:
        running.stop()
