"""Which call needs which scope: the one table, enforced by `app/access/gate.py` and shown in OpenAPI.

What stands in no row needs `admin`, so a new resource is closed until it is given one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from darkroom.store.tables import Scope

Scopes = tuple[Scope, ...]
"""Any of these will do, and `admin` always does."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What a resource's calls need. reading: GET and HEAD; changing: every other method."""

    reading: Scopes
    changing: Scopes


RESOURCES: Mapping[str, Needs] = {
    "generate": Needs(("generate",), ("generate",)),
    "interpolate": Needs(("generate",), ("generate",)),
    "models": Needs(("generate", "train"), ("admin",)),
    "datasets": Needs(("train",), ("train",)),
    "train-jobs": Needs(("train",), ("train",)),
    "recipes": Needs(("train",), ("admin",)),
    "sweeps": Needs(("train",), ("train",)),
    "generate-jobs": Needs(("train",), ("train",)),
    "keys": Needs(("admin",), ("admin",)),
    "audit-events": Needs(("admin",), ("admin",)),
    "metrics": Needs(("metrics",), ("admin",)),
}
"""By the first part of the path, behind /v1 where that stands before it."""

PROMOTION = RESOURCES["models"].changing
"""What moves an alias in another way needs the same: a train job or a sweep that promotes, however it is queued."""

OPEN = frozenset(("/", "/healthz", "/readyz", "/docs", "/openapi.json"))
OPEN_FOLDERS = ("/docs/", "/console/")
"""Pages and their files, which hold no secrets, and the probes."""

OPEN_ON_LOOPBACK = frozenset(("/metrics",))
"""Open to who reads from this machine, even when there are keys."""

_REFUSALS = {
    "401": ("no key, or none that is good", ("WWW-Authenticate",)),
    "403": ("the key has not the scope, or a page of another origin asks", ()),
    "429": ("a limit of the key is used up, or the queue is full", ("Retry-After", "RateLimit", "RateLimit-Policy")),
}
_CLOSED = Needs(("admin",), ("admin",))


def needed(method: str, path: str) -> Scopes | None:
    """The scopes of which a call needs one; None: it is open."""
    reading = method in ("GET", "HEAD")
    if reading and (path in OPEN or path.startswith(OPEN_FOLDERS)):
        return None
    first, _, rest = path.removeprefix("/").partition("/")
    if first == "v1":
        first = rest.partition("/")[0]
    needs = RESOURCES.get(first, _CLOSED)
    return needs.reading if reading else needs.changing


def sufficient(scopes: Scopes) -> Scopes:
    """The scopes of which one is enough for a call that needs one of these."""
    return tuple(dict.fromkeys((*scopes, "admin")))


def describe(document: dict[str, Any]) -> None:
    """Write into an OpenAPI document what each call needs, and how it is refused."""
    components = document.setdefault("components", {})
    components["securitySchemes"] = {
        "key": {
            "type": "http",
            "scheme": "bearer",
            "description": "an API key (`darkroom keys create`); not asked for on loopback while there are no keys",
        }
    }
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            scopes = needed(method.upper(), path)
            if scopes is None:
                operation["security"] = []
                continue
            # one requirement a scope: any of them will do; OpenAPI 3.1 lets roles stand where OAuth has its scopes
            operation["security"] = [{"key": [scope]} for scope in sufficient(scopes)]
            for status, (description, headers) in _REFUSALS.items():
                answer = operation["responses"].setdefault(status, {})
                answer["description"] = description
                answer["content"] = {
                    "application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}
                }
                if headers:
                    answer["headers"] = {name: {"schema": {"type": "string"}} for name in headers}
