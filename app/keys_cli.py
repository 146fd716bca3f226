"""`darkroom keys` and `darkroom audit`: commands for who runs the service, whose work is done in `app/operator.py`.

They work on the database itself: who can read it needs no key, and the first key has to come from somewhere.
"""

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_STATE = Path(".darkroom")

keys_cli = typer.Typer(help="API keys, in the service's database.", no_args_is_help=True)

NEW_LIMIT = "a number, or `default` for the service's"

State = Annotated[Path, typer.Option(help="the service's state folder; DATABASE_URL goes before it")]


@keys_cli.command()
def create(
    name: Annotated[str, typer.Option(help="whose it is or what it is for")],
    scopes: Annotated[str, typer.Option(help="of generate, train, metrics, admin: divided by commas")],
    expires_in_days: Annotated[float | None, typer.Option(help="default: never")] = None,
    requests_per_minute: Annotated[int | None, typer.Option(help="default: the service's")] = None,
    images_per_day: Annotated[int | None, typer.Option(help="default: the service's")] = None,
    unfinished_jobs: Annotated[int | None, typer.Option(help="at once; default: the service's")] = None,
    state: State = DEFAULT_STATE,
) -> None:
    """Create a key and print its token, which is shown this once."""
    from app.operator import create_key

    fields = {
        "name": name,
        "scopes": [scope.strip() for scope in scopes.split(",")],
        "expires_in_days": expires_in_days,
        "requests_per_minute": requests_per_minute,
        "images_per_day": images_per_day,
        "unfinished_jobs": unfinished_jobs,
    }
    raise typer.Exit(create_key(state, fields))


@keys_cli.command(name="list")
def list_(
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 100,
    state: State = DEFAULT_STATE,
) -> None:
    """A table of the newest keys."""
    from app.operator import print_keys

    raise typer.Exit(print_keys(state, limit))


@keys_cli.command()
def change(
    key: Annotated[str, typer.Argument(help="the key's number or prefix, as `list` shows them")],
    requests_per_minute: Annotated[str | None, typer.Option(help=NEW_LIMIT)] = None,
    images_per_day: Annotated[str | None, typer.Option(help=NEW_LIMIT)] = None,
    unfinished_jobs: Annotated[str | None, typer.Option(help=NEW_LIMIT)] = None,
    state: State = DEFAULT_STATE,
) -> None:
    """Give a key other limits; running services keep to them within seconds."""
    from app.operator import change_key

    limits = {
        "requests_per_minute": requests_per_minute,
        "images_per_day": images_per_day,
        "unfinished_jobs": unfinished_jobs,
    }
    raise typer.Exit(change_key(state, key, {name: text for name, text in limits.items() if text is not None}))


@keys_cli.command()
def revoke(
    key: Annotated[str, typer.Argument(help="the key's number or prefix, as `list` shows them")],
    state: State = DEFAULT_STATE,
) -> None:
    """End a key for good; running services refuse it within seconds."""
    from app.operator import revoke_key

    raise typer.Exit(revoke_key(state, key))


def audit(
    action: Annotated[str | None, typer.Option(help="such as key.created or train-job.submitted")] = None,
    target: Annotated[str | None, typer.Option(help="such as train-jobs/3 or models/digits/alias/production")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 50,
    state: State = DEFAULT_STATE,
) -> None:
    """Who changed what: the newest events."""
    from app.operator import print_audit

    raise typer.Exit(print_audit(state, limit, action, target))
