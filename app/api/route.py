"""Which route a request took, for metrics and logs."""

from starlette.types import Scope

PREFIX = "/v1"
UNMATCHED = "unmatched"


def route_of(scope: Scope) -> str:
    """The template of the path that was asked for, so that there are few of them; "unmatched" where there is none.

    A route that answers with and without the prefix is one object, which does not know how it was asked for.
    """
    template = getattr(scope.get("route"), "path", None)
    if template is None:
        return UNMATCHED
    asked = scope["path"].removeprefix(scope.get("root_path", ""))
    prefixed = asked.startswith(f"{PREFIX}/") and not template.startswith(f"{PREFIX}/")
    return f"{PREFIX}{template}" if prefixed else str(template)
