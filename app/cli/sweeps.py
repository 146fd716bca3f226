"""`darkroom sweeps`: the sweeps of a running service. Prints names as plain text, never as markup."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from darkroom.app.cli import asking
from darkroom.app.cli.asking import DryRun, Force, Url, ask_service
from darkroom.app.cli.terminal import open_console, plain_table

sweeps_cli = typer.Typer(help="Sweeps of a running service.", no_args_is_help=True)


@sweeps_cli.command(name="list")
def list_(limit: Annotated[int, typer.Option(min=1, max=200)] = 20, url: Url = None) -> None:
    """Print a table of the newest sweeps."""
    rows = [_cells(one) for one in ask_service(url, "GET", "/v1/sweeps", params={"limit": limit})["sweeps"]]
    names = ("sweep", "name", "fields", "jobs", "created")
    open_console().print(plain_table(names, rows, right=("sweep",)) if rows else "No sweeps.")


@sweeps_cli.command()
def delete(
    sweep_id: Annotated[int, typer.Argument(min=1, help="the sweep's number")],
    force: Force = False,
    dry_run: DryRun = False,
    url: Url = None,
) -> None:
    """Delete a sweep with its ended jobs; their models stay."""
    asking.delete(url, f"/v1/sweeps/{sweep_id}", f"Sweep {sweep_id}", force=force, dry_run=dry_run)


def _cells(one: Mapping[str, Any]) -> tuple[str, ...]:
    jobs = ", ".join(f"{count} {status}" for status, count in one["jobs"].items() if count)
    return str(one["id"]), one["name"], ", ".join(one["fields"]), jobs, one["created_at"][:10]
