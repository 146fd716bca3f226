"""Laws of the memory record: a killed worker's next start says how near it was to its limit, and only then."""

import logging
import tempfile
from pathlib import Path
from typing import Any

import pytest

from darkroom.model.machine import control_group
from darkroom.worker import celery_app
from darkroom.worker.memory_record import MemoryRecord
from darkroom.worker.settings import WorkerSettings
from tests.processes import wait_until

GIB = 1 << 30


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A control group with a limit of 8 GiB, and a folder for records."""
    folder = tmp_path / "group"
    folder.mkdir()
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "cgroup").write_text("0::/group\n")
    (folder / "memory.max").write_text(f"{8 * GIB}\n")
    monkeypatch.setattr(control_group, "PROC", tmp_path)
    monkeypatch.setattr(control_group, "CGROUPS", tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return folder


def _use(group: Path, used: float, cached: float = 0.0) -> None:
    """Let the group use so many GiB; `cached` of them are files that the kernel keeps."""
    (group / "memory.current").write_text(f"{int((used + cached) * GIB)}\n")
    half = int(cached * GIB / 2)
    (group / "memory.stat").write_text(f"anon {int(used * GIB)}\ninactive_file {half}\nactive_file {half}\n")


def _told(name: str, caplog: pytest.LogCaptureFixture) -> str:
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        MemoryRecord(name).tell()
    return caplog.text


def test_the_next_start_says_how_near_a_killed_worker_was(group: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert _told("one", caplog) == ""
    for used, likely in ((2.0, False), (7.6, True)):
        _use(group, used, cached=0.4)
        MemoryRecord("one").keep()
        told = _told("one", caplog)
        assert f"at {100 * used / 8:.0f}% of its memory limit" in told
        assert ("OOMKilled" in told) == likely
    assert _told("another", caplog) == ""
    MemoryRecord("one").end()
    assert _told("one", caplog) == ""


def test_files_that_the_kernel_keeps_are_not_used_memory(group: Path, caplog: pytest.LogCaptureFixture) -> None:
    _use(group, 1.0, cached=7.0)
    MemoryRecord("one").keep()
    assert "OOMKilled" not in _told("one", caplog)


@pytest.mark.parametrize("limit", ["max\n", None])
def test_without_a_limit_there_is_no_record(limit: str | None, group: Path, caplog: pytest.LogCaptureFixture) -> None:
    _use(group, 1.0)
    (group / "memory.max").unlink()
    if limit is not None:
        (group / "memory.max").write_text(limit)
    MemoryRecord("one").keep()
    assert _told("one", caplog) == ""
    MemoryRecord("one").end()


def test_a_record_that_was_cut_says_nothing(group: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _use(group, 1.0)
    MemoryRecord("one").keep()
    (file,) = tmp_path.glob("darkroom-memory-*")
    file.write_text("")
    assert _told("one", caplog) == ""


def test_a_worker_keeps_a_record_until_it_ends(group: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _use(group, 7.6)
    nowhere: dict[str, Any] = {
        "database_url": "postgresql://nobody@127.0.0.1:1/none",
        "redis_url": "redis://127.0.0.1:1/0",
    }
    settings = WorkerSettings(**nowhere, worker_name="one", worker_device="cpu", measure_speed=False)
    killed, following = celery_app.Worker(settings), celery_app.Worker(settings)
    killed._begin()
    wait_until(lambda: bool(list(tmp_path.glob("darkroom-memory-*"))), "a record")
    assert "OOMKilled" not in caplog.text
    following._begin()
    assert "OOMKilled" in caplog.text
    killed._end()
    following._end()
    assert list(tmp_path.glob("darkroom-memory-*")) == []
