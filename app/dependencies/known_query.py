"""Refuses query parameters that the route does not have. A mistyped one would otherwise silently do nothing."""

from fastapi import Request
from fastapi.dependencies.utils import get_flat_params
from fastapi.params import Query
from fastapi.routing import APIRoute

from darkroom.app.http.problems import invalid


async def require_known_query(request: Request) -> None:
    """Raise Problem (422) that names the query parameters that the route does not have, and those that it has."""
    if not request.query_params:
        return
    known = _known(request.scope["route"])
    unknown = sorted(set(request.query_params) - known)
    if unknown:
        choice = f"this address has: {', '.join(sorted(known))}" if known else "this address has none"
        raise invalid([(name, f"is no query parameter; {choice}") for name in unknown])


def _known(route: APIRoute) -> frozenset[str]:
    """Return the names of a route's query parameters, with those that the route reads itself and only describes."""
    described = (route.openapi_extra or {}).get("parameters", ())
    own = {one["name"] for one in described if one["in"] == "query"}
    params = get_flat_params(route.dependant)
    return frozenset(own | {one.alias for one in params if isinstance(one.field_info, Query)})
