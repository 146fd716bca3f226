"""`darkroom models` and `download`: the models of a running service. Prints names as plain text, never as markup."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from darkroom.app.cli import asking
from darkroom.app.cli.asking import DryRun, Force, Off, Url, all_by_name, ask_service
from darkroom.app.cli.terminal import open_console, plain_table, require_folder, say, size
from darkroom.model.user_error import UserError

models_cli = typer.Typer(help="Models of a running service.", no_args_is_help=True)


Version = Annotated[
    str,
    typer.Argument(metavar="MODEL[@VERSION]", help="VERSION: a number, an alias or sha256:...; default: production"),
]


@models_cli.command(name="list")
def list_(url: Url = None) -> None:
    """Print a table of all models, by name."""
    rows = [_cells(one) for one in all_by_name(url, "models")]
    names = ("model", "versions", "production", "other aliases", "created")
    open_console().print(plain_table(names, rows, right=("versions", "production")) if rows else "No models.")


@models_cli.command()
def add(
    name: Annotated[str, typer.Argument(help="the model's name; a new name makes a new model")],
    file: Annotated[Path, typer.Argument(help="a weights file, such as one that `darkroom train` wrote")],
    url: Url = None,
) -> None:
    """Send a weights file to a running service as a version of a model."""
    from darkroom.app.cli.transfer import upload_file

    console = open_console(stderr=True)
    version = upload_file(url, f"/v1/models/{quote(name, safe='')}/versions", file, console)
    say(console, f"{file} is {name}@{version['version']}, {version['digest'][:19]}")


@models_cli.command()
def delete(
    name: Annotated[str, typer.Argument(metavar="MODEL[@VERSION]", help="a model, or one version of it")],
    force: Force = False,
    dry_run: DryRun = False,
    url: Url = None,
) -> None:
    """Delete a version's weights, or a whole model, unless something uses it."""
    address = version_address(name) if "@" in name else f"/v1/models/{quote(name, safe='')}"
    asking.delete(url, address, name if "@" in name else f"Model {name}", force=force, dry_run=dry_run)


@models_cli.command()
def keep(version: Version, off: Off = False, url: Url = None) -> None:
    """Mark a version, so that its weights and training state stay and nobody can delete it."""
    asking.mark(url, version_address(version), version, off=off)


@models_cli.command()
def promote(
    version: Annotated[str, typer.Argument(metavar="MODEL@VERSION", help="VERSION: a number, an alias or sha256:...")],
    url: Url = None,
) -> None:
    """Put a version into production: the service draws with it when a request names only the model."""
    name, _, selector = version.partition("@")
    if not selector:
        raise UserError(f"{version}: name a version of it, such as {name}@1; `darkroom models list` counts them")
    body = {"version": int(selector) if selector.isdecimal() else selector}
    found = ask_service(url, "PUT", f"/v1/models/{quote(name, safe='')}/alias/production", json=body)
    say(open_console(), f"{name}@{found['aliases']['production']['version']} is in production")


def download(
    version: Version,
    out: Annotated[Path | None, typer.Option(help="default: MODEL-NUMBER.safetensors, which must not exist")] = None,
    card: Annotated[
        Path | None, typer.Option(help="file for the settings, classes, figures and recipe as JSON, too")
    ] = None,
    url: Url = None,
) -> None:
    """Write a version's weights to a file; without VERSION, those of the production version."""
    from darkroom.app.cli.transfer import download_weights

    console = open_console(stderr=True)
    found = ask_service(url, "GET", version_address(version))
    model = version.partition("@")[0]
    path = out or Path(f"{model}-{found['version']}.safetensors")
    if out is None and path.exists():
        raise UserError(f"{path}: exists; remove it, or name another file with --out")
    for file in (path, *([card] if card else [])):
        require_folder(file)
    download_weights(url, version_address(f"{model}@{found['digest']}"), path, found, console)
    if card:
        card.write_text(f"{json.dumps(found, ensure_ascii=False, indent=2)}\n", encoding="utf-8")
    say(console, f"{path}: {model}@{found['version']}, {found['digest'][:19]}, {size(path.stat().st_size)}")


def version_address(version: str) -> str:
    """Return the path of MODEL@VERSION, or of MODEL's production version."""
    name, _, selector = version.partition("@")
    return f"/v1/models/{quote(name, safe='')}/versions/{quote(selector or 'production', safe='')}"


def _cells(one: Mapping[str, Any]) -> tuple[str, ...]:
    targets = {alias: str(target["version"]) for alias, target in one["aliases"].items()}
    production = targets.pop("production", "")
    others = ", ".join(f"{alias} {version}" for alias, version in targets.items())
    return one["name"], f"{one['versions']:,}", production, others, one["created_at"][:10]
