"""The batching engine: one thread that owns the device and advances rows of all requests together.

Rows join and leave between any two steps. Read `_loop` first: it drops cancelled and expired requests, picks the rows
of this step, and makes the step (`stepper.py`). The requests are in `rows.py`, the two phases of a row in `phases.py`,
the counts in `queue.py`, the models in `residents.py`, and the forecast of a request's time in `forecast.py`.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Container, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

import torch

from darkroom.app.engine.drawer import Drawer, make_drawer
from darkroom.app.engine.forecast import Work, foresee
from darkroom.app.engine.observer import EngineObserver
from darkroom.app.engine.phases import drawings
from darkroom.app.engine.queue import Queue
from darkroom.app.engine.request import EngineRefusal, EngineStopped, Failed, SampleRequest, Sink, VersionsBusy
from darkroom.app.engine.residents import Resident, Residents
from darkroom.app.engine.rows import Request
from darkroom.app.engine.stepper import Stepper
from darkroom.model.config import SamplingConfig
from darkroom.model.diffusion.denoiser import Denoiser
from darkroom.model.machine.memory import is_device_lost
from darkroom.telemetry.loops import start_loop

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EngineLimits:
    """Upper limits. queue_rows: unfinished rows; queue_seconds: of their work, see `Queue`; batch_rows: network rows a
    step; versions: model versions in memory.

    A version that carries a snapshot holds two networks, and counts as two.
    """

    queue_rows: int = 2048
    queue_seconds: float = 10.0
    batch_rows: int = 64
    versions: int = 4


@dataclass(frozen=True)
class EngineStatus:
    """The engine at one moment. resident: version -> batch limit, least recently used first.

    networks: networks in memory; `EngineLimits.versions` limits this number.
    """

    rows_waiting: int
    rows_running: int
    requests: int
    resident: dict[str, int]
    networks: int


@dataclass(frozen=True)
class Ticket:
    """A submitted request. Call `cancel` when no client waits for it any more.

    cancel: drops the request before the next step and sends Failed("cancelled"); does nothing when it has ended.
    """

    cancel: Callable[[], None]


class Engine:
    """The batching engine. Any thread may call its public methods and use its tickets.

    on_failure: called once, on the engine's thread, when a fault has ended the engine: a lost device, say.
    drawer: makes what advances the rows of a version.
    """

    def __init__(
        self,
        limits: EngineLimits | None = None,
        observer: EngineObserver | None = None,
        clock: Callable[[], float] = time.monotonic,
        on_failure: Callable[[], None] = lambda: None,
        drawer: Callable[[Denoiser], Drawer] = make_drawer,
    ) -> None:
        self._drawer = drawer
        self._on_failure = on_failure
        self.limits = limits or EngineLimits()
        self._observer = observer or EngineObserver()
        self._clock = clock
        self._wake = threading.Condition()
        self._queue = Queue(self.limits.queue_rows, self._observer, self.limits.queue_seconds)
        self._residents = Residents(self.limits.versions, self._wake, self._observer)
        self._stepper = Stepper(self._queue, self._wake, self._observer, clock)
        self._owed = 0.0  # seconds of requests' steps before the next step of a warm-up: as many as the last one took
        self._stopping = False
        self._deadline_to_drain: float | None = None
        self._lost: Exception | None = None
        self._ended = False
        self._thread: threading.Thread | None = None

    # -- called from any thread ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the engine's thread."""
        self._thread = start_loop("engine", self._serve, lambda: self._ended)

    @property
    def alive(self) -> bool:
        """True while the engine's thread runs. Without it no request is served."""
        return self._thread is not None and self._thread.is_alive()

    def stop(self, drain_seconds: float) -> None:
        """Refuse new requests, give accepted ones `drain_seconds` to finish, fail the rest, and end the thread."""
        with self._wake:
            self._stopping = True
            self._deadline_to_drain = self._clock() + drain_seconds
            self._wake.notify()
        if self._thread is not None:
            self._thread.join()

    def load(self, version: str, denoiser: Denoiser) -> Future[None]:
        """Warm a model version up between other requests' steps, and keep it in memory.

        Requests have half of the time meanwhile, so each takes at most twice as long, and a step of the warm-up.

        The future ends when requests can use the version. Above `limits.versions`, the least recently used version
        that has no unfinished request leaves.
        """
        with self._wake:
            if self._stopping:
                stopped: Future[None] = Future()
                stopped.set_exception(EngineStopped())
                return stopped
            self._wake.notify()
            return self._residents.load(version, self._drawer(denoiser), self.limits.batch_rows)

    def device_lost(self, error: Exception) -> None:
        """End the engine, because another thread has found that the device is lost (`memory.is_device_lost`)."""
        with self._wake:
            self._lost = error
            self._wake.notify()

    def keep_longest(self, served: Callable[[], Container[str]]) -> None:
        """Let other versions leave memory before those that `served` returns. Call this before `start`."""
        self._residents.served = served

    def submit(self, request: SampleRequest, sink: Sink) -> Ticket:
        """Queue a request, all of its rows or none; `sink` receives its events on the engine's thread.

        Raises an EngineRefusal (QueueFull, QueueLong, TooManyRows, DeadlineUnmeetable, VersionNotLoaded,
        EngineStopped), or ValueError for a row that the model cannot draw.
        """
        with self._serving(request.version) as resident:
            self._queue.require_room(
                len(request.rows), request.owner
            )  # refuse early: planning rows takes time, and needs no lock
        phases = drawings(resident.denoiser, request)
        work = Work.of_phases(phases)
        with self._serving(request.version) as resident:
            self._require_share(resident, request.owner)
            forecast = self._queue.admit(self._clock(), resident, work, request.deadline_seconds, request.owner)
            accepted = Request(resident, sink, forecast, work, phases, request.owner)
            self._queue.add(accepted)
            self._residents.used(resident)
            self._wake.notify()
        return Ticket(partial(self._cancel, accepted))

    def require_place(self, owner: int | None) -> None:
        """Raise QueueFull if the queue has no place for one more row of the owner (see SampleRequest)."""
        with self._reporting_refusals():
            self._queue.require_room(1, owner)

    def require_room(
        self,
        version: str,
        sampling: SamplingConfig,
        rows: int,
        *,
        scored: bool = False,
        deadline_seconds: float | None = None,
        owner: int | None = None,
    ) -> None:
        """Raise the EngineRefusal that `submit` would raise now for `rows` rows with a class and these settings."""
        with self._serving(version) as resident:
            work = Work.of_settings(resident.denoiser.config.schedule, sampling, rows, scored=scored)
            self._require_share(resident, owner)
            self._queue.admit(self._clock(), resident, work, deadline_seconds, owner)

    def expected_seconds(
        self,
        version: str,
        sampling: SamplingConfig,
        rows: int,
        *,
        scored: bool = False,
        deadline_seconds: float | None = None,
    ) -> float:
        """Return the expected duration of a request that is submitted now; its deadline is compared with it.

        Raises VersionNotLoaded, and ValueError for steps that the model does not have.
        """
        with self._wake:
            resident = self._residents.find(version)
            work = Work.of_settings(resident.denoiser.config.schedule, sampling, rows, scored=scored)
            return self._queue.expected_seconds(foresee(self._clock(), resident, work, deadline_seconds))

    def status(self) -> EngineStatus:
        """Return the present counts."""
        with self._wake:
            queue, held = self._queue, self._residents
            waiting = queue.rows - queue.running
            return EngineStatus(waiting, queue.running, len(queue.requests), held.batch_limits, held.networks)

    def _require_share(self, resident: Resident, owner: int | None) -> None:
        """Raise VersionsBusy if an owner would keep further networks in memory, above the limit and its share.

        Versions with unfinished requests cannot leave memory. An owner may therefore always draw with one version, and
        with more than half of the limit's only while memory has room.
        """
        if owner is None or self._residents.networks <= self.limits.versions:
            return
        held = {one.resident for one in self._queue.requests if one.owner == owner}
        further = bool(held) and resident not in held
        if further and sum(one.networks for one in (*held, resident)) > self.limits.versions // 2:
            raise VersionsBusy(len(held))

    def _cancel(self, request: Request) -> None:
        with self._wake:
            request.cancelled = True
            self._wake.notify()

    @contextlib.contextmanager
    def _serving(self, version: str) -> Iterator[Resident]:
        """Yield the version as `_reporting_refusals` does. Raises EngineStopped and VersionNotLoaded."""
        with self._reporting_refusals():
            if self._stopping:
                raise EngineStopped()
            yield self._residents.find(version)

    @contextlib.contextmanager
    def _reporting_refusals(self) -> Iterator[None]:
        """Run the block with the lock held. Report an EngineRefusal that it raises to the observer."""
        with self._wake:
            try:
                yield
            except EngineRefusal as refusal:
                self._observer.refused(refusal.reason)
                raise

    # -- the engine's own thread --------------------------------------------------------------------------------

    def _serve(self) -> None:
        """Serve until the engine stops. A fault ends all requests. Later ones are served, unless the device is lost."""
        try:
            with torch.inference_mode():
                self._loop()
            self._ended = True
        except Exception as error:
            log.error("the engine has failed and drops all requests")
            self._ended = is_device_lost(error)
            with self._wake:
                self._stopping = self._stopping or self._ended
                for request in list(self._queue.requests):
                    with contextlib.suppress(Exception):  # a sink may be what failed
                        self._queue.end(request, Failed("internal", "the engine has failed"))
                self._residents.fail_loads()
            if self._ended:
                self._on_failure()
            raise

    def _loop(self) -> None:
        while True:
            with self._wake:
                while not (self._queue.requests or self._residents.loading or self._stopping or self._lost):
                    self._wake.wait()
                if self._lost is not None:
                    raise self._lost
                self._drop_cancelled_and_expired()
                if self._stopping and not self._queue.requests:
                    self._residents.fail_loads()
                    return
                rows = self._queue.pick(self._clock())
            if self._residents.loading and (not rows or self._owed <= 0.0):
                self._owed = self._timed(partial(self._residents.warm_up_once, self._queue.open))
            if rows:
                self._owed -= self._timed(partial(self._stepper.step, rows))

    def _timed(self, work: Callable[[], None]) -> float:
        """Do the work; returns its seconds."""
        began = self._clock()
        work()
        return self._clock() - began

    def _drop_cancelled_and_expired(self) -> None:
        """End cancelled and expired requests, and all requests when the time to drain is over."""
        now = self._clock()
        drained = self._deadline_to_drain is not None and now >= self._deadline_to_drain
        for request in list(self._queue.requests):
            if request.cancelled:
                self._queue.end(request, Failed("cancelled", "the request was cancelled"))
            elif request.deadline is not None and now > request.deadline:
                self._queue.end(request, Failed("deadline", "the deadline passed before all images were finished"))
            elif drained:
                self._queue.end(request, Failed("shutdown", "the service is shutting down"))
