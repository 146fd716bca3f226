"""Laws of a job's folder: it goes with its worker, at the latest when the next worker starts."""

import errno
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from darkroom.store.job_repository import Failure
from darkroom.worker.job_folder import job_folder, remove_left_folders
from darkroom.worker.outcome import Outcome, read_outcome, write_outcome, write_pid

HOLDS = """
import sys
from darkroom.worker.job_folder import job_folder
with job_folder(7) as folder:
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_the_folder_of_a_killed_worker_is_removed_and_that_of_a_living_one_is_not(temporary: Path) -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    environment = os.environ | {"TMPDIR": str(temporary)}
    with subprocess.Popen([sys.executable, "-c", HOLDS], env=environment, **pipes) as process:
        try:
            assert process.stdout is not None
            folder = Path(process.stdout.readline().strip())
            assert folder.parent == temporary
            (folder / "outcome").write_text("{}")
            assert remove_left_folders() == []
        finally:
            process.send_signal(signal.SIGKILL)
    assert (folder / "outcome").exists()
    assert remove_left_folders() == [folder]
    assert list(temporary.iterdir()) == []


def test_a_folder_that_a_starting_worker_deletes_before_it_is_locked_is_made_again(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder exists for a moment before it is locked, and looks then like one of a killed worker."""
    made = tempfile.mkdtemp
    swept: list[list[Path]] = []

    def swept_at_once(**options: str) -> str:
        folder = made(**options)
        if len(swept) < 2:
            swept.append(remove_left_folders())
        return folder

    monkeypatch.setattr(tempfile, "mkdtemp", swept_at_once)
    with job_folder(7) as folder:
        assert [len(one) for one in swept] == [1, 1]
        assert list(temporary.iterdir()) == [folder]
        assert remove_left_folders() == []
    with pytest.raises(FileNotFoundError), job_folder(7):
        raise FileNotFoundError


def test_on_a_full_disk_there_is_room_for_the_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    write = Path.write_text

    def full(self: Path, *text: str, **options: str) -> int:
        if (self.parent / "reserve").exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(self, *text, **options)

    outcome = Outcome("failed", Failure("disk_full", "the worker's disk is full"))
    with job_folder(7) as folder:
        assert (folder / "reserve").stat().st_blocks * 512 >= 2 * 4000  # a detail has 4000 characters
        monkeypatch.setattr(Path, "write_text", full)
        write_outcome(folder, outcome)
        assert read_outcome(folder) == outcome


def test_a_folder_goes_at_the_end_of_its_job_and_only_left_folders_are_removed(temporary: Path) -> None:
    with job_folder(7) as folder:
        assert folder.is_dir()
    assert not folder.exists()
    left, other = temporary / "darkroom-job-8-left", temporary / "unrelated"
    left.mkdir()
    other.mkdir()
    (temporary / "darkroom-job-9-file").write_text("no folder")
    (temporary / "darkroom-job-9-link").symlink_to(other)
    write_pid(left)  # of a worker of an earlier version, which locks nothing; this process stands for its work
    assert remove_left_folders() == []
    (left / "pid").unlink()
    assert remove_left_folders() == [left]
    assert sorted(path.name for path in temporary.iterdir()) == [
        "darkroom-job-9-file",
        "darkroom-job-9-link",
        "unrelated",
    ]
