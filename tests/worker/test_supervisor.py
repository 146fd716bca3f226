"""Laws of the supervisor: it claims only jobs that it can run, and records why an attempt ended."""

import errno
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from darkroom.store.artifacts import Artifacts
from darkroom.store.database import Database
from darkroom.store.job_repository import (
    Claimant,
    Lease,
    claim_job,
    events_after,
    get_job,
    hold,
    request_cancel,
    submit_job,
)
from darkroom.store.run_repository import record_checkpoint
from darkroom.store.tables import Job
from darkroom.worker.device_check import KEPT_SECONDS, DeviceCheck
from darkroom.worker.settings import WorkerSettings
from darkroom.worker.supervisor import WORK, Supervisor
from tests.processes import wait_until
from tests.store.test_jobs import origins
from tests.worker.light_work import CRASHES, FINDS_NO_DEVICE, FINISHES, IS_SLOW_TO_STOP, STOPS

Made = Callable[..., Supervisor]


class Device:
    """A device whose probe is a script. It records its arguments, and fails as long as a file exists."""

    def __init__(self, folder: Path) -> None:
        self._broken = folder / "broken"
        self._asked = folder / "asked"
        self._asked.touch()
        self._now = 0.0
        probe = (
            "import pathlib, sys\n"
            f"with open({str(self._asked)!r}, 'a') as file: print(*sys.argv[1:], file=file)\n"
            f"broken = pathlib.Path({str(self._broken)!r})\n"
            "if broken.exists(): print(broken.read_text()); sys.exit(1)\n"
        )
        self.check = DeviceCheck(1, (sys.executable, "-I", "-S", "-c", probe), lambda: self._now)

    def breaks(self, how: str = "its driver is gone") -> None:
        self._broken.write_text(how)

    def is_mended(self) -> None:
        self._broken.unlink()

    def later(self) -> None:
        """Let the last result expire."""
        self._now += KEPT_SECONDS

    @property
    def asked(self) -> list[str]:
        """Return the arguments of each test."""
        return self._asked.read_text().splitlines()


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path)


@pytest.fixture
def made(database: Database, database_url: str, device: Device) -> Made:
    """A function that makes a supervisor with a work command; settings: fields of `WorkerSettings`."""

    def make(work: Sequence[str], stopping: Callable[[], bool] = lambda: False, **settings: Any) -> Supervisor:
        given = {"worker_name": "w", "worker_device": "cuda", "poll_seconds": 0.05} | settings
        chosen = WorkerSettings(database_url=database_url, redis_url="redis://nobody.invalid", **given)
        return Supervisor(chosen, database, stopping, device.check, work)

    return make


def submit(database: Database, **fields: Any) -> int:
    with database.session() as session:
        settings: dict[str, Any] = {"kind": "train", "model_name": "m", "configuration": {}, "total_images": 10}
        return submit_job(session, **(settings | fields)).id


def found(database: Database, job_id: int) -> Job:
    with database.session() as session:
        return get_job(session, job_id)


def reasons(database: Database, job_id: int) -> list[str]:
    with database.session() as session:
        return [event.data["reason"] for event in events_after(session, job_id, 0) if "reason" in event.data]


def test_a_job_whose_row_is_locked_for_a_moment_is_run_all_the_same(database: Database, made: Made) -> None:
    """The supervisor has used the hint. If it gave up now, the job would wait for the next hint."""
    job_id = submit(database)
    ran: list[bool] = []
    running = threading.Thread(target=lambda: ran.append(made(FINISHES).run_next()))
    with database.session() as holding:
        holding.execute(select(Job).where(Job.id == job_id).with_for_update())
        running.start()
        time.sleep(0.5)  # the supervisor looks for jobs and finds none
        assert ran == []
    running.join()
    assert ran == [True]
    assert found(database, job_id).status == "succeeded"


def test_a_worker_that_is_to_end_does_not_wait_for_a_locked_row(database: Database, made: Made) -> None:
    job_id = submit(database)
    with database.session() as holding:
        holding.execute(select(Job).where(Job.id == job_id).with_for_update())
        assert not made(FINISHES, lambda: True).run_next()


def test_while_the_device_fails_its_test_nothing_is_claimed(database: Database, made: Made, device: Device) -> None:
    supervisor, job_id = made(FINISHES), submit(database)
    device.breaks("its driver is gone")
    for _ in range(2):
        assert not supervisor.run_next()
    assert device.asked == ["1"]
    assert device.check.fault == "its driver is gone"
    assert found(database, job_id).attempt == 0
    device.is_mended()
    assert not supervisor.run_next()
    device.later()
    assert supervisor.run_next()
    assert device.check.fault is None
    assert found(database, job_id).status == "succeeded"


def test_a_good_device_is_not_tested_before_every_job(database: Database, made: Made, device: Device) -> None:
    supervisor = made(FINISHES)
    for _ in range(3):
        submit(database)
        assert supervisor.run_next()
    assert device.asked == ["1"]


def test_a_work_process_that_finds_no_device_hands_its_job_back_and_its_worker_stops(
    database: Database, made: Made, device: Device
) -> None:
    """The same holds if the driver works and only torch finds no device. The worker does not claim the job again."""
    job_id = submit(database, max_attempts=1)
    supervisor = made(FINDS_NO_DEVICE)
    assert supervisor.run_next()
    job = found(database, job_id)
    assert (job.status, job.attempt, job.failures) == ("queued", 1, 0)
    assert reasons(database, job_id) == ["torch finds no device"]
    assert not supervisor.run_next()
    device.breaks("torch finds none either")
    for _ in range(2):
        device.later()
        assert not supervisor.run_next()
    assert found(database, job_id).attempt == 1
    assert device.asked == ["1", "1 --torch", "1 --torch"]

    device.is_mended()
    device.later()
    assert made(FINISHES).run_next()
    assert found(database, job_id).status == "succeeded"
    device.later()
    assert not supervisor.run_next()
    assert device.asked[-1] == "1"


