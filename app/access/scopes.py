"""The table of scopes that calls need. `app/access/gate.py` enforces it, and OpenAPI shows it.

A resource that is not in the table needs `admin`, so a new resource is closed until somebody adds it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from darkroom.store.tables import Scope

Scopes = tuple[Scope, ...]
"""A call needs one of these, or `admin`."""


@dataclass(frozen=True, slots=True)
class Needs:
    """The scopes that a resource's calls need. reading: for GET and HEAD; changing: for every other method."""

    reading: Scopes
    changing: Scopes


RESOURCES: Mapping[str, Needs] = {
    "generate": Needs(("generate",), ("generate",)),
    "interpolate": Needs(("generate",), ("generate",)),
    "verify": Needs(("generate",), ("generate",)),
    "models": Needs(("generate", "train"), ("admin",)),
    "datasets": Needs(("train",), ("train",)),
    "train-jobs": Needs(("train",), ("train",)),
    "plan": Needs(("train",), ("admin",)),
    "recipes": Needs(("train",), ("admin",)),
    "sweeps": Needs(("train",), ("train",)),
    "generate-jobs": Needs(("train",), ("train",)),
    "storage": Needs(("train",), ("admin",)),
    "keys": Needs(("admin",), ("admin",)),
    "audit-events": Needs(("admin",), ("admin",)),
    "metrics": Needs(("metrics",), ("admin",)),
}
"""By the first part of the path, without /v1."""

WEIGHTS = Needs(("train",), ("admin",))
"""/models/NAME/versions/VERSION/weights: a key that may only draw must not take the model away."""

PROMOTION = RESOURCES["models"].changing
"""Train jobs and sweeps that promote a version need the same scopes as PUT alias, because they move an alias too."""

OPEN = frozenset(("/", "/healthz", "/readyz", "/docs", "/openapi.json"))
OPEN_FOLDERS = ("/docs/", "/console/")
"""Pages and their files, which contain no secrets, and the probes. Nobody needs a key for them."""

OPEN_ON_LOOPBACK = frozenset(("/metrics",))
"""Open to programs on this machine, even when there are keys."""

_REFUSALS = {
    "401": ("the key is missing, unknown, revoked or expired", ("WWW-Authenticate",)),
    "403": ("the key does not have the scope, or a page of another origin sent the request", ()),
    "429": ("the key is at a limit, or the queue is full", ("Retry-After", "RateLimit", "RateLimit-Policy")),
}
_CLOSED = Needs(("admin",), ("admin",))


def needed(method: str, path: str) -> Scopes | None:
    """Return the scopes of which a call needs one; None for a call that is open to everybody."""
    reading = method in ("GET", "HEAD")
    if reading and (path in OPEN or path.startswith(OPEN_FOLDERS)):
        return None
    first, _, rest = path.removeprefix("/").partition("/")
    if first == "v1":
        first = rest.partition("/")[0]
    needs = WEIGHTS if _is_weights(path) else RESOURCES.get(first, _CLOSED)
    return needs.reading if reading else needs.changing


def _is_weights(path: str) -> bool:
    parts = path.removeprefix("/v1").split("/")
    return len(parts) == 6 and (parts[1], parts[3], parts[5]) == ("models", "versions", "weights")


def sufficient(scopes: Scopes) -> Scopes:
    """Return all scopes that allow a call that needs one of `scopes`: these and `admin`."""
    return tuple(dict.fromkeys((*scopes, "admin")))


def describe(document: dict[str, Any]) -> None:
    """Write the scopes and the refusals of each call into an OpenAPI document."""
    components = document.setdefault("components", {})
    components["securitySchemes"] = {
        "key": {
            "type": "http",
            "scheme": "bearer",
            "description": "an API key (`darkroom keys create`); not needed on loopback while the service has no keys",
        }
    }
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            scopes = needed(method.upper(), path)
            if scopes is None:
                operation["security"] = []
                continue
            # one requirement for each scope, because one of them is enough; OpenAPI 3.1 allows scopes outside OAuth too
            operation["security"] = [{"key": [scope]} for scope in sufficient(scopes)]
            for status, (description, headers) in _REFUSALS.items():
                answer = operation["responses"].setdefault(status, {})
                answer["description"] = description
                answer["content"] = {
                    "application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}
                }
                if headers:
                    answer["headers"] = {name: {"schema": {"type": "string"}} for name in headers}
