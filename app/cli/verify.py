"""`darkroom verify`: asks a running service to draw PNG files again, and says whether they are the same."""

from pathlib import Path
from typing import Annotated

import typer

from darkroom.app.cli.asking import Url
from darkroom.app.cli.terminal import open_console, print_error, say


def verify(
    files: Annotated[list[Path], typer.Argument(help="PNG files that Darkroom has drawn", exists=True, dir_okay=False)],
    url: Url = None,
) -> None:
    """Draw PNG files again from what they say of themselves, and compare. Exit code 1 if the pixels of one differ."""
    from darkroom.app.cli.service_client import ServiceError, ask, connect  # takes long to import

    console, same, headers = open_console(), True, {"Content-Type": "image/png"}
    with connect(url) as client:
        for file in files:
            try:
                found = ask(client, "POST", "/v1/verify", content=file.read_bytes(), headers=headers)
            except ServiceError as error:
                if error.status not in (410, 422):  # the service refuses this file only
                    raise
                print_error(open_console(stderr=True), f"{file}: {error}")
                same = False
            else:
                say(console, f"{file}: {found['finding']}")
                same = same and found["same_pixels"]
    raise typer.Exit(0 if same else 1)
