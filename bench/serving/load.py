"""The load: requests arrive at times that do not depend on the answers (open loop), mixed and seeded."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from bench.scheduling import SIZES, arrivals
from bench.serving.contenders import Contender

OVER_SECONDS = 600.0
"""A client gives up after this time."""
NO_ANSWER = 0
"""Status of a request that got no answer."""


Answered = tuple[str, int, float, float | None]
"""A request: its kind, its status, the seconds to its answer, and Retry-After. The seconds begin at its planned
arrival, so that a late client does not flatter a server."""


@dataclass(frozen=True)
class Load:
    """The measurement of a load. seconds: from its beginning to the last answer."""

    answered: Sequence[Answered]
    seconds: float


def send_load(client: httpx.Client, contender: Contender, rate: float, seconds: float, seed: int) -> Load:
    """Send requests for `seconds`, `rate` a second in the mean, and wait for all answers."""
    return asyncio.run(_send_load(str(client.base_url), contender, rate, seconds, seed))


async def _send_load(url: str, contender: Contender, rate: float, seconds: float, seed: int) -> Load:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=url, timeout=OVER_SECONDS, limits=limits, trust_env=False) as client:
        began = time.perf_counter()

        async def send(number: int, arrival: float, kind: str) -> Answered:
            await asyncio.sleep(began + arrival - time.perf_counter())
            try:
                answer = await client.post("/generate", json=contender.body(*SIZES[kind], number))
                status, told = answer.status_code, answer.headers.get("Retry-After")
            except httpx.HTTPError:
                status, told = NO_ANSWER, None
            seconds = round(time.perf_counter() - began - arrival, 4)
            return kind, status, seconds, None if told is None else float(told)

        planned = arrivals(rate, seconds, seed)
        answered = await asyncio.gather(*(send(number, *one) for number, one in enumerate(planned)))
        return Load(answered, round(time.perf_counter() - began, 2))
