"""A decoder that tells of progress, waits for the test after each news, and then decodes."""

import sys
from pathlib import Path

import pytest

from darkroom.app.dataset_registry import decoding

NEWS = (2, 6)
"""How many of TOTAL pictures it tells of."""
TOTAL = 10

_PROGRAM = """
import io, sys, time
from pathlib import Path
from darkroom.app.dataset_registry import decoding_child as child
from darkroom.app.dataset_registry.progress_board import ProgressBoard

text = sys.stdin.buffer.read()
task = child.Task.model_validate_json(text)
child.die_with(task.parent)
for done in {news}:
    ProgressBoard(task.board).write("decoding pictures", done, {total})
    while not Path({folder!r}, str(done)).exists():
        time.sleep(0.01)
sys.stdin = io.TextIOWrapper(io.BytesIO(text))
child.main()
"""


class HeldDecoder:
    """Takes the place of the service's decoder. folder: an empty one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self._folder = folder
        program = _PROGRAM.format(news=NEWS, total=TOTAL, folder=str(folder))
        monkeypatch.setattr(decoding, "COMMAND", (sys.executable, "-c", program))

    def go_on(self, done: int) -> None:
        """Let it go on after it has told of so many pictures."""
        (self._folder / str(done)).touch()
