"""Verifies tokens against the store, with a cache of a few seconds."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from darkroom.app.access.stale_if_error_cache import SourceAway, StaleIfErrorCache
from darkroom.app.access.token import matches, prefix_of, token_digest
from darkroom.store.database import Database
from darkroom.store.key_repository import KeyLimits, find_key, keys_exist, keys_existed, limits_of, note_use
from darkroom.store.tables import Scope

STALE_SECONDS = 300.0
"""A verified key stays valid this long while the database cannot be reached."""


@dataclass(frozen=True, slots=True)
class VerifiedKey:
    """A valid key."""

    id: int
    name: str
    scopes: frozenset[Scope]
    limits: KeyLimits
    expires_at: datetime | None
    group: str | None = None


def _now() -> datetime:
    return datetime.now(UTC)


class Verifier:
    """Verifies tokens against the store.

    Refuses a revoked key after at most `fresh_seconds` and one look-up, or after STALE_SECONDS if the database cannot
    be reached. open_after_keys: revoked keys do not keep the service closed.
    clock: monotonic seconds; now: the time of day, for expiry.
    """

    def __init__(
        self,
        database: Database,
        fresh_seconds: float,
        *,
        open_after_keys: bool = False,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = _now,
    ) -> None:
        self._database = database
        self._closing_keys = keys_exist if open_after_keys else keys_existed
        self._now = now
        # the cache's key has the digest, so that no token stays in memory
        self._keys: StaleIfErrorCache[tuple[str, bytes], VerifiedKey | None] = StaleIfErrorCache(
            self._find, fresh_seconds=fresh_seconds, stale_seconds=STALE_SECONDS, clock=clock
        )
        self._any: StaleIfErrorCache[None, bool] = StaleIfErrorCache(
            self._look_for_keys, fresh_seconds=fresh_seconds, stale_seconds=STALE_SECONDS, clock=clock
        )

    async def verify(self, token: str) -> VerifiedKey | None:
        """Return the token's key; None if it is unknown, revoked or expired. Raises SourceAway."""
        prefix = prefix_of(token)
        if prefix is None:
            return None
        key = await self._keys.get((prefix, token_digest(token)))
        if key is not None and key.expires_at is not None and key.expires_at <= self._now():
            return None
        return key

    def remembers(self, token: str) -> bool:
        """Return true if the token was valid when it was last looked up. It may be invalid now; verify it."""
        prefix = prefix_of(token)
        return prefix is not None and self._keys.last((prefix, token_digest(token))) is not None

    async def closed_by_keys(self) -> bool | None:
        """Return whether every request needs a key, because keys were created; None if the database is away."""
        try:
            return await self._any.get(None)
        except SourceAway:
            return None

    def forget(self) -> None:
        """Look every key up again before it is valid, so that this process applies its own change of a key at once."""
        self._keys.forget()
        self._any.forget()

    def close(self) -> None:
        """End the threads."""
        self._keys.close()
        self._any.close()

    def _find(self, wanted: tuple[str, bytes]) -> VerifiedKey | None:
        prefix, digest = wanted
        with self._database.session() as session:
            row = find_key(session, prefix)
            if row is None or not matches(digest, row.digest) or row.revoked_at is not None:
                return None
            note_use(session, row.id)
            scopes = frozenset(row.scopes)
            return VerifiedKey(row.id, row.name, scopes, limits_of(row), row.expires_at, row.group_name)

    def _look_for_keys(self, _: None) -> bool:
        with self._database.reading() as session:
            return self._closing_keys(session)
