"""Laws of the command line: help imports nothing heavy, `--version`, and NAME=VALUE options are parsed."""

import subprocess
import sys
import tomllib

import pytest
from typer.testing import CliRunner

import darkroom
from darkroom.app.cli.assignments import assignments
from darkroom.app.cli.main import cli
from darkroom.model.user_error import UserError
from tests.compose import ROOT

HEAVY = ("torch", "numpy", "sqlalchemy", "httpx", "fastapi", "celery")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("keys", "create", "--help"),
        ("jobs", "submit", "--help"),
        ("upload", "--help"),
        ("models", "add", "--help"),
    ],
)
def test_help_loads_nothing_heavy(arguments: tuple[str, ...]) -> None:
    program = (
        "import sys\nfrom darkroom.app.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        f"print('loaded', *sorted(set({HEAVY!r}) & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    assert "Usage" in done.stdout
    assert done.stdout.splitlines()[-1] == "loaded"


def test_the_package_and_the_command_have_the_version_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert darkroom.__version__ == project["version"]
    result = CliRunner().invoke(cli, ["--version"])
    assert (result.exit_code, result.output) == (0, f"darkroom {darkroom.__version__}\n")


def test_a_value_is_json_or_else_a_plain_word() -> None:
    options = ["seed=3", "bound_times=null", "threshold=none", 'unet={"dropout":0.1}', "name=a=b", "empty="]
    expected = {
        "seed": 3,
        "bound_times": None,
        "threshold": "none",
        "unet": {"dropout": 0.1},
        "name": "a=b",
        "empty": "",
    }
    assert assignments(options) == expected


@pytest.mark.parametrize(("options", "given"), [(["seed=1", "seed=2"], ()), (["seed=2"], ("seed",))])
def test_a_name_that_is_set_twice_is_refused(options: list[str], given: tuple[str, ...]) -> None:
    with pytest.raises(UserError, match="--set seed=2: seed is set twice"):
        assignments(options, given=given)


def test_an_option_without_an_equals_sign_says_what_to_write() -> None:
    with pytest.raises(UserError, match="--set seed: write NAME=VALUE"):
        assignments(["seed"])
    with pytest.raises(UserError, match="--set seed: write FIELD=VALUE, such as a=1"):
        assignments(["seed"], "FIELD=VALUE, such as a=1")
