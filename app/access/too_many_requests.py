"""Every answer 429: a key's limits, its unfinished jobs, too many invalid tokens, a full queue and full memory.

Retry-After says when another try can succeed. A request that alone exceeds a limit gets 403, because no wait helps.
"""

from collections.abc import Iterable, Mapping
from http import HTTPStatus

from darkroom.app.access.limits import Use, rate_limit_headers
from darkroom.app.engine.request import QueueFull, QueueLong, VersionsBusy
from darkroom.app.http.problems import Problem, retry_after
from darkroom.model.words import several
from darkroom.store.key_repository import TooManyJobs

JOBS_RETRY_SECONDS = 60
"""An arbitrary wait: jobs take minutes or more, and the end of the next one is unknown."""

VERSIONS_RETRY_SECONDS = OPEN_RETRY_SECONDS = 5
"""About the time of one of the caller's requests."""


def key_limit(key_name: str, use: Use, cost: int, uses: Iterable[Use]) -> Problem:
    """A request needs `cost` of a window that has less left. uses: of all the key's windows, for the headers."""
    window, headers = use.window, rate_limit_headers(uses)
    allowed = f"the key {key_name!r} may use {use.limit} {window.name} per {window.unit}"
    if cost > use.limit:
        return _never(f"{allowed}, and this request needs {cost}", headers)
    left = f"{use.remaining or 'none'} {'are' if use.remaining > 1 else 'is'} left"
    detail = f"{allowed}: {left}; the next {window.unit} begins in {_span(use.reset_seconds)}"
    return _problem(f"{window.name}-limit", detail, headers | retry_after(use.reset_seconds))


def attempts_limit(use: Use) -> Problem:
    """One address has sent too many invalid tokens."""
    detail = f"this address has sent {use.limit} invalid tokens within a minute; wait until the next minute"
    return _problem("attempts-limit", detail, retry_after(use.reset_seconds))


def jobs_limit(error: TooManyJobs) -> Problem:
    """A key has reached its limit of unfinished jobs."""
    if error.more > error.limit:
        return _never(
            f"this key may have {several(error.limit, 'unfinished job')}, and this request needs {error.more}"
        )
    return _problem("jobs-limit", str(error), retry_after(JOBS_RETRY_SECONDS))


def queue_full(full: QueueFull) -> Problem:
    """The engine's queue has too few free places."""
    detail = (
        f"the queue has no room for {several(full.rows, 'image')}: {full.rows_waiting} of {full.limit} places are taken"
    )
    if full.rows_waiting + full.rows <= full.limit:
        detail = (
            f"{full.rows_waiting} of {full.limit} places are taken, and requests are taken again when a quarter is free"
        )
    return _problem("queue-full", detail, retry_after(full.retry_after_seconds))


def queue_long(full: QueueLong) -> Problem:
    """The engine has too much work."""
    detail = f"accepted images need {full.seconds:.1f} s, and no more are taken above {full.limit_seconds:.1f} s"
    return _problem("queue-full", detail, retry_after(full.retry_after_seconds))


def versions_busy(busy: VersionsBusy) -> Problem:
    """A key already draws with as many model versions as memory has room for."""
    others = several(busy.versions, "other model version")
    detail = f"memory is full, and this key draws with {others}: wait until one is done"
    return _problem("versions-busy", detail, retry_after(VERSIONS_RETRY_SECONDS))


def held_open(kind: str, most: int) -> Problem:
    """A caller holds the most of something open at once. kind: such as `open-streams`."""
    detail = f"this key or address has {most} {kind.replace('-', ' ')}, the most at once: end one, then try again"
    return _problem(f"{kind}-limit", detail, retry_after(OPEN_RETRY_SECONDS))


def _never(detail: str, headers: Mapping[str, str] | None = None) -> Problem:
    text = f"{detail}: it will never fit. Ask for less at once, or ask the operator for a higher limit"
    return Problem(HTTPStatus.FORBIDDEN, "above-limit", text, headers=headers)


def _problem(kind: str, detail: str, headers: dict[str, str]) -> Problem:
    return Problem(HTTPStatus.TOO_MANY_REQUESTS, kind, detail, headers=headers)


def _span(seconds: int) -> str:
    """Format a time span for people, rounded up: 45 s, 12 min, 5 h 3 min."""
    minutes = -(-seconds // 60)
    if seconds < 120:
        return f"{seconds} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
