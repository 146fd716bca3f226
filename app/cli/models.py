"""`darkroom models`: the models of a running service. Prints names as plain text, never as markup."""

from collections.abc import Mapping
from typing import Any

import typer

from darkroom.app.cli.asking import Url, all_by_name
from darkroom.app.cli.terminal import open_console, plain_table

models_cli = typer.Typer(help="Models of a running service.", no_args_is_help=True)


@models_cli.command(name="list")
def list_(url: Url = None) -> None:
    """Print a table of all models, by name."""
    rows = [_cells(one) for one in all_by_name(url, "models")]
    names = ("model", "versions", "production", "other aliases", "created")
    open_console().print(plain_table(names, rows, right=("versions", "production")) if rows else "No models.")


def _cells(one: Mapping[str, Any]) -> tuple[str, ...]:
    targets = {alias: str(target["version"]) for alias, target in one["aliases"].items()}
    production = targets.pop("production", "")
    others = ", ".join(f"{alias} {version}" for alias, version in targets.items())
    return one["name"], f"{one['versions']:,}", production, others, one["created_at"][:10]
