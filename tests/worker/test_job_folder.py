"""Laws of a job's folder: it goes with its worker, at the latest when the next worker starts."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from darkroom.worker.job_folder import YOUNG_SECONDS, job_folder, remove_left_folders
from darkroom.worker.outcome import write_pid

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


def _grow_old(folder: Path) -> None:
    then = folder.stat().st_mtime - YOUNG_SECONDS - 1.0
    os.utime(folder, (then, then))


def test_the_folder_of_a_killed_worker_is_removed_and_that_of_a_living_one_is_not(temporary: Path) -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    environment = os.environ | {"TMPDIR": str(temporary)}
    with subprocess.Popen([sys.executable, "-c", HOLDS], env=environment, **pipes) as process:
        try:
            assert process.stdout is not None
            folder = Path(process.stdout.readline().strip())
            assert folder.parent == temporary
            (folder / "outcome").write_text("{}")
            _grow_old(folder)
            assert remove_left_folders() == []
        finally:
            process.send_signal(signal.SIGKILL)
    assert (folder / "outcome").exists()
    assert remove_left_folders() == [folder]
    assert list(temporary.iterdir()) == []


def test_a_folder_goes_at_the_end_of_its_job_and_a_young_one_stays(temporary: Path) -> None:
    with job_folder(7) as folder:
        assert folder.is_dir()
    assert not folder.exists()
    young, other = temporary / "darkroom-job-8-young", temporary / "unrelated"
    young.mkdir()
    other.mkdir()
    (temporary / "darkroom-job-9-file").write_text("no folder")
    (temporary / "darkroom-job-9-link").symlink_to(other)
    _grow_old(other)
    assert remove_left_folders() == []
    write_pid(young)  # of a worker of an earlier version, which locks nothing; this process stands for its work
    _grow_old(young)
    assert remove_left_folders() == []
    (young / "pid").unlink()
    _grow_old(young)
    assert remove_left_folders() == [young]
    assert sorted(path.name for path in temporary.iterdir()) == [
        "darkroom-job-9-file",
        "darkroom-job-9-link",
        "unrelated",
    ]
