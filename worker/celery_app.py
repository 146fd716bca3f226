"""The worker, run by

    celery --app worker.celery_app worker --pool solo

A message is only a hint that there is work: whoever takes one claims the most urgent jobs from the database, so a lost,
repeated or late message changes nothing. The worker also looks for jobs by itself every few seconds, so that it needs
Redis for speed only. Jobs run in this process, one at a time, by a light supervisor; meanwhile it takes no hint.
"""

import logging
import os
import sys
import threading
from typing import Any

import celery.apps.worker
from celery import bootsteps
from celery.signals import celeryd_init, setup_logging, worker_init, worker_shutdown, worker_shutting_down
from sqlalchemy.exc import DBAPIError

from model.user_error import ending_in_one_line
from store.database import Database
from store.hints import RUN_JOBS, celery_app
from store.operator_settings import read_settings
from store.worker_repository import see_worker
from telemetry.logs import LogSettings, line_of, set_up_logs
from telemetry.tracing import TracingMissing, flush_spans, require_tracing, set_up_tracing
from worker.device_check import DeviceCheck
from worker.metrics import serve_metrics
from worker.settings import WorkerSettings
from worker.supervisor import Supervisor

REFUSED_SECONDS = 5.0
"""Between two tries of a broker that was lost or refuses what it is asked."""

log = logging.getLogger(__name__)
with ending_in_one_line(TracingMissing):
    settings = read_settings(WorkerSettings)
    read_settings(LogSettings)
    require_tracing()  # refused here, since Celery goes on whatever a signal's receiver raises
_stopping = threading.Event()
_one_at_a_time = threading.Lock()
_device = DeviceCheck(settings.tested_devices())
_database = Database(settings.database_url, pool_connections=2, artifacts_url=settings.artifacts_url)
_supervisor = Supervisor(settings, _database, _stopping.is_set, _device)

app = celery_app(settings.redis_url)
app.conf.update(
    worker_hijack_root_logger=False,
    worker_prefetch_multiplier=1,
    worker_disable_prefetch=True,
    # Nothing is published, since no worker needs another; and a Redis that is full refuses what is.
    worker_send_task_events=False,
    worker_enable_remote_control=False,
    broker_channel_error_retry=True,  # a Redis that is full or read-only answers every command with an error
    worker_cancel_long_running_tasks_on_connection_loss=True,  # Celery warns without it; for late acknowledgement alone
)


def _pause(*_: Any) -> None:
    """Before Celery begins again: a broker that refuses every command would otherwise be asked without a rest."""
    _stopping.wait(REFUSED_SECONDS)


def _in_one_line(record: logging.LogRecord) -> bool:
    """Celery tells each lost connection with a traceback of its own insides."""
    if record.exc_info:
        record.msg, record.args = f"{record.getMessage().strip()} {record.exc_info[1]}", ()
        record.exc_info = None
    return True


def run_jobs() -> None:
    """Run jobs until none is left that this worker can run."""
    with _one_at_a_time:
        try:
            while not _stopping.is_set() and _supervisor.run_next():
                pass
        except DBAPIError as error:
            log.warning("the database is away: %s", str(error).splitlines()[0])


def _look() -> None:
    """A hint may be lost, and Redis away: look for jobs every now and then."""
    while not _stopping.wait(settings.beat_seconds):
        try:
            run_jobs()
        except Exception:
            log.exception("a look for jobs has failed")


def _beat() -> None:
    """Tell the database every now and then that this worker lives, and how its device is."""
    database = Database(settings.database_url, pool_connections=1)
    told: str | None = None
    while not _stopping.is_set():
        if _device.fault != told:
            told = _device.fault
            log.warning("no job is claimed: %s", told) if told else log.info("the device works again")
        try:
            with database.session() as session:
                see_worker(session, settings.worker_name, settings.worker_device, settings.worker_devices, told)
        except DBAPIError as error:
            log.warning("the database is away: %s", str(error).splitlines()[0])
        _stopping.wait(settings.beat_seconds)


_looking = threading.Thread(target=_look, name="look", daemon=True)


def _begin(**_: Any) -> None:
    """Before the broker is asked for anything, and whether or not it answers."""
    set_up_tracing("worker")
    _device.passes()
    threading.Thread(target=_beat, name="alive", daemon=True).start()
    _looking.start()
    if settings.metrics_port is not None:
        serve_metrics(settings, settings.metrics_port, _device)


def _stop(**_: Any) -> None:
    """A warm shutdown hands the running job back: it is asked to store a checkpoint, and is queued again."""
    _stopping.set()


def _end(**_: Any) -> None:
    """Also when Celery ends by itself: the process goes on until the job of a look is handed back."""
    _stopping.set()
    _looking.join()
    flush_spans()


def _set_up_logs(instance: Any, **_: Any) -> None:
    """Before Celery says anything: its lines go the way of all others, and what it would print is one of them."""
    set_up_logs("worker")
    logging.getLogger("celery.worker.consumer.consumer").addFilter(_in_one_line)
    instance.quiet = True  # no banner
    celery.apps.worker.safe_say = _say


def _set_level(loglevel: int, **_: Any) -> None:
    """The command's level is Celery's own; Celery sets up nothing more where this signal is taken."""
    logging.getLogger("celery").setLevel(loglevel)


def _say(message: str, *_: object) -> None:
    """In Celery's signal handlers, where a logger may be in the middle of a line."""
    os.write(sys.stderr.fileno(), f"{line_of(message, 'celery.worker')}\n".encode())


app.task(name=RUN_JOBS)(run_jobs)
app.steps["consumer"].add(type("Pause", (bootsteps.StartStopStep,), {"stop": _pause}))
celeryd_init.connect(_set_up_logs)
setup_logging.connect(_set_level)
worker_init.connect(_begin)
worker_shutting_down.connect(_stop)
worker_shutdown.connect(_end)
