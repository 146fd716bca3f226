"""Parts of the commands that ask a running service. Imports the HTTP client only when a command asks."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from darkroom.model.config import FIT, GROUND, SKIP_DAMAGED, Fit

Url = Annotated[
    str | None,
    typer.Option(
        help="URL of the API; default: DARKROOM_URL, else the service that runs on .darkroom, else port 8000 here"
    ),
]
SkipDamaged = Annotated[bool, typer.Option("--skip-damaged", help=SKIP_DAMAGED)]
FitOption = Annotated[Fit, typer.Option("--fit", help=FIT.replace("`ground`", "the ground"))]
Ground = Annotated[str, typer.Option(help=GROUND)]
Force = Annotated[bool, typer.Option("--force", help="delete it even if ended jobs or aliases name it")]


def ask_service(url: str | None, method: str, path: str, **options: Any) -> Any:
    """Return the JSON of the service's answer, None for an empty one. options: httpx's."""
    from darkroom.app.cli.service_client import ask, connect  # takes long to import

    with connect(url) as client:
        return ask(client, method, path, **options)


def all_by_name(url: str | None, resource: str) -> Iterator[Mapping[str, Any]]:
    """Yield every member of a list that the service pages by name. resource: such as "models"."""
    page: dict[str, Any] = {"limit": 200}
    while True:
        answer = ask_service(url, "GET", f"/v1/{resource}", params=page)
        yield from answer[resource]
        if answer["next_after"] is None:
            return
        page["after"] = answer["next_after"]
