"""The reconciler returns lost jobs to the queue and deletes what nobody needs. Two of them at once do no harm.

Started as `python -m darkroom.worker.reconciler`. It needs PostgreSQL alone. An error ends a round, not the process.
"""

import logging
import math
import signal
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar, get_args

from sqlalchemy.orm import Session

from darkroom.model.user_error import ending_in_one_line
from darkroom.store.artifacts import collect_artifacts
from darkroom.store.database import DATABASE_ERRORS, Database
from darkroom.store.generate_repository import assemble_what_is_ready
from darkroom.store.idempotency import purge_idempotency_keys
from darkroom.store.job_repository import fail_unservable, requeue_lapsed
from darkroom.store.operator_settings import read_settings
from darkroom.store.retention import Part, expire
from darkroom.store.tables import Job
from darkroom.telemetry.log_fields import log_fields
from darkroom.telemetry.logs import LogSettings, set_up_logs
from darkroom.telemetry.loops import surviving
from darkroom.worker.settings import ReconcilerSettings

ENDING = (signal.SIGTERM, signal.SIGINT)
MISSED_BEATS = 3
"""After so many missed beats the reconciler takes a worker for dead."""

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger("darkroom.worker.reconciler")  # __name__ would be __main__ when this module is the program


def reconcile(database: Database, settings: ReconcilerSettings) -> None:
    """Do one round. Each part is a transaction of its own; when one fails, the others still run."""
    for job in _try(database, requeue_lapsed) or ():
        _tell(job, "the lease of its worker had lapsed")
    patience_seconds, alive_seconds = settings.device_patience_seconds, MISSED_BEATS * settings.beat_seconds
    for job in _try(database, fail_unservable, patience_seconds, alive_seconds) or ():
        _tell(job, "no worker has the device that it needs")
    for part in get_args(Part):
        if math.isfinite(days := settings.days(part)):
            for job, records in (_try(database, expire, part, days) or {}).items():
                with log_fields(job_id=job.id):
                    log.info("job %d: %d of its %s deleted, %g days after its end", job.id, records, part, days)
    for task in (assemble_what_is_ready, collect_artifacts, purge_idempotency_keys):
        _try(database, task)


def _try(database: Database, part: Callable[Concatenate[Session, P], T], *rest: P.args, **named: P.kwargs) -> T | None:
    """Return what the part returns. Log a failure and return None."""
    try:
        with database.session() as session:
            return part(session, *rest, **named)
    except DATABASE_ERRORS as error:
        log.warning("%s: %s", part.__name__, str(error).splitlines()[0])
    except Exception:
        log.exception("%s has failed", part.__name__)
    return None


def _tell(job: Job, what: str) -> None:
    with log_fields(request_id=job.request_id, job_id=job.id, attempt=job.attempt):
        log.warning("job %d: %s", job.id, what)


def main() -> None:
    """Reconcile on a timer until SIGTERM or Ctrl-C."""
    with ending_in_one_line():
        settings = read_settings(ReconcilerSettings)
        set_up_logs("reconciler", read_settings(LogSettings))
    # The signals stay blocked until the wait between two rounds takes one. No handler interrupts a round.
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    database = settings.database("reconciler", settings.pool())
    log.info("the reconciler is ready")
    ended = None
    while ended is None:
        with surviving("reconciler"):
            reconcile(database, settings)
            if settings.alive_file is not None:
                settings.alive_file.touch()
        ended = signal.sigtimedwait(ENDING, settings.reconcile_seconds)
    log.info("the reconciler ends")


if __name__ == "__main__":
    main()
