"""Checks a database against the laws of the job protocol: `python -m bench.history DATABASE_URL`.

Run it after a campaign of faults, when all jobs have ended. It prints a line for each fault, and exits with 1 if there
is one. It reads jobs, events, log lines, generate jobs and the weights in production, and writes nothing.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from darkroom.store.artifacts import ArtifactCorrupted, ArtifactMissing, Artifacts
from darkroom.store.database import Database
from darkroom.store.generate_repository import progress_of
from darkroom.store.job_repository import ASKED_FOR, FINISHED, UNFINISHED
from darkroom.store.tables import Checkpoint, GenerateJob, Job, JobEvent, JobLogLine, JobStatus, ModelAlias

HELD: tuple[JobStatus, ...] = ("running", "cancelling")
"""While a job has one of these states, a worker holds a claim on it."""

NEXT: Mapping[str, tuple[JobStatus, ...]] = {
    "new": ("queued",),
    "queued": ("running", "cancelled", "failed"),
    "running": ("cancelling", "queued", "succeeded", "failed"),
    "cancelling": ("succeeded", "failed", "cancelled"),
    **dict.fromkeys(FINISHED, ("queued",)),
}
"""The states that may follow each one. Only a request queues a job again that has ended."""

AFTER_A_LAPSE: tuple[JobStatus, ...] = ("queued", "failed", "cancelled")


@dataclass(frozen=True)
class Event:
    """A stored event."""

    number: int
    kind: str
    data: Mapping[str, Any]


@dataclass(frozen=True)
class JobHistory:
    """A job's record and what was written for it, in order. logged_by: the attempt of each log line."""

    job_id: int
    status: str
    attempt: int
    event_count: int
    events: Sequence[Event]
    logged_by: Sequence[int] = ()


def job_faults(history: JobHistory, *, must_end: bool = True) -> Iterator[str]:
    """Yield each fault of a history, as a sentence. must_end: the job had the time to end.

    Retention deletes the oldest events first. The rest is then read without what came before.
    """
    number = history.events[0].number - 1 if history.events else history.event_count
    status: str | None = None if number else "new"
    attempt: int | None = None if number else 0
    lapsed = False
    for event in history.events:
        here = f"job {history.job_id}, event {event.number}: "
        if event.number != number + 1:
            yield f"{here}it follows event {number}; one is missing or there twice"
        number = event.number
        new = event.data["status"] if event.kind == "status" else None
        told = new or event.kind
        if lapsed and new not in AFTER_A_LAPSE:
            yield f"{here}{told} was written after the lease of attempt {attempt} had lapsed"
        lapsed = event.kind == "lease_lapsed"
        if new is None and event.kind != "note" and status not in (None, *HELD):
            yield f"{here}{told} was written while no worker held the job ({status})"
        if (of_attempt := event.data.get("attempt")) is not None:
            due = None if attempt is None else attempt + (new == "running")
            if due not in (None, of_attempt):
                yield f"{here}{told} of attempt {of_attempt} instead of {due}"
            if new == "running" or attempt is None:
                attempt = of_attempt
        if new is not None:
            again = event.data.get("reason") == ASKED_FOR
            if status in FINISHED and not again:
                yield f"{here}the job went on to {new} after its end ({status})"
            elif status is not None and new not in NEXT[status]:
                yield f"{here}{new} cannot follow {status}"
            status = new
    for told, of_record, of_events in (
        ("is", history.status, status),
        ("is at attempt", history.attempt, attempt),
        ("has events up to", history.event_count, number),
    ):
        if of_events not in (None, of_record):
            yield f"job {history.job_id}: by its record it {told} {of_record}, by its events {of_events}"
    for earlier, later in pairwise([*history.logged_by, history.attempt]):
        if later < earlier:
            yield f"job {history.job_id}: a log line of attempt {earlier} comes before attempt {later}"
    if must_end and history.status not in FINISHED:
        yield f"job {history.job_id}: it was accepted and has not ended ({history.status})"


def read_history(session: Session, job: Job) -> JobHistory:
    """Read a job's history."""
    events = session.execute(
        select(JobEvent.number, JobEvent.kind, JobEvent.data).where(JobEvent.job_id == job.id).order_by(JobEvent.number)
    )
    lines = select(JobLogLine.attempt).where(JobLogLine.job_id == job.id).order_by(JobLogLine.number)
    return JobHistory(
        job_id=job.id,
        status=job.status,
        attempt=job.attempt,
        event_count=job.event_count,
        events=[Event(*row) for row in events.all()],
        logged_by=session.scalars(lines).all(),
    )


def faults(session: Session) -> Iterator[str]:
    """Yield every fault in the database."""
    for job in session.scalars(select(Job).order_by(Job.id)).all():
        yield from job_faults(read_history(session, job))
    generate_jobs = session.scalars(select(GenerateJob).order_by(GenerateJob.id)).all()
    for number, progress in progress_of(session, generate_jobs).items():
        if progress.status in UNFINISHED:
            yield f"generate job {number}: it was accepted and has not ended ({progress.status})"
    with open(os.devnull, "wb") as nowhere:
        for alias in session.scalars(select(ModelAlias)).all():
            checkpoint = session.get_one(Checkpoint, alias.checkpoint_id)
            at = f"{checkpoint.model.name}@{alias.alias} (version {checkpoint.version})"
            if checkpoint.artifact_digest is None:
                yield f"{at}: its weights were deleted"
                continue
            try:
                Artifacts(session).copy_to(checkpoint.artifact_digest, nowhere)
            except (ArtifactMissing, ArtifactCorrupted) as error:
                yield f"{at}: {error}"


def main() -> int:
    """Print the faults; return 1 if there are any."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("database_url", metavar="DATABASE_URL")
    database = Database(arguments.parse_args().database_url)
    with database.session() as session:
        found = list(faults(session))
        jobs = len(session.scalars(select(Job.id)).all())
        events = len(session.scalars(select(JobEvent.number)).all())
    print(*found, f"{jobs} jobs, {events} events, {len(found)} faults", sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
