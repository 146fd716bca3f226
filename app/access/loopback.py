"""Whether a request comes from this machine by its own doing, and not through a proxy or a page of somebody else."""

from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

from darkroom.app.settings import is_loopback

_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")


def is_local(scope: Scope) -> bool:
    """Whether both ends of the connection and the name that it was made to are this machine's loopback.

    The name, because a page can give its own name the address 127.0.0.1 (DNS rebinding). A proxy on this machine that
    says nothing of itself cannot be told from a local program: DARKROOM_REQUIRE_KEYS is for that.
    """
    headers = Headers(scope=scope)
    ends = (scope.get("client"), scope.get("server"))
    if any(end is None or not is_loopback(end[0]) for end in ends):
        return False
    if any(name in headers for name in _FORWARDED):
        return False
    name = _hostname(f"//{headers.get('host', '')}")
    return name is not None and is_loopback(name)


def is_cross_site(scope: Scope, allowed_origins: Collection[str]) -> bool:
    """Whether a browser sends this for a page of another origin, which must not use what is open to this machine."""
    headers = Headers(scope=scope)
    origin = headers.get("origin")
    if origin is not None:
        return origin not in allowed_origins and origin != f"{scope['scheme']}://{headers.get('host', '')}"
    return headers.get("sec-fetch-site", "none") not in ("none", "same-origin")


def _hostname(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
