"""The supervisor claims a job, starts its work process, renews the lease, passes on a request to stop, writes the end.

It never imports torch: it must stay small, and outlive a work process that runs out of memory.
"""

import contextlib
import logging
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from opentelemetry import trace
from opentelemetry.trace import SpanKind
from sqlalchemy.orm import Session

from darkroom.store.database import DATABASE_ERRORS, Database
from darkroom.store.job_repository import (
    Failure,
    Lease,
    LeaseLost,
    cancel_requested,
    claim_job,
    crash,
    fail,
    hold,
    is_due_to_another_key,
    job_waits,
    renew,
    stop,
)
from darkroom.store.run_repository import append_log
from darkroom.store.tables import Job
from darkroom.telemetry.log_fields import log_fields
from darkroom.telemetry.loops import start_loop
from darkroom.telemetry.tracing import TRACEPARENT, current_traceparent, span
from darkroom.worker.device_check import DeviceCheck
from darkroom.worker.job_folder import job_folder
from darkroom.worker.job_kinds import KINDS
from darkroom.worker.outcome import Outcome, read_outcome, read_pid
from darkroom.worker.settings import WorkerSettings
from darkroom.worker.work_output import relayed

TICK_SECONDS = 0.2
LOG_LINES_HELD = 1000
BEATS_OF_PATIENCE = 2
"""After so many beats, a job that still waits for a worker finds none idle."""
WORK = (sys.executable, "-P", "-m", "darkroom.worker.entry")

log = logging.getLogger(__name__)


