"""The reconciler: brings what was lost back on its way. Harmless when two run at once."""

import logging

from store.artifacts import collect_artifacts
from store.counters import count
from store.database import Database
from store.generate_repository import assemble_what_is_ready
from store.hints import Hints
from store.idempotency import purge_idempotency_keys
from store.job_repository import fail_unservable, jobs_to_hint, mark_hinted, requeue_lapsed
from store.tables import Job
from telemetry.log_fields import log_fields
from worker.settings import WorkerSettings

MISSED_BEATS = 3
"""After so many a worker is taken for dead."""

log = logging.getLogger(__name__)


def reconcile(database: Database, hints: Hints, settings: WorkerSettings) -> None:
    """One round. Each part is a transaction of its own, so that one that fails does not hold up the others."""
    with database.session() as session:
        lapsed = requeue_lapsed(session)
    for job in lapsed:
        _tell(job, "the lease of its worker had lapsed")
    with database.session() as session:
        unservable = fail_unservable(session, settings.device_patience_seconds, MISSED_BEATS * settings.beat_seconds)
    for job in unservable:
        _tell(job, "no worker has the device that it needs")
    with database.session() as session:
        assemble_what_is_ready(session)
    _send_hints(database, hints, settings.hint_seconds)
    with database.session() as session:
        collect_artifacts(session)
        purge_idempotency_keys(session)


def _tell(job: Job, what: str) -> None:
    with log_fields(request_id=job.request_id, job_id=job.id, attempt=job.attempt):
        log.warning("job %d: %s", job.id, what)


def _send_hints(database: Database, hints: Hints, hint_seconds: float) -> None:
    """Hint at what nobody has taken up; a hint that gets lost again is sent again later."""
    with database.session() as session:
        job_ids = jobs_to_hint(session, hint_seconds)
    sent = [job_id for job_id in job_ids if hints.send()]
    if sent:
        with database.session() as session:
            mark_hinted(session, sent)
            count(session, "hints_sent_again", "", len(sent))
