"""Law of a worker's name: no two workers of a machine share one, and a name is free again when its worker ends."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from darkroom.worker import celery_app
from darkroom.worker.settings import WorkerSettings

PROGRAM = """
import sys
from darkroom.worker.own_name import take_name
print(take_name("gpu", sys.argv[1]), flush=True)
sys.stdin.read()
"""


def worker(url: str = "postgresql://one") -> subprocess.Popen[str]:
    """Start a process that takes a name, and holds it until it ends."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", PROGRAM, url], **pipes, text=True)


def name(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_every_worker_of_a_machine_has_a_name_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with worker() as first, worker("postgresql://another") as elsewhere:
        assert (name(first), name(elsewhere)) == ("gpu", "gpu")
        with worker() as second:
            assert name(second) == "gpu-2"
            names = _names_of_two_more(monkeypatch)
            assert names == ["gpu-3", "gpu-4"]
            second.kill()
        with worker() as again:
            assert name(again) == "gpu-2"
            again.kill()
        for process in (first, elsewhere):
            process.kill()


def _names_of_two_more(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Run the worker's `main` twice in this process, up to the worker itself; returns the names of the two."""
    names: list[str] = []

    class Named(celery_app.Worker):
        def __init__(self, settings: WorkerSettings) -> None:
            names.append(settings.claimant().worker.partition(":")[0])
            assert os.environ["DARKROOM_WORKER_NAME"] == settings.worker_name  # its work processes get it

        def run(self) -> int:
            return 0

    given = {"DATABASE_URL": "postgresql://one", "REDIS_URL": "redis://nobody.invalid", "DARKROOM_WORKER_NAME": "gpu"}
    for _ in range(2):
        for variable, value in given.items():
            monkeypatch.setenv(variable, value)
        with pytest.raises(SystemExit) as ended:
            celery_app.main(Named)
        assert ended.value.code == 0
    return names
