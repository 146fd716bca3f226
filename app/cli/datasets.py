"""`darkroom datasets` and `upload`: the data sets of a running service. Prints names as plain text, never as markup."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from darkroom.app.cli import asking
from darkroom.app.cli.asking import DryRun, FitOption, Force, Ground, Off, SkipDamaged, Url, all_by_name, ask_service
from darkroom.app.cli.terminal import open_console, plain_table, say, size
from darkroom.model.words import several

datasets_cli = typer.Typer(help="Data sets of a running service.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="the data set's name")]


@datasets_cli.command(name="list")
def list_(url: Url = None) -> None:
    """Print a table of all data sets, by name."""
    rows = [_cells(one) for one in all_by_name(url, "datasets")]
    names = ("data set", "images", "classes", "shape", "size", "created")
    open_console().print(plain_table(names, rows, right=("images", "classes", "size")) if rows else "No data sets.")


@datasets_cli.command()
def check(
    name: Name,
    against: Annotated[str | None, typer.Option(help="another data set, such as the test split")] = None,
    url: Url = None,
) -> None:
    """Look for repeated, outlying and flat pictures and for unequal classes."""
    from darkroom.app.cli.service_client import ask_with_events, connect
    from darkroom.progress import progress

    params = {} if against is None else {"against": against}
    with connect(url) as client, progress() as meter:
        found = ask_with_events(client, "GET", f"{_address(name)}/check", meter, {}, params=params)
    console = open_console()
    for line in found["findings"]:
        say(console, line)
    kinds = [("alike", group["pictures"]) for group in found["alike"]]
    kinds += [(kind, [one]) for kind in ("unlike", "flat") for one in found[kind]]
    rows = [
        (kind, ", ".join(f"{one['dataset']} {one['index']} ({one['class']})" for one in some)) for kind, some in kinds
    ]
    if rows:
        console.print(plain_table(("found", "pictures"), rows))


@datasets_cli.command()
def rename(name: Name, new_name: Annotated[str, typer.Argument()], url: Url = None) -> None:
    """Rename a data set. Its jobs keep it."""
    from darkroom.app.cli.service_client import json_body

    renamed = ask_service(url, "PATCH", _address(name), **json_body({"name": new_name}))
    say(open_console(stderr=True), f"Data set {name} is now {renamed['name']}")


@datasets_cli.command()
def delete(name: Name, force: Force = False, dry_run: DryRun = False, url: Url = None) -> None:
    """Delete a data set, unless jobs use it."""
    asking.delete(url, _address(name), f"Data set {name}", force=force, dry_run=dry_run)


@datasets_cli.command()
def keep(name: Name, off: Off = False, url: Url = None) -> None:
    """Mark a data set, so that nobody can delete it."""
    asking.mark(url, _address(name), f"Data set {name}", off=off)


def upload(
    folder: Annotated[Path, typer.Argument(help="a folder with one folder of pictures for each class")],
    name: Annotated[str | None, typer.Option(help="the data set's name; default: the folder's")] = None,
    image_size: Annotated[
        int | None, typer.Option(help="crop pictures to the central square and scale them to this side")
    ] = None,
    fit: FitOption = "crop",
    ground: Ground = "#ffffff",
    split: Annotated[str, typer.Option(help="train, test or all")] = "train",
    skip_damaged: SkipDamaged = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="replace the data set of this name; its jobs keep the earlier version")
    ] = False,
    url: Url = None,
) -> None:
    """Send a folder of pictures to a running service as a data set."""
    from darkroom.app.cli.transfer import upload_folder

    options = {"image_size": image_size, "fit": fit, "ground": ground, "split": split, "skip_damaged": skip_damaged}
    query = {key: value for key, value in options.items() if value is not None}
    console = open_console(stderr=True)
    dataset = upload_folder(url, folder, name or folder.resolve().name, query, console, replace=replace)
    side, classes = dataset["image_shape"][1], several(len(dataset["classes"]), "class")
    say(
        console,
        f"Data set {dataset['name']}: {several(dataset['images'], 'image')} of {classes}, {side}x{side} pixels",
    )
    for line in _left_out(dataset):
        say(console, line)


def _left_out(dataset: Mapping[str, Any]) -> Iterator[str]:
    """Yield what an upload's answer says about files that are not in the data set."""
    counts = dataset["left_out"]
    if counts["junk"]:
        yield f"Left out because they are no pictures: {counts['junk']:,}"
    if counts["damaged"]:
        yield f"Left out because they cannot be read: {counts['damaged']:,}, such as {counts['damaged_pictures'][0]}"
    for split in dataset["splits"]:
        if not split["used"]:
            yield f"Left out because they are in {split['folder']}: {split['images']:,}; --split chooses"


def _address(name: str) -> str:
    return f"/v1/datasets/{quote(name, safe='')}"


def _cells(one: Mapping[str, Any]) -> tuple[str, ...]:
    channels, height, width = one["image_shape"]
    shape = f"{height}x{width} {'grey' if channels == 1 else 'colour'}"
    counts = (f"{one['images']:,}", f"{len(one['classes']):,}")
    return one["name"], *counts, shape, size(one["size_bytes"]), one["created_at"][:10]
