"""What the commands say on a terminal."""

from rich.console import Console
from rich.text import Text

UNFOLDED_COLUMNS = 100_000
"""Where nobody's window is the limit."""


def open_console(*, stderr: bool = False, quiet: bool = False) -> Console:
    """A console for stdout or stderr. Where that is no terminal, a line is never folded: other programs read it."""
    console = Console(stderr=stderr, quiet=quiet)
    if not console.is_terminal:
        console.width = UNFOLDED_COLUMNS
    return console


def print_error(console: Console, message: str) -> None:
    """One red word and the message, as it is: brackets in it are no markup, and it is not broken into lines."""
    console.print(Text.assemble(("error: ", "red"), message), soft_wrap=True)


def say(console: Console, line: str) -> None:
    """The line as it is, not broken into several."""
    console.print(Text(line), soft_wrap=True)
