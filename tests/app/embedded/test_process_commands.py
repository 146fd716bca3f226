"""The processes run the installed code, whatever lies in the folder where somebody starts them."""

import os
import subprocess
from pathlib import Path

import pytest

from darkroom.app.embedded.process_commands import api_command, worker_commands

COMMANDS = {"api": api_command("127.0.0.1", 0), **worker_commands()}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_folder_of_the_same_name_does_not_take_the_place_of_the_code(name: str, tmp_path: Path) -> None:
    (tmp_path / "darkroom").mkdir()
    (tmp_path / "darkroom" / "__init__.py").write_text("raise SystemExit('another darkroom')")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("DARKROOM_", "DATABASE_"))}
    wrong = environment | {"DARKROOM_QUEUE_ROWS": "none"}
    ended = subprocess.run(COMMANDS[name], cwd=tmp_path, env=wrong, capture_output=True, text=True, check=False)
    said = ended.stdout + ended.stderr
    assert "another darkroom" not in said
    assert ("DARKROOM_QUEUE_ROWS" if name == "api" else "DATABASE_URL is not set") in said
