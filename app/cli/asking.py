"""Parts of the commands that ask a running service. Imports the HTTP client only when a command asks."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer
from rich.text import Text

from darkroom.app.cli.terminal import open_console, plain_table, say
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
Force = Annotated[bool, typer.Option("--force", help="delete it even if something that can do without it names it")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="delete nothing, and print what hangs on it")]
Off = Annotated[bool, typer.Option("--off", help="take the mark off")]


def ask_service(url: str | None, method: str, path: str, **options: Any) -> Any:
    """Return the JSON of the service's answer, None for an empty one. options: httpx's."""
    from darkroom.app.cli.service_client import ask, connect  # takes long to import

    with connect(url) as client:
        return ask(client, method, path, **options)


def delete(url: str | None, address: str, what: str, *, force: bool = False, dry_run: bool) -> None:
    """Delete what has this address, or print what hangs on it. what: its name in the sentence about it."""
    params = {name: True for name, wanted in (("force", force), ("dry_run", dry_run)) if wanted}
    tried = ask_service(url, "DELETE", address, params=params)
    if not dry_run:
        say(open_console(stderr=True), f"{what} is deleted")
        return
    rows = [
        (one["resource"].removeprefix("/v1/"), one["reason"], "prevents it" if one["blocks"] else "with --force")
        for one in tried["dependents"]
    ]
    table = plain_table(("what", "why", "deletion"), rows)
    open_console().print(table if rows else Text(f"{what} can be deleted: nothing hangs on it."))


def mark(url: str | None, address: str, what: str, *, off: bool) -> None:
    """Mark what has this address to be kept, or take the mark off."""
    from darkroom.app.cli.service_client import json_body

    ask_service(url, "PATCH", address, **json_body({"keep": not off}))
    say(open_console(stderr=True), f"{what} is {'no longer marked' if off else 'marked to be kept'}")


def all_by_name(url: str | None, resource: str) -> Iterator[Mapping[str, Any]]:
    """Yield every member of a list that the service pages by name. resource: such as "models"."""
    page: dict[str, Any] = {"limit": 200}
    while True:
        answer = ask_service(url, "GET", f"/v1/{resource}", params=page)
        yield from answer[resource]
        if answer["next_after"] is None:
            return
        page["after"] = answer["next_after"]
