"""Laws of decoding: a process of its own decodes, its limits hold, and its end never harms the service."""

import io
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np
import pytest
from PIL import Image

from darkroom.app.dataset_registry import decoding
from darkroom.app.dataset_registry.progress_board import News, ProgressBoard
from darkroom.app.dataset_registry.request_body import Registration
from darkroom.app.http.problems import Problem
from darkroom.app.settings import Settings
from darkroom.model.config import DatasetConfig
from darkroom.model.datasets.encoded import decode as decode_encoded


def _folder(path: Path, values: dict[str, int]) -> Path:
    for name, value in values.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), value).save(path / name)
    return path


def _registration(path: Path, form: str = "folder", **fields: Any) -> Registration:
    config = DatasetConfig.model_validate({"format": form, "path": path, **fields})
    return Registration("x", config, "sha256:0")


def _refused(wanted: Registration, settings: Settings) -> Problem:
    with pytest.raises(Problem) as refused, TemporaryFile() as encoded:
        decoding.decode(wanted, settings, encoded)
    assert refused.value.status == 422
    return refused.value


def _program(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Let this Python program decode."""
    monkeypatch.setattr(decoding, "COMMAND", (sys.executable, "-S", "-c", text))


def test_the_child_finds_what_the_encoded_file_holds(tmp_path: Path) -> None:
    path = _folder(tmp_path / "pictures", {"a/1.png": 3, "a/2.png": 5, "b/1.png": 7, "b/Thumbs.db.png": 9})
    with TemporaryFile() as encoded:
        found = decoding.decode(_registration(path), Settings(), encoded)
        decoded = decode_encoded(encoded, found.digest, "test")
    assert decoded.images[:, 0, 0, 0].tolist() == [3, 5, 7, 9]
    assert (found.class_names, found.class_counts) == (("a", "b"), (2, 2))
    assert (found.image_channels, found.image_size, found.distinct_count) == (1, 4, 4)
    assert (found.mirrors, found.flat_grounds) == ((False, False), 1.0)
    assert decoding.decode(_registration(path), Settings()).digest == found.digest
    assert Image.open(io.BytesIO(found.sheet)).format == "PNG"


def test_the_child_says_how_far_it_is(tmp_path: Path) -> None:
    board = ProgressBoard()
    decoding.decode(_registration(_folder(tmp_path / "pictures", {"a/1.png": 3})), Settings(), board=board)
    assert board.read() == News(what="storing the decoded images", done=0, total=None)  # the last of it


def test_a_board_with_something_else_on_it_says_nothing() -> None:
    board = ProgressBoard()
    assert board.read() is None
    board.write("decoding pictures", 123, 20_000)
    board.write("storing", 1, None)
    assert board.read() == News(what="storing", done=1, total=None)
    for wrong in (b"no JSON", b'{"what": "x", "done": -1, "total": null}', b'{"what": "%s", "done": 1}' % (b"x" * 600)):
        os.pwrite(board.fileno(), wrong.ljust(1000), 0)
        assert board.read() is None


def test_a_name_that_is_no_utf8_can_be_reported(tmp_path: Path) -> None:
    path = _folder(tmp_path / "pictures", {"a/1.png": 3})
    (path / "a" / os.fsdecode(b"\xff.png")).write_bytes(b"damaged")
    problem = _refused(_registration(path), Settings())
    assert "udcff.png: not a readable image" in problem.detail
    assert problem.extra["damaged"] == 1
    assert "udcff" in decoding.decode(_registration(path, skip_damaged=True), Settings()).damaged_pictures[0]


def test_memory_has_a_limit(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    images = np.zeros((2, 3800, 3800, 3), np.uint8)  # 87 MB; channels first, they need as much again
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, array in {"images": images, "labels": np.array([0, 1])}.items():
            with archive.open(f"{name}.npy", "w") as file:
                np.lib.format.write_array(file, array)
    problem = _refused(_registration(path, "npz"), Settings(dataset_memory_bytes=256 << 20))
    assert problem.kind == "dataset-too-costly"
    assert "DARKROOM_DATASET_MEMORY_BYTES" in problem.detail


def test_processor_time_has_a_limit(tmp_path: Path) -> None:
    path = tmp_path / "pictures"
    (path / "a").mkdir(parents=True)
    Image.new("1", (9000, 9000)).save(path / "a" / "0.png")
    for number in range(1, 30):
        os.link(path / "a" / "0.png", path / "a" / f"{number}.png")
    problem = _refused(_registration(path, image_size=8), Settings(dataset_cpu_seconds=1))
    assert problem.kind == "dataset-too-costly"
    assert "1 second of processor time" in problem.detail


def test_time_has_a_limit_and_the_child_ends_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note = tmp_path / "pid"
    _program(monkeypatch, f"import os, time; open({str(note)!r}, 'w').write(str(os.getpid())); time.sleep(600)")
    problem = _refused(_registration(tmp_path), Settings(dataset_seconds=0.5))
    assert problem.kind == "dataset-too-costly"
    assert "0.5 seconds: send fewer" in problem.detail
    with pytest.raises(ProcessLookupError):
        os.kill(int(note.read_text()), 0)


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL])
def test_a_killed_child_is_a_refusal_that_names_the_signal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    _program(monkeypatch, f"import os; os.kill(os.getpid(), {int(number)})")
    problem = _refused(_registration(tmp_path), Settings())
    assert problem.kind == "dataset-unreadable"
    assert number.name in problem.detail


def test_the_decoder_starts_without_pytorch_and_the_service() -> None:
    program = "import sys, darkroom.app.dataset_registry.decoding_child; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert "numpy" in loaded
    assert {"torch", "fastapi", "sqlalchemy", "sklearn"}.isdisjoint(loaded)