class Supervisor:
    """Runs one job at a time. stopping: set when the worker must end; it then hands its job back.

    device: while its test fails, the supervisor claims nothing. work: the command of a work process, to which the
    arguments of `worker.entry` are added.
    on_claim: called when a job was claimed, before its work process starts.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        database: Database,
        stopping: Callable[[], bool],
        device: DeviceCheck,
        work: Sequence[str] = WORK,
        on_claim: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings = settings
        self._database = database
        self._stopping = stopping
        self._on_claim = on_claim
        self._device = device
        self._work = work

    def run_next(self) -> bool:
        """Claim a job and run it to its end; returns False when there is none that this worker can run now."""
        if not self._device.passes():
            return False
        job = self._claim()
        if job is None:
            return False
        self._on_claim()
        facts = {
            "darkroom.job_id": job.id,
            "darkroom.attempt": job.attempt,
            "darkroom.kind": job.kind,
            "darkroom.model": job.model_name,
            "darkroom.request_id": job.request_id,
        }
        with (
            span("job attempt", facts, parent=job.traceparent, kind=SpanKind.CONSUMER),
            log_fields(request_id=job.request_id, job_id=job.id, attempt=job.attempt),
        ):
            self._see_through(job)
        return True

    def _claim(self) -> Job | None:
        """Claim a job. Look again while a job waits whose record another transaction has locked."""
        claimant = self._settings.claimant()
        while not self._stopping():
            with self._database.reading() as session:
                if not job_waits(session, claimant):
                    return None
            with self._database.session() as session:
                job = claim_job(session, claimant, self._settings.lease_seconds)
                if job is not None:
                    return job
            time.sleep(TICK_SECONDS)
        return None

    def _see_through(self, job: Job) -> None:
        log.info("job %d, attempt %d: %s %s", job.id, job.attempt, job.kind, job.model_name)
        with ExitStack() as until_done:
            try:
                folder = until_done.enter_context(job_folder(job.id))
                run = _Run(job, folder, self._settings, self._database, self._device, self._work)
            except OSError as error:  # a full disk, or too many processes
                detail = f"worker {self._settings.worker_name} could not start the work: {error}"
                log.warning("job %d: %s", job.id, detail)
                with self._database.session() as session:
                    crash(session, Lease(job.id, job.attempt), Failure("crashed", detail))
                return
            try:
                run.watch(self._stopping)
                run.settle()
            except LeaseLost as lost:
                log.warning("%s; its work is dropped", lost)
            finally:
                run.kill()


class _Run:
    """One attempt at a job: its work process, its lease and its log."""

    def __init__(
        self,
        job: Job,
        folder: Path,
        settings: WorkerSettings,
        database: Database,
        device: DeviceCheck,
        work: Sequence[str],
    ) -> None:
        self._lease = Lease(job.id, job.attempt)
        self._kind = KINDS[job.kind]
        self._folder = folder
        self._settings = settings
        self._database = database
        self._device = device
        self._renewed = time.monotonic()
        self._began = time.monotonic()
        self._out_of_time = False
        self._due = False
        self._asked_to_stop: float | None = None
        self._told = False
        self._killed_late = False
        self._lines: deque[str] = deque(maxlen=LOG_LINES_HELD)
        self._unstored: list[str] = []
        self._process = subprocess.Popen(
            [*work, str(os.getpid()), str(job.id), str(job.attempt), str(folder), str(job.devices)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ | ({TRACEPARENT: parent} if (parent := current_traceparent()) else {}),
            start_new_session=True,  # a process group of its own, which can be killed as a whole
        )
        self._all_read = False
        self._reader = start_loop("log", self._read_line, lambda: self._all_read)

    def watch(self, stopping: Callable[[], bool]) -> None:
        """Wait for the process to end; raises LeaseLost when the claim ends first."""
        settings = self._settings
        looked = time.monotonic()
        while self._process.poll() is None:
            time.sleep(TICK_SECONDS)
            now = time.monotonic()
            if self._asked_to_stop is not None:
                self._ask_to_stop(now - self._asked_to_stop)
            if now - looked < settings.poll_seconds:
                continue
            looked = now
            if now - self._renewed > settings.beat_seconds and self._try(self._renew) and self._asked_to_stop is None:
                self._due = self._try(self._is_due_to_another_key, reads=True)
                self._asked_to_stop = now if self._due else None
            if self._asked_to_stop is None:
                cancelled = stopping() or self._try(self._is_cancelled, reads=True)
                self._out_of_time = not cancelled and now - self._began > 3600.0 * settings.job_hours
                if cancelled or self._out_of_time:
                    self._asked_to_stop = now
            self._store_log()

    def settle(self) -> None:
        """Write how the attempt ended, as soon as the database answers; raises LeaseLost."""
        self.kill()
        self._reader.join(timeout=5.0)
        outcome = read_outcome(self._folder)
        no_device = self._no_device(outcome)
        while True:
            self._store_log()
            if self._try(lambda session: self._write_end(session, outcome, no_device)):
                without_outcome = "stopped_late" if self._killed_late else "crashed"
                end = no_device.kind if no_device else outcome.end if outcome else without_outcome
                trace.get_current_span().set_attribute("darkroom.outcome", end)
                log.info("job %d: %s", self._lease.job_id, end)
                return
            time.sleep(self._settings.poll_seconds)

    def kill(self) -> None:
        """Kill the process and all that it started, if they still run."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _try(self, action: Callable[[Session], bool], *, reads: bool = False) -> bool:
        """Run an action in a transaction; returns False while the database is away, raises LeaseLost after too long.

        reads: the action only reads, and needs no transaction.
        """
        try:
            with self._database.reading() if reads else self._database.session() as session:
                return action(session)
        except DATABASE_ERRORS as error:
            away = time.monotonic() - self._renewed
            log.warning("the database is away: %s", str(error).splitlines()[0])
            if away > self._settings.lease_seconds:
                raise LeaseLost(f"no beat for {away:.0f} s: another worker may have the job") from error
            return False

    def _renew(self, session: Session) -> bool:
        began = time.monotonic()
        renew(session, self._lease, self._settings.lease_seconds)
        self._renewed = began
        return True

    def _is_cancelled(self, session: Session) -> bool:
        return cancel_requested(session, self._lease)

    def _is_due_to_another_key(self, session: Session) -> bool:
        patience = BEATS_OF_PATIENCE * self._settings.beat_seconds
        return is_due_to_another_key(session, self._lease, self._settings.claimant(), patience)

    def _store_log(self) -> None:
        while self._lines and len(self._unstored) < LOG_LINES_HELD:
            self._unstored.append(self._lines.popleft())
        if self._unstored and self._try(self._append_log):
            self._unstored.clear()

    def _append_log(self, session: Session) -> bool:
        append_log(session, hold(session, self._lease), self._unstored)
        return True

    def _no_device(self, outcome: Outcome | None) -> Failure | None:
        """The fault of this worker's device, if that ended the work: the job is not to blame. Otherwise None."""
        if outcome is None and not self._killed_late:
            self._device.doubt()
            if self._device.passes():
                return None
            return Failure("no_device", f"the device of worker {self._settings.worker_name}: {self._device.fault}")
        if outcome is not None and outcome.failure is not None and outcome.failure.kind == "no_device":
            self._device.fail(outcome.failure.detail)
            return outcome.failure
        return None

    def _write_end(self, session: Session, outcome: Outcome | None, no_device: Failure | None) -> bool:
        if no_device is not None:
            stop(session, self._lease, no_device)
        elif self._out_of_time and (outcome is None or outcome.end == "stopped"):
            fail(session, self._lease, self._time_limit(session))
        elif outcome is None and self._killed_late:
            stop(session, self._lease, self._stopped_late(session))
        elif outcome is None:
            crash(session, self._lease, self._crash())
        elif outcome.end == "finished":
            self._kind.succeed(session, self._lease)
        elif outcome.end == "stopped" and self._due:
            stop(session, self._lease, why="the worker is needed for the job of a key that has none running")
        elif outcome.end == "stopped":
            stop(session, self._lease)
        else:
            end = crash if outcome.end == "crashed" else fail
            end(session, self._lease, outcome.failure or Failure("unknown", "no cause was given"))
        return True

    def _crash(self) -> Failure:
        code = self._process.returncode
        if code == -signal.SIGKILL:
            detail = (
                "the work process was killed (SIGKILL): often by the kernel, when the machine ran out of memory; a "
                "smaller training.batch_size or network needs less"
            )
        elif code < 0:
            detail = f"the work process was ended by {signal.Signals(-code).name}; its log says more"
        else:
            detail = f"the work process ended with exit code {code}; its log says more"
        return Failure("crashed", detail)

    def _time_limit(self, session: Session) -> Failure:
        """The failure of work that took longer than an attempt may."""
        kept, hours = self._kind.kept(session, self._lease.job_id), f"{self._settings.job_hours:g} h"
        return Failure("time_limit", f"one attempt may take {hours} (DARKROOM_JOB_HOURS), and this took longer; {kept}")

    def _stopped_late(self, session: Session) -> Failure:
        """The failure of work that did not stop in time."""
        kept = self._kind.kept(session, self._lease.job_id)
        grace = f"{self._settings.grace_seconds:g} s"
        return Failure(
            "stopped_late", f"the work did not stop within {grace} after it was asked to, and was killed; {kept}"
        )

    def _ask_to_stop(self, since_seconds: float) -> None:
        """Send SIGTERM once a process takes it, and SIGKILL after the grace time."""
        if since_seconds > self._settings.grace_seconds:
            log.warning("job %d did not stop in time: killed", self._lease.job_id)
            self._killed_late = True
            self.kill()
            return
        pid = read_pid(self._folder)
        if pid is not None and not self._told:
            self._told = True
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    def _read_line(self) -> None:
        """Take a line of the process's output. If nobody took them, the process would wait for ever to write one."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line:
            self._lines.extend(relayed(line.decode(errors="replace").rstrip("\n").replace("\0", "")))
        else:
            self._all_read = True
