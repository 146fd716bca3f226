"""Laws of the gate's count of bad tokens, without a database: the verifier's look-ups are a dictionary."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from darkroom.app.access.gate import Gate
from darkroom.app.access.limits import Limits
from darkroom.app.access.token import new_token
from darkroom.app.access.verifier import VerifiedKey, Verifier
from darkroom.app.http.problems import Problem
from darkroom.app.settings import Settings
from darkroom.store.database import Database, DatabaseAway
from darkroom.store.key_repository import KeyLimits

ATTEMPTS = 60


class Known(Verifier):
    """Verifies against a dictionary from prefix to digest, and counts the look-ups."""

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        super().__init__(Database("postgresql://nobody@/nothing?host=/nonexistent"), 5.0)
        self.keys = keys
        self.looks = 0
        self.away = False

    def _find(self, wanted: tuple[str, bytes]) -> VerifiedKey | None:
        self.looks += 1
        if self.away:
            raise DatabaseAway("the server has gone")
        prefix, digest = wanted
        if self.keys.get(prefix) != digest:
            return None
        return VerifiedKey(1, "lab", frozenset({"train"}), KeyLimits(), datetime(9999, 1, 1, tzinfo=UTC))


def gate(keys: Mapping[str, bytes]) -> tuple[Gate, Known]:
    verifier = Known(keys)
    settings = Settings(failed_keys_per_minute=ATTEMPTS, key_requests_per_minute=10_000)
    attempts = Limits(None, clock=lambda: 1_000_000_000.0)
    return Gate(settings, verifier, Limits(None), attempts, lambda reason: None), verifier


async def asked(gate: Gate, token: str, address: str = "192.0.2.1") -> int:
    """Return the status with which the gate answers."""
    headers = [(b"authorization", f"Bearer {token}".encode())]
    scope: dict[str, Any] = {"type": "http", "method": "GET", "path": "/v1/datasets", "headers": headers}
    try:
        await gate.admit(scope | {"client": (address, 1)})
    except Problem as problem:
        return problem.status
    return 200


async def test_of_many_bad_tokens_at_once_only_the_allowed_ones_are_looked_up() -> None:
    made, verifier = gate({})
    statuses = await asyncio.gather(*(asked(made, new_token().token) for _ in range(1000)))
    assert (statuses.count(401), statuses.count(429)) == (ATTEMPTS, 1000 - ATTEMPTS)
    assert verifier.looks == ATTEMPTS
    await made.close()


async def test_a_flood_shuts_out_no_good_key_of_the_address_not_even_after_a_change_of_keys() -> None:
    good, late = new_token(), new_token()
    made, _ = gate({one.prefix: one.digest for one in (good, late)})
    assert await asked(made, good.token) == 200
    await asyncio.gather(*(asked(made, new_token().token) for _ in range(100)))
    assert await asked(made, good.token) == 200
    made.forget()  # as after each change of a key
    assert await asked(made, good.token) == 200
    assert await asked(made, late.token) == 429
    assert await asked(made, late.token, "192.0.2.2") == 200
    await made.close()


async def test_good_keys_cost_no_attempts() -> None:
    tokens = [new_token() for _ in range(3 * ATTEMPTS)]
    made, _ = gate({one.prefix: one.digest for one in tokens})
    assert {await asked(made, one.token) for one in tokens} == {200}
    await made.close()


async def test_nor_does_a_key_that_cannot_be_looked_up() -> None:
    good = new_token()
    made, verifier = gate({good.prefix: good.digest})
    verifier.away = True
    assert {await asked(made, good.token) for _ in range(3 * ATTEMPTS)} == {503}
    await made.close()


@pytest.mark.parametrize(
    ("addresses", "shared"),
    [
        (("2001:db8:1:2::1", "2001:db8:1:2:ffff::9"), True),
        (("2001:db8:1:2::1", "2001:db8:1:3::1"), False),
        (("fe80::1%eth0", "fe80::2%eth1"), True),
        (("::ffff:192.0.2.1", "192.0.2.1"), True),
        (("::ffff:192.0.2.1", "::ffff:192.0.2.2"), False),
        (("192.0.2.1", "192.0.2.2"), False),
    ],
)
async def test_an_ipv6_network_of_64_bits_counts_as_one_address(addresses: tuple[str, str], shared: bool) -> None:
    made, _ = gate({})
    first, second = addresses
    assert [await asked(made, new_token().token, first) for _ in range(ATTEMPTS + 1)][-2:] == [401, 429]
    assert await asked(made, new_token().token, second) == (429 if shared else 401)
    await made.close()
