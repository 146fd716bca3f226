"""Laws of the commands that start a process: one that cannot run says why in one line, and exits with code 2."""

import os
import subprocess
from pathlib import Path

import pytest

from darkroom.app.main import application
from tests import warm

NOWHERE = {"DATABASE_URL": "postgresql://nobody.invalid/nothing", "REDIS_URL": "redis://nobody.invalid"}


@pytest.mark.parametrize(
    ("command", "environment", "says"),
    [
        ("worker", {}, "DATABASE_URL is not set"),
        ("reconciler", {}, "DATABASE_URL is not set"),
        ("worker", NOWHERE | {"REDIS_URL": "nonsense"}, "REDIS_URL is not a valid URL"),
        ("worker", NOWHERE | {"DARKROOM_METRICS_PORT": "0"}, "DARKROOM_METRICS_PORT cannot be used"),
        ("reconciler", NOWHERE | {"DARKROOM_LOG_FORMAT": "xml"}, "DARKROOM_LOG_FORMAT cannot be used"),
        ("migrate", {"DATABASE_URL": "nonsense"}, "DATABASE_URL is not a valid URL"),
        ("api --host 0.0.0.0", {}, "darkroom keys create"),
    ],
)
def test_a_process_that_cannot_run_says_why_in_one_line(
    tmp_path: Path, command: str, environment: dict[str, str], says: str
) -> None:
    inherited = {name: value for name, value in os.environ.items() if name not in NOWHERE}
    ended = warm.run([warm.DARKROOM, *command.split()], env=inherited | environment, cwd=tmp_path)
    _assert_one_line(ended, says)


def _assert_one_line(ended: subprocess.CompletedProcess[str], says: str) -> None:
    assert ended.returncode == 2, ended.stderr
    assert says in ended.stderr
    assert ended.stderr.startswith("error: ")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("DATABASE_URL", "nonsense", "DATABASE_URL is not a valid URL"),
        ("DARKROOM_DEVICE", "cuda:99", "DARKROOM_DEVICE cuda:99 cannot be used"),
        ("DARKROOM_LOG_LEVEL", "loud", "DARKROOM_LOG_LEVEL cannot be used"),
    ],
)
def test_the_api_refuses_a_setting_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str, says: str
) -> None:
    """In the process of the tests, since a process of its own takes seconds to start."""
    for inherited in NOWHERE:
        monkeypatch.delenv(inherited, raising=False)
    monkeypatch.setenv(name, value)
    monkeypatch.setattr("darkroom.app.main.set_up_server_logs", lambda: None)
    with pytest.raises(SystemExit) as ended:
        application()
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert says in told
    assert told.startswith("error: ")
    assert told.count("\n") == 1
