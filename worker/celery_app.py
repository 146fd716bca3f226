"""The Celery application. Two commands run it:

    celery --app worker.celery_app worker --queues darkroom                              runs jobs, one child a device
    celery --app worker.celery_app worker --queues darkroom.reconcile --pool solo --beat      reconciles, on a timer

The second is a process of its own because a child of the first is busy for as long as its job lasts. A message is only
a hint: whatever a child takes, it claims the most urgent job from the database, so a lost, repeated or late message
changes nothing.
"""

import logging
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Mapping
from functools import cache
from typing import Any

import celery.apps.worker
from celery.signals import (
    beat_embedded_init,
    celeryd_init,
    setup_logging,
    worker_process_init,
    worker_process_shutdown,
    worker_ready,
    worker_shutting_down,
)
from sqlalchemy.exc import OperationalError

from model.user_error import ending_in_one_line
from store.database import Database
from store.hints import QUEUE, RUN_NEXT_JOB, Hints, celery_app
from store.operator_settings import read_settings
from store.worker_repository import see_worker
from telemetry.logs import LogSettings, line_of, set_up_logs
from telemetry.tracing import TracingMissing, flush_spans, require_tracing, set_up_tracing
from worker.metrics import serve_metrics
from worker.parent_death import die_with
from worker.reconciler import reconcile
from worker.settings import WorkerSettings
from worker.supervisor import Supervisor

RECONCILE = "darkroom.reconcile"
RECONCILE_QUEUE = f"{QUEUE}.reconcile"

log = logging.getLogger(__name__)
with ending_in_one_line(TracingMissing):
    settings = read_settings(WorkerSettings)
    read_settings(LogSettings)
    require_tracing()  # refused here, since Celery goes on whatever a signal's receiver raises
_main_process = os.getpid()  # what its children, made by fork, remember it by
_stopping = multiprocessing.Event()
"""Set in the main process, seen by the pool's children, which inherit it by fork."""

app = celery_app(settings.redis_url)
app.conf.update(
    task_acks_late=False,  # a job's fate is in the database, not in the message
    worker_prefetch_multiplier=1,
    worker_disable_prefetch=True,
    worker_concurrency=1,
    worker_hijack_root_logger=False,
    worker_send_task_events=False,
    beat_schedule={
        "reconcile": {
            "task": RECONCILE,
            "schedule": settings.reconcile_seconds,
            "options": {"queue": RECONCILE_QUEUE, "expires": settings.reconcile_seconds},
        }
    },
)


@cache
def _database() -> Database:
    """One small pool a process, made after the fork."""
    return Database(settings.database_url, pool_connections=2, artifacts_url=settings.artifacts_url)


def run_next_job() -> None:
    """Run jobs until none is left that this worker can run."""
    supervisor = Supervisor(settings, _database(), _stopping.is_set)
    while not _stopping.is_set() and supervisor.run_next():
        pass


def run_reconciler() -> None:
    """One round of the reconciler."""
    reconcile(_database(), Hints(app, settings.hint_seconds), settings)


def _runs_jobs() -> bool:
    """Whether this is a worker; else it reconciles."""
    return QUEUE in app.amqp.queues.consume_from


def _beat(**_: Any) -> None:
    """Tell the database every now and then that this worker lives; a reconciler runs no jobs and is none."""
    if not _runs_jobs():
        return

    def tell() -> None:
        database = Database(settings.database_url, pool_connections=1)
        while not _stopping.is_set():
            try:
                with database.session() as session:
                    see_worker(session, settings.worker_name, settings.worker_device, settings.worker_devices)
            except OperationalError as error:
                log.warning("the database is away: %s", error)
            time.sleep(settings.beat_seconds)

    threading.Thread(target=tell, name="alive", daemon=True).start()


def _serve_metrics(**_: Any) -> None:
    """On the worker's port; a reconciler, to which the same environment may name it, must not be there first."""
    if _runs_jobs() and settings.metrics_port is not None:
        serve_metrics(settings, settings.metrics_port)


def _trace(**_: Any) -> None:
    """In a pool's child, after the fork: the thread that sends spans would not live through it."""
    set_up_tracing("worker")


def _send_spans(**_: Any) -> None:
    """A pool's child ends without the interpreter's own good-byes."""
    flush_spans()


def _stop(**_: Any) -> None:
    """A warm shutdown hands running jobs back: each writes a checkpoint and is queued again."""
    _stopping.set()


def _die_with_the_main_process(**_: Any) -> None:
    """A pool's child at work would notice its end with the job's only, and the timer would never."""
    if os.getpid() != _main_process:  # the reconciler's pool is the main process itself
        die_with(_main_process)


def _set_up_logs(instance: Any, options: Mapping[str, Any], **_: Any) -> None:
    """Before Celery says anything: its lines go the way of all others, and what it would print is one of them."""
    set_up_logs("worker" if QUEUE in (options.get("queues") or [QUEUE]) else "reconciler")
    instance.quiet = True  # no banner
    celery.apps.worker.safe_say = _say


def _set_level(loglevel: int, **_: Any) -> None:
    """The command's level is Celery's own; Celery sets up nothing more where this signal is taken."""
    logging.getLogger("celery").setLevel(loglevel)


def _say(message: str, *_: object) -> None:
    """In Celery's signal handlers, where a logger may be in the middle of a line."""
    os.write(sys.stderr.fileno(), f"{line_of(message, 'celery.worker')}\n".encode())


app.task(name=RUN_NEXT_JOB)(run_next_job)
app.task(name=RECONCILE)(run_reconciler)
celeryd_init.connect(_set_up_logs)
setup_logging.connect(_set_level)
worker_process_init.connect(_die_with_the_main_process)
worker_process_init.connect(_trace)
worker_process_shutdown.connect(_send_spans)
beat_embedded_init.connect(_die_with_the_main_process)
worker_ready.connect(_beat)
worker_ready.connect(_serve_metrics)
worker_shutting_down.connect(_stop)
