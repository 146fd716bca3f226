"""What the commands say on a terminal."""

from rich.console import Console
from rich.text import Text


def print_error(console: Console, message: str) -> None:
    """One red word and the message, as it is: brackets in it are no markup, and it is not broken into lines."""
    console.print(Text.assemble(("error: ", "red"), message), soft_wrap=True)
