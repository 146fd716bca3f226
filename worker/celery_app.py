"""The worker, `python -m darkroom.worker.celery_app`: a Celery worker over one supervisor.

A message is only a hint that there is work: the worker that takes it claims the most urgent jobs from the database. So
a lost, repeated or late message changes nothing. The worker also looks for jobs by itself every few seconds, and needs
Redis for speed only. A light supervisor in this process runs one job at a time, and takes no hint meanwhile.
"""

import logging
import os
import sys
import threading
import time
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

from darkroom.model.extras import lacking
from darkroom.model.user_error import ending_in_one_line
from darkroom.store.database import DATABASE_ERRORS
from darkroom.store.hints import RUN_JOBS, celery_app
from darkroom.store.operator_settings import read_settings
from darkroom.store.worker_repository import see_worker
from darkroom.telemetry.logs import LogSettings, line_of, set_up_logs
from darkroom.telemetry.loops import start_loop
from darkroom.telemetry.tracing import TracingMissing, flush_spans, require_tracing, set_up_tracing
from darkroom.worker.device_check import DeviceCheck
from darkroom.worker.job_folder import remove_left_folders
from darkroom.worker.memory_record import MemoryRecord
from darkroom.worker.own_name import take_name
from darkroom.worker.prometheus import serve_metrics
from darkroom.worker.settings import WorkerSettings
from darkroom.worker.speed_check import PROBE, SpeedCheck
from darkroom.worker.supervisor import WORK, Supervisor

REFUSED_SECONDS = 5.0
PAUSE_TICK_SECONDS = 0.2
"""Between two tries to reach a broker that is away or refuses commands."""

MEMORY_SECONDS = 1.0
"""Between two records of the memory in use."""

log = logging.getLogger("darkroom.worker.celery_app")  # __name__ would be __main__ when this module is the program


