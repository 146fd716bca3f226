"""Limits how much a key may use in a window of time. Redis counts for all replicas together.

Windows are fixed: a count starts at zero at each full minute or at midnight, UTC. While Redis cannot be reached, each
process counts alone, from zero: a key may then use its limit once more in each process.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from math import ceil

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from darkroom.store.hints import REDIS_AWAY

log = logging.getLogger(__name__)

MOST_COUNTED_HERE = 100_000
"""Most counts of one window's length that a process keeps. Above that it forgets the oldest, to bound its memory."""

REDIS_SECONDS = 1.0

REDIS_CONNECTIONS = 32
"""The most commands at once. Further ones wait for a connection."""

RETRY_SECONDS = 5.0
"""Pause before Redis is tried again after a failure."""

_TAKE = """
local used = tonumber(redis.call('GET', KEYS[1]) or '0')
local cost, limit = tonumber(ARGV[1]), tonumber(ARGV[2])
if cost > 0 and used + cost > limit then return {0, used} end
used = math.max(0, used + cost)
redis.call('SET', KEYS[1], used, 'EX', ARGV[3])
return {1, used}
"""
"""Checks and counts in one step, so that two requests cannot both take the last place. Does not count a refusal."""


@dataclass(frozen=True, slots=True)
class Window:
    """A window of time in which something is counted. name: what is counted. unit: the window's length in words."""

    name: str
    seconds: int
    unit: str


REQUESTS = Window("requests", 60, "minute")
IMAGES = Window("images", 86_400, "day")
NETWORK_ROWS = Window("network-rows", 86_400, "day")
"""The work of drawn images: rows of the network, over all steps."""
ATTEMPTS = Window("attempts", 60, "minute")
"""Invalid tokens from one client address."""


@dataclass(frozen=True, slots=True)
class Use:
    """A key's use of a window.

    allowed: whether the last `take` was within the limit. reset_seconds: time until the next window begins.
    """

    window: Window
    limit: int
    allowed: bool
    remaining: int
    reset_seconds: int


def client_network(address: str) -> str:
    """Return what counts as one client: an IPv4 address, or the /64 network of an IPv6 address."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        return str(parsed.ipv4_mapped or IPv6Address(int(parsed) >> 64 << 64))
    return address


def rate_limit_headers(uses: Iterable[Use]) -> dict[str, str]:
    """Return RateLimit-Policy and RateLimit (draft-ietf-httpapi-ratelimit-headers-10); no headers without uses."""
    known = list(uses)
    if not known:
        return {}
    return {
        "RateLimit-Policy": ", ".join(f'"{use.window.name}";q={use.limit};w={use.window.seconds}' for use in known),
        "RateLimit": ", ".join(f'"{use.window.name}";r={use.remaining};t={use.reset_seconds}' for use in known),
    }


class Limits:
    """Counts uses of windows. redis_url: None for a single process without Redis.

    counted_alone: called for every count that Redis should have made and did not. clock: the time of day in seconds.
    redis_seconds: timeout of each Redis command. Pauses follow the clock `monotonic`, which nobody can set.
    """

    def __init__(
        self,
        redis_url: str | None,
        *,
        counted_alone: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        redis_seconds: float = REDIS_SECONDS,
    ) -> None:
        self._counted_alone = counted_alone
        self._clock = clock
        self._monotonic = monotonic
        self._here: dict[int, dict[str, tuple[int, float]]] = {}  # by the window's seconds, so each is in order of ends
        self._look_again_at = -float("inf")
        self._redis: Redis | None = None
        self._free_connections = asyncio.Semaphore(REDIS_CONNECTIONS)
        if redis_url is not None:
            self._redis = Redis.from_url(
                redis_url,
                socket_timeout=redis_seconds,
                socket_connect_timeout=redis_seconds,
                retry=Retry(NoBackoff(), 0),
            )
            self._take = self._redis.register_script(_TAKE)

    async def take(self, owner: int | str, window: Window, limit: int, cost: int = 1) -> Use:
        """Add `cost` to the use of the window, unless that would exceed `limit`. A negative cost gives use back.

        owner: a key's id, or a client's address.
        """
        now = self._clock()
        number, passed = divmod(now, window.seconds)
        name = f"darkroom:use:{owner}:{window.name}:{int(number)}"
        allowed, used = await self._counted(name, cost, limit, window.seconds)
        return Use(window, limit, allowed, max(0, limit - used), ceil(window.seconds - passed))

    async def close(self) -> None:
        """Close the connections."""
        if self._redis is not None:
            await self._redis.aclose()

    async def _counted(self, name: str, cost: int, limit: int, seconds: int) -> tuple[bool, int]:
        if self._redis is None:
            return self._counted_here(name, cost, limit, seconds)
        async with self._free_connections:
            if self._monotonic() >= self._look_again_at:  # another request may just have found that Redis is away
                try:
                    allowed, used = await self._take(keys=[name], args=[cost, limit, seconds])
                    if self._look_again_at > 0:
                        log.info("Redis can be reached again, and counts the limits of keys")
                    self._look_again_at = -float("inf")
                    return bool(allowed), int(used)
                except REDIS_AWAY as error:
                    if self._look_again_at < 0:
                        log.warning("cannot reach Redis; this process now counts the limits of keys alone: %s", error)
                    self._look_again_at = self._monotonic() + RETRY_SECONDS
        self._counted_alone()
        return self._counted_here(name, cost, limit, seconds)

    def _counted_here(self, name: str, cost: int, limit: int, seconds: int) -> tuple[bool, int]:
        now = self._clock()
        counts = self._here.setdefault(seconds, {})
        while counts and (len(counts) >= MOST_COUNTED_HERE or next(iter(counts.values()))[1] <= now):
            del counts[next(iter(counts))]
        used, ends_at = counts.get(name, (0, now + seconds))
        if cost > 0 and used + cost > limit:
            return False, used
        used = max(0, used + cost)
        counts[name] = (used, ends_at)
        return True, used
