"""Laws of the history checker: it passes what the store has written, and names each kind of fault."""

import sys
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import delete, update

from bench.history import Event, JobHistory, job_faults, main
from darkroom.model.config import SamplingConfig
from darkroom.store.aliases import set_alias
from darkroom.store.audit_repository import COMMAND_LINE
from darkroom.store.checkpoint_repository import register_checkpoint
from darkroom.store.database import Database
from darkroom.store.generate_repository import cancel_generate_job, submit_generate_job
from darkroom.store.job_forms import GenerateRun
from darkroom.store.job_repository import (
    ASKED_FOR,
    Claimant,
    Failure,
    Lease,
    claim_job,
    crash,
    hold,
    request_cancel,
    submit_job,
)
from darkroom.store.run_repository import append_log
from darkroom.store.tables import ArtifactChunk, Checkpoint, Job

QUEUED = ("status", {"status": "queued"})
SUCCEEDED = ("status", {"status": "succeeded", "attempt": 1})
SAVED = ("checkpoint", {"images_seen": 5})


def running(attempt: int) -> tuple[str, dict[str, Any]]:
    return "status", {"status": "running", "attempt": attempt, "worker": "w"}


def lapsed(attempt: int) -> tuple[str, dict[str, Any]]:
    return "lease_lapsed", {"attempt": attempt, "worker": "w"}


def again(attempt: int) -> tuple[str, dict[str, Any]]:
    return "status", {"status": "queued", "reason": "it was lost", "wait_seconds": 2.0, "attempt": attempt}


def history(*events: tuple[str, dict[str, Any]], first: int = 1, **record: Any) -> JobHistory:
    """Return the history of these events, with a record that agrees with them unless `record` says otherwise."""
    states = [data["status"] for kind, data in events if kind == "status"]
    attempts = [data["attempt"] for kind, data in events if data.get("status") == "running"]
    facts = {
        "job_id": 7,
        "status": states[-1],
        "attempt": attempts[-1] if attempts else 0,
        "event_count": first + len(events) - 1,
        "events": [Event(number, *event) for number, event in enumerate(events, first)],
    }
    return JobHistory(**(facts | record))


@pytest.mark.parametrize(
    "good",
    [
        history(QUEUED, running(1), SAVED, SUCCEEDED, logged_by=[1, 1]),
        history(QUEUED, running(1), lapsed(1), again(1), running(2), ("status", {"status": "succeeded", "attempt": 2})),
        history(QUEUED, ("status", {"status": "cancelled"})),
        history(
            *(QUEUED, running(1), ("status", {"status": "failed", "attempt": 1})),
            *(("status", {"status": "queued", "reason": ASKED_FOR}), running(2)),
            *(("status", {"status": "cancelling"}), ("status", {"status": "cancelled", "attempt": 2})),
            logged_by=[1, 2],
        ),
        history(SUCCEEDED, first=9, attempt=1),
        history(QUEUED, running(1), ("status", {"status": "succeeded"})),  # written by an earlier version
    ],
)
def test_a_good_history_has_no_fault(good: JobHistory) -> None:
    assert list(job_faults(good)) == []