class Worker:
    """Runs jobs, one at a time. work: see `worker.supervisor.Supervisor`."""

    def __init__(self, settings: WorkerSettings, work: Sequence[str] = WORK) -> None:
        self._settings = settings
        self._stopping = threading.Event()
        self._one_at_a_time = threading.Lock()
        self._device = DeviceCheck(settings.tested_devices())
        self._database = settings.database("worker", settings.pool())
        self._reached = False
        self._told: str | None = None
        self._speed = SpeedCheck(PROBE if settings.measure_speed else None)
        self._supervisor = Supervisor(
            settings, self._database, self._stopping.is_set, self._device, work, self._speed.interrupt
        )
        self._looking: threading.Thread | None = None
        self._memory = MemoryRecord(settings.worker_name)
        self._keeping: threading.Thread | None = None

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
        """Run jobs until this worker finds none that it can run."""
        with self._one_at_a_time:
            try:
                while not self._stopping.is_set() and self._supervisor.run_next():
                    pass
                if not self._stopping.is_set() and self._device.fault is None:
                    self._speed.begin()
            except DATABASE_ERRORS as error:
                log.warning("the database is away: %s", str(error).splitlines()[0])

    def look(self) -> None:
        """Look for jobs after a beat, because a hint may be lost and Redis may be away."""
        if not self._stopping.wait(self._settings.beat_seconds):
            self.run_jobs()

    def _app(self) -> Celery:
        app = celery_app(self._settings.redis_url)
        app.conf.update(
            worker_hijack_root_logger=False,
            worker_prefetch_multiplier=1,
            worker_disable_prefetch=True,
            # Publish nothing: no worker needs another one, and a full Redis refuses every write.
            worker_send_task_events=False,
            broker_channel_error_retry=True,  # a Redis that is full or read-only answers every command with an error
            # without it Celery warns; it concerns late acknowledgement only
            worker_cancel_long_running_tasks_on_connection_loss=True,
        )
        app.task(name=RUN_JOBS)(self.run_jobs)
        app.steps["consumer"].add(type("Pause", (bootsteps.StartStopStep,), {"stop": self._pause}))
        return app

    def _pause(self, *_: Any) -> None:
        """Wait before Celery begins again, because it would ask a broker that refuses every command without a pause.

        The main thread runs this. It must not wait for the event that `_stop`, called by a signal handler, sets: the
        handler would wait for the event's lock, which the interrupted wait may hold.
        """
        until = time.monotonic() + REFUSED_SECONDS
        while not self._stopping.is_set() and time.monotonic() < until:
            time.sleep(PAUSE_TICK_SECONDS)

    def beat(self) -> None:
        """Tell the database that this worker lives, and whether its device works. Then wait until the next beat."""
        settings, fault = self._settings, self._device.fault
        if fault != self._told:
            self._told = fault
            log.warning("no job is claimed: %s", fault) if fault else log.info("the device works again")
        try:
            with self._database.session() as session:
                own = (settings.worker_name, settings.worker_device, settings.worker_devices)
                see_worker(session, *own, fault, self._speed.rates, lacking())
            self._reached = True
        except DATABASE_ERRORS as error:
            self._reached = False
            log.warning("the database is away: %s", str(error).splitlines()[0])
        self._stopping.wait(settings.beat_seconds)

    def _expired(self, **_: Any) -> None:
        """Treat an expired hint as a hint: while it waited, nobody sent another one."""
        self.run_jobs()

    def _begin(self, **_: Any) -> None:
        """Start the beat before anything is asked of the broker, which may not answer."""
        set_up_tracing("worker")
        remove_left_folders()
        self._memory.tell()
        self._keeping = start_loop("memory", self._keep_memory, self._stopping.is_set)
        self._device.passes()
        start_loop("alive", self.beat, self._stopping.is_set)
        self._looking = start_loop("look", self.look, self._stopping.is_set)
        if self._device.fault is None:
            self._speed.begin()
        if self._settings.metrics_port is not None:
            serve_metrics(self._settings, self._settings.metrics_port, self._device, lambda: self._reached)

    def _keep_memory(self) -> None:
        self._memory.keep()
        self._stopping.wait(MEMORY_SECONDS)

    def _stop(self, **_: Any) -> None:
        """At a warm shutdown, hand the running job back: it stores a checkpoint and is queued again."""
        self._stopping.set()

    def _end(self, **_: Any) -> None:
        """Stop when Celery ends by itself, too. The process lives until its job is handed back."""
        self._stopping.set()
        self._speed.interrupt()
        if self._looking is not None:
            self._looking.join()
        if self._keeping is not None:
            self._keeping.join()
            self._memory.end()
        flush_spans()


def _set_up_logs(instance: Any, **_: Any) -> None:
    """Set up logging before Celery writes: its lines, and what it would print, go into the same log."""
    set_up_logs("worker")
    logging.getLogger("celery.worker.consumer.consumer").addFilter(_in_one_line)
    instance.quiet = True  # no banner
    celery.apps.worker.safe_say = _say


def _in_one_line(record: logging.LogRecord) -> bool:
    """Leave out the traceback of Celery's own code that it logs for each lost connection."""
    if record.exc_info:
        record.msg, record.args = f"{record.getMessage().strip()} {record.exc_info[1]}", ()
        record.exc_info = None
    return True


def _set_level(loglevel: int, **_: Any) -> None:
    """Set Celery's level from its command line. With a receiver of this signal Celery sets up no logging itself."""
    logging.getLogger("celery").setLevel(loglevel)


def _say(message: str, *_: object) -> None:
    """Write a line from one of Celery's signal handlers, where calling a logger could deadlock."""
    os.write(sys.stderr.fileno(), f"{line_of(message, 'celery.worker')}\n".encode())


def main(make: Callable[[WorkerSettings], Worker] = Worker) -> None:
    """Run the worker until SIGTERM or Ctrl-C."""
    with ending_in_one_line(TracingMissing):
        settings = read_settings(WorkerSettings)
        settings.worker_name = take_name(settings.worker_name, settings.database_url)
        os.environ["DARKROOM_WORKER_NAME"] = settings.worker_name  # for work processes
        read_settings(LogSettings)
        require_tracing()  # checked here, because Celery ignores what a signal's receiver raises
    sys.exit(make(settings).run())


if __name__ == "__main__":
    main()
