"""Prints the commands' messages on a terminal or into a pipe."""

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from rich import filesize
from rich.console import Console
from rich.table import Table
from rich.text import Text

from darkroom.model.user_error import UserError

UNFOLDED_COLUMNS = 100_000
"""The width of lines that go into a pipe or a file."""


def open_console(*, stderr: bool = False, quiet: bool = False) -> Console:
    """Return a console for stdout or stderr. It folds lines only on a terminal, because other programs read pipes."""
    console = Console(stderr=stderr, quiet=quiet)
    if not console.is_terminal:
        console.width = UNFOLDED_COLUMNS
    return console


def print_error(console: Console, message: str) -> None:
    """Print "error: " in red, then the message as plain text: without markup, and not folded."""
    console.print(Text.assemble(("error: ", "red"), message), soft_wrap=True)


def say(console: Console, line: str) -> None:
    """Print the line as plain text: without markup, and not folded."""
    console.print(Text(line), soft_wrap=True)


def require_folder(file: Path) -> None:
    """Raise UserError unless the folder of a file to write is there. To make it could hide a mistyped name."""
    if not file.parent.is_dir():
        raise UserError(f"{file.parent}: there is no such folder; make it, or name another one")


def plain_table(
    names: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: Collection[str] = (),
    unfolded: Collection[str] = (),
) -> Table:
    """Return a table of plain text, never markup. right: columns to align right; unfolded: columns never folded."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in names:
        table.add_column(name, justify="right" if name in right else "left", overflow="fold", no_wrap=name in unfolded)
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def size(count: int) -> str:
    """Return a number of bytes for people, such as "4.3 MB"."""
    return filesize.decimal(count)