LOST = history(QUEUED, running(1), lapsed(1), again(1), running(2), ("status", {"status": "failed", "attempt": 2}))


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (
            history(QUEUED, running(1), SUCCEEDED, SUCCEEDED),
            "job 7, event 4: the job went on to succeeded after its end",
        ),
        (history(QUEUED, running(1), SUCCEEDED, again(1)), "job 7, event 4: the job went on to queued after its end"),
        (history(QUEUED, running(1), SUCCEEDED, SAVED), "job 7, event 4: checkpoint was written while no worker held"),
        (history(QUEUED, running(2), SUCCEEDED), "job 7, event 2: running of attempt 2 instead of 1"),
        (history(QUEUED, running(1), again(1), running(1), SUCCEEDED), "event 4: running of attempt 1 instead of 2"),
        (history(QUEUED, running(1), lapsed(1), SAVED, again(1)), "event 4: checkpoint was written after the lease of"),
        (history(QUEUED, running(1), lapsed(1), SUCCEEDED), "event 4: succeeded was written after the lease of"),
        (
            history(QUEUED, running(1), lapsed(1), again(1), SAVED),
            "event 5: checkpoint was written while no worker held",
        ),
        (history(QUEUED, running(1), lapsed(2), again(1)), "event 3: lease_lapsed of attempt 2 instead of 1"),
        (history(QUEUED, running(1), again(1), running(2), SUCCEEDED), "event 5: succeeded of attempt 1 instead of 2"),
        (history(QUEUED, SUCCEEDED, attempt=1), "event 2: succeeded cannot follow queued"),
        (history(running(1), SUCCEEDED), "event 1: running cannot follow new"),
        (history(QUEUED, running(1)), "job 7: it was accepted and has not ended (running)"),
        (replace(LOST, events=[*LOST.events[:3], *LOST.events[4:]]), "event 5: it follows event 3; one is missing"),
        (replace(LOST, status="queued"), "job 7: by its record it is queued, by its events failed"),
        (replace(LOST, attempt=3), "job 7: by its record it is at attempt 3, by its events 2"),
        (replace(LOST, event_count=7), "job 7: by its record it has events up to 7, by its events 6"),
        (replace(LOST, logged_by=[1, 2, 1]), "job 7: a log line of attempt 2 comes before attempt 1"),
        (replace(LOST, logged_by=[3]), "job 7: a log line of attempt 3 comes before attempt 2"),
    ],
)
def test_a_bad_history_is_told(bad: JobHistory, told: str) -> None:
    assert [one for one in job_faults(bad) if told in one]


def test_a_job_may_still_run_when_nobody_waited_for_its_end() -> None:
    assert list(job_faults(history(QUEUED, running(1)), must_end=False)) == []


def checked(url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    """Run the command; return its exit code and lines."""
    monkeypatch.setattr(sys, "argv", ["history", url])
    code = main()
    return code, capsys.readouterr().out.splitlines()


def test_the_command_reads_jobs_generate_jobs_and_production(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with database.session() as session:
        weights = {"model_name": "m", "configuration": {}, "class_names": ["one"], "images_seen": 1, "metrics": {}}
        checkpoint = register_checkpoint(session, data=b"weights", source="trained", **weights)
        set_alias(session, COMMAND_LINE, "m", "production", 1)
        job = submit_job(session, kind="train", model_name="m", configuration={}, total_images=1, priority=1)
        run = GenerateRun(class_indices=(0,), images_per_class=1, seed=0, sampling=SamplingConfig(), format="npz")
        submit_generate_job(session, checkpoint, run, shard_images=1)
    with database.session() as session:
        claimed = claim_job(session, Claimant("w", "cpu"), 60.0)
        assert claimed is not None
        lease = Lease(claimed.id, claimed.attempt)
        append_log(session, hold(session, lease), ["a line"])
        crash(session, lease, Failure("crashed", "it broke"))
    with database.session() as session:
        request_cancel(session, job.id)
    assert checked(database_url, monkeypatch, capsys) == (
        1,
        [
            "job 2: it was accepted and has not ended (queued)",
            "generate job 1: it was accepted and has not ended (queued)",
            "2 jobs, 5 events, 2 faults",
        ],
    )
    with database.session() as session:
        cancel_generate_job(session, 1)
    assert checked(database_url, monkeypatch, capsys) == (0, ["2 jobs, 6 events, 0 faults"])
    with database.session() as session:
        session.execute(update(Job).where(Job.id == job.id).values(status="failed"))
        session.execute(delete(ArtifactChunk))
    code, lines = checked(database_url, monkeypatch, capsys)
    assert code == 1
    assert lines[0] == "job 1: by its record it is failed, by its events cancelled"
    assert lines[1].startswith(f"m@production (version 1): artifact {checkpoint.digest} is corrupted")
    with database.session() as session:
        session.execute(update(Checkpoint).values(artifact_digest=None))
    assert "m@production (version 1): its weights were deleted" in checked(database_url, monkeypatch, capsys)[1]
