"""`darkroom storage`: how much space data sets, models and jobs take on a running service."""

from typing import Annotated

import typer

from darkroom.app.cli.asking import Url, ask_service
from darkroom.app.cli.terminal import open_console, plain_table, say, size


def storage(limit: Annotated[int, typer.Option(min=1, max=1000)] = 20, url: Url = None) -> None:
    """Print how much space data sets, models and jobs take, the largest first."""
    use, console = ask_service(url, "GET", "/v1/storage", params={"limit": limit}), open_console()
    rows = [(size(one["bytes"]), one["kind"], one["name"]) for one in use["largest"]]
    if rows:
        console.print(plain_table(("size", "kind", "name"), rows, right=("size",)))
    kinds = ", ".join(f"{kind}s {size(count)}" for kind, count in use["bytes"].items())
    say(console, f"Together: {kinds}")
    say(console, f"Artifacts: {size(use['artifact_bytes'])}, of which {size(use['unused_bytes'])} will be deleted soon")
    say(console, f"Database on its disk: {size(use['database_bytes'])}")
