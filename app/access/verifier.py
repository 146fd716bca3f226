"""Who holds a token, by the store's word of a few seconds ago."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from darkroom.app.access.revalidated import Revalidated, SourceAway
from darkroom.app.access.token import matches, prefix_of, token_digest
from darkroom.store.database import Database
from darkroom.store.key_repository import KeyLimits, find_key, keys_exist, note_use
from darkroom.store.tables import Scope

STALE_SECONDS = 300.0
"""So long a key that was verified is good for while the database is away."""


@dataclass(frozen=True, slots=True)
class VerifiedKey:
    """A key that is good."""

    id: int
    name: str
    scopes: frozenset[Scope]
    limits: KeyLimits
    expires_at: datetime | None


def _now() -> datetime:
    return datetime.now(UTC)


class Verifier:
    """Verifies tokens against the store. A revoked key is refused after `fresh_seconds` (and one look-up) at the
    latest; where the database is away meanwhile, after STALE_SECONDS.

    clock: seconds that never go back; now: the time of day, for expiry.
    """

    def __init__(
        self,
        database: Database,
        fresh_seconds: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = _now,
    ) -> None:
        self._database = database
        self._now = now
        # by the digest, so that no token stays in memory
        self._keys: Revalidated[tuple[str, bytes], VerifiedKey | None] = Revalidated(
            self._find, fresh_seconds=fresh_seconds, stale_seconds=STALE_SECONDS, clock=clock
        )
        self._any: Revalidated[None, bool] = Revalidated(
            self._exist, fresh_seconds=fresh_seconds, stale_seconds=STALE_SECONDS, clock=clock
        )

    async def verify(self, token: str) -> VerifiedKey | None:
        """The token's key; None when there is none, or it was revoked, or has expired. Raises SourceAway."""
        prefix = prefix_of(token)
        if prefix is None:
            return None
        key = await self._keys.get((prefix, token_digest(token)))
        if key is not None and key.expires_at is not None and key.expires_at <= self._now():
            return None
        return key

    def remembers(self, token: str) -> bool:
        """Whether the token was good when it was looked up last; to be verified all the same."""
        prefix = prefix_of(token)
        return prefix is not None and self._keys.last((prefix, token_digest(token))) is not None

    async def keys_exist(self) -> bool | None:
        """Whether there are keys that were not revoked; None: the database is away, and it is not known."""
        try:
            return await self._any.get(None)
        except SourceAway:
            return None

    def forget(self) -> None:
        """After a change that this process made: it counts here at once."""
        self._keys.forget()
        self._any.forget()

    def close(self) -> None:
        """Let its threads end."""
        self._keys.close()
        self._any.close()

    def _find(self, wanted: tuple[str, bytes]) -> VerifiedKey | None:
        prefix, digest = wanted
        with self._database.session() as session:
            row = find_key(session, prefix)
            if row is None or not matches(digest, row.digest) or row.revoked_at is not None:
                return None
            note_use(session, row.id)
            limits = KeyLimits(row.requests_per_minute, row.images_per_day, row.unfinished_jobs)
            return VerifiedKey(row.id, row.name, frozenset(row.scopes), limits, row.expires_at)

    def _exist(self, _: None) -> bool:
        with self._database.session() as session:
            return keys_exist(session)