def test_a_crash_on_a_device_that_has_gone_is_no_fault_of_the_job(
    database: Database, made: Made, device: Device
) -> None:
    job_id = submit(database, max_attempts=1)
    assert device.check.passes()
    device.breaks()
    supervisor = made(CRASHES)
    assert supervisor.run_next()
    job = found(database, job_id)
    assert (job.status, job.failures) == ("queued", 0)
    assert job.failure == {"kind": "no_device", "detail": "the device of worker w: its driver is gone"}
    assert not supervisor.run_next()


def test_a_crash_on_a_good_device_is_the_jobs(database: Database, made: Made, device: Device) -> None:
    job_id = submit(database, max_attempts=1)
    assert made(CRASHES).run_next()
    job = found(database, job_id)
    assert (job.status, job.failure and job.failure["kind"]) == ("failed", "crashed")
    assert len(device.asked) == 2


def test_the_real_work_process_says_that_torch_finds_no_device(
    database: Database, database_url: str, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {
        "DATABASE_URL": database_url,
        "REDIS_URL": "redis://nobody.invalid",
        "DARKROOM_WORKER_DEVICE": "cuda",
        "DARKROOM_WORKER_NAME": "w",
        "CUDA_VISIBLE_DEVICES": "",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    job_id = submit(database, device="cuda")
    assert made(WORK).run_next()
    job = found(database, job_id)
    assert (job.status, job.failures, job.failure and job.failure["kind"]) == ("queued", 0, "no_device")
    assert "worker w is to use CUDA" in reasons(database, job_id)[0]


def test_a_worker_whose_disk_is_full_says_so_and_the_job_is_tried_again(
    database: Database, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = submit(database)

    def full(**_: str) -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/tmp/darkroom-job")

    with monkeypatch.context() as broken:
        broken.setattr(tempfile, "mkdtemp", full)
        assert made(FINISHES).run_next()
    job = found(database, job_id)
    assert (job.status, job.failures) == ("queued", 1)
    said = "worker w could not start the work: [Errno 28] No space left on device: '/tmp/darkroom-job'"
    assert job.failure == {"kind": "crashed", "detail": said}


@pytest.mark.parametrize("saved", [False, True])
@pytest.mark.parametrize("cancelled", [False, True])
def test_work_that_does_not_stop_in_time_is_killed_and_its_job_says_so(
    database: Database, made: Made, saved: bool, cancelled: bool
) -> None:
    job_id = submit(database, max_attempts=1)
    stopping = threading.Event()
    supervisor = made(IS_SLOW_TO_STOP, stopping.is_set, grace_seconds=0.5)
    running = threading.Thread(target=supervisor.run_next)
    running.start()
    wait_until(lambda: found(database, job_id).status == "running", "it runs")
    if saved:
        with database.session() as session:
            job = hold(session, Lease(job_id, 1))
            state = Artifacts(session).put(b"state")
            kept: dict[str, Any] = {"weights": b"w", "state_digest": state, "keep_last": 1}
            record_checkpoint(session, job, 7, configuration={}, class_names=["zero"], **kept)
    if cancelled:
        with database.session() as session:
            request_cancel(session, job_id)
    else:
        stopping.set()
    running.join()
    ended = found(database, job_id)
    assert (ended.status, ended.failures) == ("cancelled" if cancelled else "queued", 0)
    has = "its last checkpoint is at 7 images" if saved else "it has no checkpoint"
    said = f"the work did not stop within 0.5 s after it was asked to, and was killed; {has}"
    assert ended.failure == {"kind": "stopped_late", "detail": said}
    assert reasons(database, job_id) == [said]


def test_an_attempt_that_takes_more_than_its_hours_is_stopped_and_fails_for_good(
    database: Database, made: Made
) -> None:
    job_id = submit(database, max_attempts=3)
    assert made(IS_SLOW_TO_STOP, job_hours=1e-9, grace_seconds=0.1).run_next()
    ended = found(database, job_id)
    assert (ended.status, ended.failure and ended.failure["kind"]) == ("failed", "time_limit")
    assert "DARKROOM_JOB_HOURS" in (ended.failure or {})["detail"]
    assert "it has no checkpoint" in (ended.failure or {})["detail"]
    submit(database)
    assert made(FINISHES, job_hours=1.0).run_next()


def test_a_job_is_handed_back_for_the_job_of_a_key_that_has_none_running(database: Database, made: Made) -> None:
    busy, other = origins(database, 2)
    first, second, waiting = (submit(database, origin=origin) for origin in (busy, busy, other))
    with database.session() as session:
        elsewhere = claim_job(session, Claimant("elsewhere:1", "cpu"), 600.0)
        assert elsewhere is not None
        assert elsewhere.id == first
        session.execute(update(Job).where(Job.id == waiting).values(priority=-1))
    running = threading.Thread(target=made(STOPS, beat_seconds=0.2).run_next)
    running.start()
    wait_until(lambda: found(database, second).status == "running", "the busy key's second job runs")
    with database.session() as session:
        session.execute(update(Job).where(Job.id == waiting).values(priority=0))
    running.join()
    handed_back = found(database, second)
    assert (handed_back.status, handed_back.attempt, handed_back.failures) == ("queued", 1, 0)
    assert reasons(database, second) == ["the worker is needed for the job of a key that has none running"]
    assert made(FINISHES).run_next()
    assert found(database, waiting).status == "succeeded"
