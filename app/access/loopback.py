"""Recognises requests from programs on this machine, and those that a proxy or a foreign web page makes from here."""

import re
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

from darkroom.app.settings import is_loopback

_FORWARDED = re.compile(
    r"forwarded|(.*-)?via|x-forward.*|x-original-.*|x-proxy.*|proxy-.*|x-real-.*|front-end-https|x-(url-)?scheme|x-host"
    r"|(.*-)?(client|real|remote|connecting|originating|peer|source)-?(ip|addr|address|cert|port|verify)"
    r"|x-cloud-trace-context|x-request-start|x-queue-start|x-(ssl|tls)-.*|x-cache.*|x-varnish|x-edge-.*"
    r"|(x-)?(akamai|amzn|amz|appengine|arr|azure|cdn|cf|cloudfront|envoy|fastly|fd|fly|goog|haproxy|imperva|incap|nf|ngrok"
    r"|nginx|render|sucuri|tailscale|traefik|vercel|waf)(-.*)?"
)
"""Headers that reverse proxies, load balancers and content networks add: the general ones, and those of vendors."""


def is_local(scope: Scope) -> bool:
    """Return true if both ends of the connection and the Host header are loopback, and no proxy header is present.

    The Host header is checked because a web page's own name can point at 127.0.0.1 (DNS rebinding). A local proxy that
    adds no header looks like a local program; set DARKROOM_REQUIRE_KEYS behind such a proxy.
    """
    headers = Headers(scope=scope)
    ends = (scope.get("client"), scope.get("server"))
    if any(end is None or not is_loopback(end[0]) for end in ends):
        return False
    if any(_FORWARDED.fullmatch(name) for name in headers):
        return False
    name = _hostname(f"//{headers.get('host', '')}")
    return name is not None and is_loopback(name)


def is_cross_site(scope: Scope, allowed_origins: Collection[str]) -> bool:
    """Return true if a browser sends this for a page of another origin. Such a page must not use the local access."""
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
