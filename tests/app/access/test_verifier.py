"""Laws of verifying: a token is valid until its key is revoked (within a bound) or expires (at once)."""

from datetime import UTC, datetime, timedelta

import pytest

from darkroom.app.access.new_key import KeyRequest, make_key
from darkroom.app.access.verifier import STALE_SECONDS, Verifier
from darkroom.store.audit_repository import COMMAND_LINE
from darkroom.store.database import Database
from darkroom.store.key_repository import find_key, list_keys, revoke_key
from darkroom.store.tables import ApiKey

FRESH = 5.0


class Clocks:
    def __init__(self) -> None:
        self.seconds = 0.0
        self.now = datetime.now(UTC)


def made(database: Database, **fields: object) -> tuple[ApiKey, str]:
    wanted = KeyRequest.model_validate({"name": "lab", "scopes": ["train", "generate"]} | fields)
    with database.session() as session:
        return make_key(session, COMMAND_LINE, wanted)


def verifier(database: Database, clocks: Clocks, *, open_after_keys: bool = False) -> Verifier:
    return Verifier(
        database, FRESH, open_after_keys=open_after_keys, clock=lambda: clocks.seconds, now=lambda: clocks.now
    )


def revoke(database: Database, key: ApiKey) -> None:
    """Revoke the key in the database, as another process would."""
    with database.session() as session:
        revoke_key(session, COMMAND_LINE, key.id)


async def test_only_the_key_s_own_token_verifies(database: Database) -> None:
    key, token = made(database, images_per_day=7)
    _, other = made(database, name="other")
    verify = verifier(database, Clocks()).verify
    found = await verify(token)
    assert found is not None
    assert (found.id, found.name, found.scopes) == (key.id, "lab", {"train", "generate"})
    assert found.limits.images_per_day == 7
    for wrong in (key.prefix + other[len(key.prefix) :], token[:-1], "", "Bearer", "x" * 10_000, "drk_\x00"):
        assert await verify(wrong) is None
    with database.session() as session:
        row = find_key(session, key.prefix)
        assert row is not None
        assert row.last_used_at is not None
        assert token.encode() not in row.digest


async def test_a_revoked_key_is_refused_once_the_cached_answer_is_old(database: Database) -> None:
    clocks = Clocks()
    key, token = made(database)
    checking = verifier(database, clocks)
    assert await checking.verify(token)
    assert await checking.closed_by_keys() is True
    revoke(database, key)
    clocks.seconds = FRESH
    assert await checking.verify(token) is None


async def test_a_service_that_had_keys_stays_closed_unless_the_operator_opens_it_by_name(database: Database) -> None:
    clocks = Clocks()
    checking, opening = verifier(database, clocks), verifier(database, clocks, open_after_keys=True)
    told = []
    for change in (lambda: None, lambda: made(database), lambda: revoke(database, made(database, name="b")[0])):
        change()
        clocks.seconds += FRESH
        told.append((await checking.closed_by_keys(), await opening.closed_by_keys()))
    with database.session() as session:
        for row in list_keys(session):
            revoke_key(session, COMMAND_LINE, row.id)
    clocks.seconds += FRESH
    told.append((await checking.closed_by_keys(), await opening.closed_by_keys()))
    assert told == [(False, False), (True, True), (True, True), (True, False)]


async def test_a_revocation_in_this_process_works_at_once(database: Database) -> None:
    key, token = made(database)
    checking = verifier(database, Clocks())
    assert await checking.verify(token)
    revoke(database, key)
    checking.forget()
    assert checking.remembers(token)  # so that invalid tokens of its address do not lock a valid key out
    assert await checking.verify(token) is None
    assert not checking.remembers(token)


async def test_a_key_expires_on_the_second_and_still_closes_the_service(database: Database) -> None:
    clocks = Clocks()
    key, token = made(database, expires_in_days=1.0)
    assert key.expires_at is not None
    assert abs(key.expires_at - clocks.now - timedelta(days=1)) < timedelta(minutes=10)
    checking = verifier(database, clocks)
    clocks.now = key.expires_at - timedelta(microseconds=1)
    assert await checking.verify(token)
    clocks.now = key.expires_at
    assert await checking.verify(token) is None
    assert await checking.closed_by_keys() is True


async def test_while_the_database_is_away_known_keys_stay_valid_for_a_while(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    clocks = Clocks()
    _, token = made(database)
    away = Database("postgresql://nobody@/nothing?host=/nonexistent")
    checking = verifier(database, clocks)
    assert await checking.verify(token)
    assert await checking.closed_by_keys() is True
    monkeypatch.setattr(checking, "_database", away)
    clocks.seconds = STALE_SECONDS - 0.001
    assert await checking.verify(token)
    assert await checking.closed_by_keys() is True
    clocks.seconds = STALE_SECONDS + FRESH
    assert await checking.closed_by_keys() is None
