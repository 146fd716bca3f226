"""Commands that tests run in process, and what every refusal of a command looks like."""

from collections.abc import Callable

from typer.testing import CliRunner, Result

from darkroom.app.cli.main import cli
from tests.app.served import Service

Run = Callable[..., Result]


def run_on(service: Service, *command: str) -> Run:
    """Return a function that runs `command`, with more arguments, against the service."""

    def run(*arguments: object) -> Result:
        return CliRunner().invoke(cli, [*command, *map(str, arguments), "--url", service.url], env={"COLUMNS": "40"})

    return run


def refused(result: Result, *words: str) -> None:
    """Require one line that begins with "error: " and has the words."""
    assert result.exit_code == 2, result.output
    assert result.output.startswith("error: ")
    assert result.output.count("\n") == 1
    assert "Traceback" not in result.output
    assert "Value error" not in result.output
    for word in words:
        assert word in result.output
