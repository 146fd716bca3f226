"""The worker, `python -m darkroom.worker.celery_app`: a Celery worker over one supervisor.

A message is only a hint that there is work: whoever takes one claims the most urgent jobs from the database, so a lost,
repeated or late message changes nothing. The worker also looks for jobs by itself every few seconds, so that it needs
Redis for speed only. Jobs run in this process, one at a time, by a light supervisor; meanwhile it takes no hint.
"""

import logging
import os
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import celery.apps.worker
from celery import Celery, bootsteps
from celery.signals import (
    celeryd_init,
    setup_logging,
    task_revoked,
    worker_init,
    worker_shutdown,
    worker_shutting_down,
)
from sqlalchemy.exc import DBAPIError

from darkroom.model.user_error import ending_in_one_line
from darkroom.store.database import Database
from darkroom.store.hints import RUN_JOBS, celery_app
from darkroom.store.operator_settings import read_settings
from darkroom.store.worker_repository import see_worker
from darkroom.telemetry.logs import LogSettings, line_of, set_up_logs
from darkroom.telemetry.tracing import TracingMissing, flush_spans, require_tracing, set_up_tracing
from darkroom.worker.device_check import DeviceCheck
from darkroom.worker.prometheus import serve_metrics
from darkroom.worker.settings import WorkerSettings
from darkroom.worker.supervisor import WORK, Supervisor

REFUSED_SECONDS = 5.0
"""Between two tries of a broker that was lost or refuses what it is asked."""

log = logging.getLogger("darkroom.worker.celery_app")  # also where this module is the program


class Worker:
    """Runs jobs, one at a time. work: as `worker.supervisor.Supervisor` has it."""

    def __init__(self, settings: WorkerSettings, work: Sequence[str] = WORK) -> None:
        self._settings = settings
        self._stopping = threading.Event()
        self._one_at_a_time = threading.Lock()
        self._device = DeviceCheck(settings.tested_devices())
        database = Database(settings.database_url, pool_connections=2, artifacts_url=settings.artifacts_url)
        self._supervisor = Supervisor(settings, database, self._stopping.is_set, self._device, work)
        self._looking = threading.Thread(target=self.look, name="look", daemon=True)

    def run(self) -> int:
        """Take hints until the process is asked to end; returns the exit code."""
        receivers = (
            (celeryd_init, _set_up_logs),
            (setup_logging, _set_level),
            (worker_init, self._begin),
            (worker_shutting_down, self._stop),
            (worker_shutdown, self._end),
            (task_revoked, self._expired),
        )
        for signal, receiver in receivers:
            signal.connect(receiver)
        # Workers do not look for each other: nothing here needs it, and it would write to Redis.
        alone = {"without_gossip": True, "without_mingle": True, "without_heartbeat": True}
        worker = self._app().Worker(pool_cls="solo", loglevel=logging.INFO, **alone)
        worker.start()
        return int(worker.exitcode or 0)

    def run_jobs(self) -> None:
        """Run jobs until none is left that this worker can run."""
        with self._one_at_a_time:
            try:
                while not self._stopping.is_set() and self._supervisor.run_next():
                    pass
            except DBAPIError as error:
                log.warning("the database is away: %s", str(error).splitlines()[0])

    def look(self) -> None:
        """A hint may be lost, and Redis away: look for jobs every now and then."""
        while not self._stopping.wait(self._settings.beat_seconds):
            try:
                self.run_jobs()
            except Exception:
                log.exception("a look for jobs has failed")

    def _app(self) -> Celery:
        app = celery_app(self._settings.redis_url)
        app.conf.update(
            worker_hijack_root_logger=False,
            worker_prefetch_multiplier=1,
            worker_disable_prefetch=True,
            # Nothing is published, since no worker needs another; and a Redis that is full refuses what is.
            worker_send_task_events=False,
            worker_enable_remote_control=False,
            broker_channel_error_retry=True,  # a Redis that is full or read-only answers every command with an error
            # Celery warns without it; for late acknowledgement alone
            worker_cancel_long_running_tasks_on_connection_loss=True,
        )
        app.task(name=RUN_JOBS)(self.run_jobs)
        app.steps["consumer"].add(type("Pause", (bootsteps.StartStopStep,), {"stop": self._pause}))
        return app

    def _pause(self, *_: Any) -> None:
        """Before Celery begins again: a broker that refuses every command would otherwise be asked without a rest."""
        self._stopping.wait(REFUSED_SECONDS)

    def _beat(self) -> None:
        """Tell the database every now and then that this worker lives, and how its device is."""
        settings, device = self._settings, self._device
        database = Database(settings.database_url, pool_connections=1)
        told: str | None = None
        while not self._stopping.is_set():
            if device.fault != told:
                told = device.fault
                log.warning("no job is claimed: %s", told) if told else log.info("the device works again")
            try:
                with database.session() as session:
                    see_worker(session, settings.worker_name, settings.worker_device, settings.worker_devices, told)
            except DBAPIError as error:
                log.warning("the database is away: %s", str(error).splitlines()[0])
            self._stopping.wait(settings.beat_seconds)

    def _expired(self, **_: Any) -> None:
        """A hint that has expired says that there is work, too: while it waited, no other one was sent."""
        self.run_jobs()

    def _begin(self, **_: Any) -> None:
        """Before the broker is asked for anything, and whether or not it answers."""
        set_up_tracing("worker")
        self._device.passes()
        threading.Thread(target=self._beat, name="alive", daemon=True).start()
        self._looking.start()
        if self._settings.metrics_port is not None:
            serve_metrics(self._settings, self._settings.metrics_port, self._device)

    def _stop(self, **_: Any) -> None:
        """A warm shutdown hands the running job back: it is asked to store a checkpoint, and is queued again."""
        self._stopping.set()

    def _end(self, **_: Any) -> None:
        """Also when Celery ends by itself: the process goes on until the job of a look is handed back."""
        self._stopping.set()
        self._looking.join()
        flush_spans()


def _set_up_logs(instance: Any, **_: Any) -> None:
    """Before Celery says anything: its lines go the way of all others, and what it would print is one of them."""
    set_up_logs("worker")
    logging.getLogger("celery.worker.consumer.consumer").addFilter(_in_one_line)
    instance.quiet = True  # no banner
    celery.apps.worker.safe_say = _say


def _in_one_line(record: logging.LogRecord) -> bool:
    """Celery tells each lost connection with a traceback of its own insides."""
    if record.exc_info:
        record.msg, record.args = f"{record.getMessage().strip()} {record.exc_info[1]}", ()
        record.exc_info = None
    return True


def _set_level(loglevel: int, **_: Any) -> None:
    """The command's level is Celery's own; Celery sets up nothing more where this signal is taken."""
    logging.getLogger("celery").setLevel(loglevel)


def _say(message: str, *_: object) -> None:
    """In Celery's signal handlers, where a logger may be in the middle of a line."""
    os.write(sys.stderr.fileno(), f"{line_of(message, 'celery.worker')}\n".encode())


def main(make: Callable[[WorkerSettings], Worker] = Worker) -> None:
    """Be the worker until SIGTERM or Ctrl-C."""
    with ending_in_one_line(TracingMissing):
        settings = read_settings(WorkerSettings)
        read_settings(LogSettings)
        require_tracing()  # refused here, since Celery goes on whatever a signal's receiver raises
    sys.exit(make(settings).run())


if __name__ == "__main__":
    main()
