"""The batching engine: one thread that owns the device and advances rows of all requests together.

Rows join and leave between any two steps. Read `_loop` first: drop who left, pick the rows of this step, advance
them, deliver what is finished.
"""

import contextlib
import logging
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextvars import Context, copy_context
from dataclasses import dataclass, field

import torch
from torch import Tensor

from app.engine.observer import EngineObserver, NoObserver
from app.engine.policy import due_time, pick_rows
from app.engine.request import (
    DeadlineUnmeetable,
    EngineRefusal,
    EngineStopped,
    Failed,
    Finished,
    Pixels,
    Preview,
    Progress,
    QueueFull,
    RowDone,
    RowRequest,
    SampleRequest,
    Sink,
    Timings,
    TooManyRows,
    VersionNotLoaded,
)
from app.engine.speed import SpeedCurve
from app.engine.warmup import measure_speed
from model.denoiser import Denoiser
from model.memory import is_out_of_memory
from model.sampling import RowPlan, advance, from_pixels, plan_row, start, to_pixels
from model.scoring import SCORE_FORWARD_ROWS, SCORE_STEPS, score_step
from model.threads import compute_with

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EngineLimits:
    """At most: queue_rows unfinished rows held, batch_rows forward rows a step, versions of models held.

    A version that carries a snapshot holds two networks, and counts as two.
    """

    queue_rows: int = 2048
    batch_rows: int = 64
    versions: int = 4


@dataclass(eq=False)
class _Resident:
    """A model version in memory, with what warm-up measured. batch_limit: forward rows a step."""

    version: str
    denoiser: Denoiser
    speed: SpeedCurve
    batch_limit: int

    @property
    def networks(self) -> int:
        return 1 if self.denoiser.snapshot is None else 2


@dataclass(eq=False)
class _Row:
    """One image on its way: it is drawn, and then scored where that was asked for.

    state: (STATE, C, H, W) once it has begun; once it is drawn (1, C, H, W), the image as it is served, which is then
    also in pixels, (H, W, C). terms: of the score so far.
    """

    request: "_Request"
    number: int
    plan: RowPlan
    position: int = 0
    state: Tensor | None = None
    pixels: Pixels | None = None
    terms: list[float] = field(default_factory=list)

    @property
    def steps(self) -> int:
        return self.plan.steps + self.request.score_steps

    @property
    def scoring(self) -> bool:
        return self.position >= self.plan.steps

    @property
    def forward_rows(self) -> int:
        return SCORE_FORWARD_ROWS if self.scoring else self.plan.forward_rows(self.position)

    @property
    def remaining_work(self) -> int:
        """Forward rows still to be computed."""
        if self.scoring:
            return (self.steps - self.position) * SCORE_FORWARD_ROWS
        return self.plan.forward_rows_left[self.position] + self.request.score_steps * SCORE_FORWARD_ROWS


@dataclass(eq=False)
class _Request:
    """An accepted request; it leaves the engine with its one Finished or Failed event.

    context: of whoever submitted it, so that what is logged of it can be told from its batchmates'.
    """

    request: SampleRequest
    sink: Sink
    resident: _Resident
    submitted: float
    due: float
    deadline: float | None
    idle_seconds: float
    total_steps: int = 0
    context: Context = field(default_factory=copy_context)
    unfinished: list[_Row] = field(default_factory=list)
    done_steps: int = 0
    begun: float | None = None
    cancelled: bool = False

    @property
    def score_steps(self) -> int:
        """Steps of each row after it is drawn."""
        return SCORE_STEPS if self.request.scored else 0

    @property
    def remaining_work(self) -> int:
        return sum(row.remaining_work for row in self.unfinished)


@dataclass(frozen=True)
class _Expected:
    """What is foreseen for a request. deadline, due: on the engine's clock; seconds: until it is done, others ahead."""

    now: float
    idle_seconds: float
    deadline: float | None
    due: float
    seconds: float


@dataclass(frozen=True)
class EngineSnapshot:
    """The engine at one moment. resident: version -> batch limit, least recently used first.

    networks: held, which is what `EngineLimits.versions` limits.
    """

    rows_waiting: int
    rows_running: int
    requests: int
    resident: dict[str, int]
    networks: int


class Ticket:
    """A submitted request, to be cancelled when nobody waits for it any more."""

    def __init__(self, engine: "Engine", request: _Request) -> None:
        self._engine = engine
        self._request = request

    def cancel(self) -> None:
        """Drop the request between two steps; harmless when it is over. Its last event is then Failed("cancelled")."""
        self._engine._cancel(self._request)


class Engine:
    """See the module. Thread-safe: `submit`, `load`, `snapshot` and tickets may be used from any thread.

    threads: inside the operations of a step, at most; default: those of the thread that makes the engine,
    which is to compute alone from then on (`model/threads.py`).
    """

    def __init__(
        self,
        limits: EngineLimits | None = None,
        observer: EngineObserver | None = None,
        clock: Callable[[], float] = time.monotonic,
        threads: int | None = None,
    ) -> None:
        self.limits = limits or EngineLimits()
        self._observer = observer or NoObserver()
        self._clock = clock
        self._threads = threads or torch.get_num_threads()
        self._wake = threading.Condition()
        self._requests: list[_Request] = []
        self._residents: OrderedDict[str, _Resident] = OrderedDict()
        self._loading: list[tuple[str, Denoiser, Iterator[SpeedCurve | None], Future[None]]] = []
        self._stopping = False
        self._deadline_to_drain: float | None = None
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    # -- called from any thread ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the engine's thread."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether its thread runs; one that died of a fault answers nobody any more."""
        return self._thread.is_alive()

    def stop(self, drain_seconds: float) -> None:
        """Refuse new requests, give those under way `drain_seconds` to finish, fail the rest, end the thread."""
        with self._wake:
            self._stopping = True
            self._deadline_to_drain = self._clock() + drain_seconds
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join()

    def load(self, version: str, denoiser: Denoiser) -> Future[None]:
        """Warm a model version up between other requests' steps and hold it; the future ends when it can be used.

        Beyond `limits.versions` the least recently used version without rows under way leaves.
        """
        future: Future[None] = Future()
        future.set_running_or_notify_cancel()  # from here on nobody but the engine ends it
        with self._wake:
            if version in self._residents:
                future.set_result(None)
            elif self._stopping:
                future.set_exception(EngineStopped())
            else:
                measurement = measure_speed(denoiser, self.limits.batch_rows, self._threads)
                self._loading.append((version, denoiser, measurement, future))
                self._wake.notify()
        return future

    def submit(self, request: SampleRequest, sink: Sink) -> Ticket:
        """Queue a request, all of it or nothing; `sink` receives its events on the engine's thread.

        Raises an EngineRefusal (QueueFull, TooManyRows, DeadlineUnmeetable, VersionNotLoaded, EngineStopped), or
        ValueError for a row that the model cannot draw.
        """
        with self._wake:
            if self._stopping:
                raise self._refusal("stopped", EngineStopped())
            resident = self._residents.get(request.version)
            if resident is None:
                raise self._refusal("version_not_loaded", VersionNotLoaded(request.version))
            plans = _plans(resident, request)
            accepted = self._accept(request, sink, resident, plans)
            self._residents.move_to_end(request.version)
            self._requests.append(accepted)
            self._wake.notify()
        return Ticket(self, accepted)

    def expected_seconds(self, request: SampleRequest) -> float:
        """How long a request would take if it were submitted now, as a deadline is judged by.

        Raises VersionNotLoaded, and ValueError for a row that the model cannot draw.
        """
        with self._wake:
            resident = self._residents.get(request.version)
            if resident is None:
                raise VersionNotLoaded(request.version)
            return self._expect(request, resident, _plans(resident, request)).seconds

    def snapshot(self) -> EngineSnapshot:
        """Counts of the moment."""
        with self._wake:
            rows = [row for request in self._requests for row in request.unfinished]
            running = sum(row.state is not None for row in rows)
            resident = {version: held.batch_limit for version, held in self._residents.items()}
            return EngineSnapshot(len(rows) - running, running, len(self._requests), resident, self._networks())

    def _cancel(self, request: _Request) -> None:
        with self._wake:
            request.cancelled = True
            self._wake.notify()

    def _refusal(self, reason: str, refusal: EngineRefusal) -> EngineRefusal:
        self._observer.refused(reason)
        return refusal

    def _accept(self, request: SampleRequest, sink: Sink, resident: _Resident, plans: Sequence[RowPlan]) -> _Request:
        """Check room and deadline, and make the request's rows."""
        limit = self.limits.queue_rows
        if len(plans) > limit:
            raise self._refusal("too_many_rows", TooManyRows(len(plans), limit))
        held = sum(len(other.unfinished) for other in self._requests)
        if held + len(plans) > limit:
            backlog = sum(_work_seconds(other.resident, other.remaining_work) for other in self._requests)
            share = (held + len(plans) - limit) / held
            raise self._refusal("queue_full", QueueFull(len(plans), held, limit, backlog * share))

        found = self._expect(request, resident, plans)
        if request.deadline_seconds is not None and found.seconds > request.deadline_seconds:
            refusal = DeadlineUnmeetable(request.deadline_seconds, found.seconds, found.idle_seconds)
            raise self._refusal("deadline", refusal)

        accepted = _Request(request, sink, resident, found.now, found.due, found.deadline, found.idle_seconds)
        accepted.unfinished = [_Row(accepted, number, plan) for number, plan in enumerate(plans)]
        accepted.total_steps = sum(row.steps for row in accepted.unfinished)
        return accepted

    def _expect(self, request: SampleRequest, resident: _Resident, plans: Sequence[RowPlan]) -> "_Expected":
        """When a request that arrives now would be due and done. The lock is held."""
        now, idle = self._clock(), _idle_seconds(resident, plans, SCORE_STEPS if request.scored else 0)
        deadline = None if request.deadline_seconds is None else now + request.deadline_seconds
        due = due_time(now, idle, deadline)
        ahead = [other for other in self._requests if other.due <= due]
        seconds = idle + sum(_work_seconds(other.resident, other.remaining_work) for other in ahead)
        return _Expected(now, idle, deadline, due, seconds)

    # -- the engine's own thread --------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            with torch.inference_mode():
                self._loop()
        except Exception:
            log.exception("the engine has failed; everything under way is given up")
            with self._wake:
                self._stopping = True
                for request in list(self._requests):
                    with contextlib.suppress(Exception):  # the fault may be a sink's own
                        self._end(request, Failed("internal", "the engine has failed"))
                self._fail_loads()

    def _loop(self) -> None:
        while True:
            with self._wake:
                while not (self._requests or self._loading or self._stopping):
                    self._wake.wait()
                self._drop_the_departed()
                if self._stopping and not self._requests:
                    self._fail_loads()
                    return
                resident, rows = self._pick()
            if self._loading:
                self._warm_up_a_little()
            if rows and resident is not None:
                self._step(resident, rows)

    def _drop_the_departed(self) -> None:
        """Between two steps: cancelled and expired requests leave, and all when the time to drain is over."""
        now = self._clock()
        drained = self._deadline_to_drain is not None and now >= self._deadline_to_drain
        for request in list(self._requests):
            if request.cancelled:
                self._end(request, Failed("cancelled", "the request was cancelled"))
            elif request.deadline is not None and now > request.deadline:
                self._end(request, Failed("deadline", "the deadline passed before all images were finished"))
            elif drained:
                self._end(request, Failed("shutdown", "the service is shutting down"))

    def _pick(self) -> tuple[_Resident | None, list[_Row]]:
        """The rows of the next step: all of the model version whose request is most urgent, and all to be drawn or all
        to be scored, whichever its first row is."""
        if not self._requests:
            return None, []
        resident = min(self._requests, key=lambda request: request.due).resident
        mine = [request for request in self._requests if request.resident is resident]
        rows = pick_rows(mine, resident.speed, resident.batch_limit)
        return resident, [row for row in rows if row.scoring == rows[0].scoring]

    def _step(self, resident: _Resident, rows: list[_Row]) -> None:
        """Advance the rows by one step. Out of memory halves the batch; any other fault is cornered to its own row."""
        began = self._clock()
        for row in rows:
            if row.request.begun is None:
                row.request.begun = began
        forward_rows = sum(row.forward_rows for row in rows)
        compute_with(1 if forward_rows <= resident.speed.one_thread_rows else self._threads)
        try:
            deliver = self._score(resident, rows) if rows[0].scoring else self._advance(resident, rows)
        except Exception as error:  # whatever a network raises must not end the thread or harm batchmates
            if len(rows) == 1:
                rows[0].request.context.run(log.exception, "a row failed alone")
                with self._wake:
                    self._end(rows[0].request, Failed("internal", f"sampling failed: {type(error).__name__}"))
                return
            half = len(rows) // 2
            if is_out_of_memory(error):
                resident.batch_limit = min(resident.batch_limit, max(1, forward_rows // 2))
                log.warning("out of memory at %d rows; the batch limit is now %d", len(rows), resident.batch_limit)
                if resident.denoiser.device.type == "cuda":
                    torch.cuda.empty_cache()
            for part in (rows[:half], rows[half:]):
                if left := [row for row in part if row.request in self._requests]:
                    self._step(resident, left)
            return
        seconds = self._clock() - began
        resident.speed.observe(forward_rows, seconds)
        self._observer.step(len(rows), forward_rows, seconds, resident.batch_limit)
        deliver()

    def _advance(self, resident: _Resident, rows: list[_Row]) -> Callable[[], None]:
        """Compute one step of the sampler, and return how to deliver it.

        Until then no row changes but for the start noise of new ones.
        """
        fresh = [row for row in rows if row.state is None]
        if fresh:
            now = self._clock()
            for row, state in zip(fresh, start(resident.denoiser, [row.plan for row in fresh]), strict=True):
                row.state = state
                self._observer.row_waited(now - row.request.submitted)
        states = torch.stack([row.state for row in rows if row.state is not None])
        moved, estimates = advance(
            resident.denoiser, [row.plan for row in rows], [row.position for row in rows], states
        )
        if resident.denoiser.device.type == "cuda":
            torch.cuda.synchronize(resident.denoiser.device)  # the step's time, and its faults, belong to this step
        return lambda: self._deliver(rows, moved, estimates)

    def _score(self, resident: _Resident, rows: list[_Row]) -> Callable[[], None]:
        """Compute one term of the score of rows that are drawn, and return how to deliver it."""
        images = torch.stack([row.state[0] for row in rows if row.state is not None])
        labels = [row.plan.label for row in rows]
        terms = score_step(resident.denoiser, images, labels, [row.position - row.plan.steps for row in rows])
        return lambda: self._deliver_terms(rows, terms.tolist())

    def _deliver(self, rows: list[_Row], states: Tensor, estimates: Tensor) -> None:
        """Store the new states; send finished images, previews and progress. What is to be scored is not finished."""
        drawn: list[int] = []
        previewed: list[int] = []
        for number, row in enumerate(rows):
            row.state = states[number]
            row.position += 1
            row.request.done_steps += 1
            every = row.request.request.preview_every_steps
            if row.scoring:
                drawn.append(number)
            elif every and row.position % every == 0:
                previewed.append(number)
        images = states[drawn, 0] if drawn else states[:0, 0]
        broken = [rows[n] for n, image in zip(drawn, images, strict=True) if not bool(image.isfinite().all())]
        pixels = dict(zip(drawn, to_pixels(images), strict=True))
        pixels |= dict(zip(previewed, to_pixels(estimates[previewed]), strict=True)) if previewed else {}

        self._fail_broken(broken)
        for number, image in pixels.items():
            row, own = rows[number], image.copy()  # a view would keep the whole batch alive
            if row.request not in self._requests:
                continue
            if not row.scoring:
                row.request.sink(Preview(row.number, row.position, row.plan.steps, own))
            elif row.position < row.steps:
                row.pixels = own
                row.state = from_pixels(torch.from_numpy(own).permute(2, 0, 1).to(states.device))[None]
            else:
                self._finish(row, RowDone(row.number, own))
        self._tell_progress(rows)

    def _deliver_terms(self, rows: list[_Row], terms: list[float]) -> None:
        """Store the terms; send the images whose score is complete, and progress."""
        for row, term in zip(rows, terms, strict=True):
            row.terms.append(term)
            row.position += 1
            row.request.done_steps += 1
        self._fail_broken([row for row in rows if not math.isfinite(row.terms[-1])])
        for row in rows:
            if row.position == row.steps and row.request in self._requests and row.pixels is not None:
                self._finish(row, RowDone(row.number, row.pixels, sum(row.terms) / len(row.terms)))
        self._tell_progress(rows)

    def _fail_broken(self, broken: list[_Row]) -> None:
        with self._wake:
            for row in broken:
                self._end(row.request, Failed("internal", "the model gave values that are not finite"))

    def _finish(self, row: _Row, done: RowDone) -> None:
        with self._wake:
            row.request.unfinished.remove(row)
        self._observer.image_finished()
        row.request.sink(done)

    def _tell_progress(self, rows: list[_Row]) -> None:
        """Send progress to the rows' requests, and its end to one that has nothing left to do."""
        now = self._clock()
        for request in dict.fromkeys(row.request for row in rows):
            if request not in self._requests:
                continue
            request.sink(Progress(request.done_steps, request.total_steps))
            if not request.unfinished and request.begun is not None:
                with self._wake:
                    self._end(request, Finished(Timings(request.begun - request.submitted, now - request.begun)))

    def _end(self, request: _Request, event: Finished | Failed) -> None:
        """Remove a request and send its last event; nothing when it has ended before. The lock is held."""
        if request in self._requests:
            self._requests.remove(request)
            self._observer.request_ended("finished" if isinstance(event, Finished) else event.reason)
            request.sink(event)

    def _warm_up_a_little(self) -> None:
        """One measured forward of the first version that is loading; when its curve is known it becomes resident."""
        version, denoiser, measurement, future = self._loading[0]
        try:
            speed = next(measurement)
        except Exception as error:  # a model that cannot run must not end the thread
            self._loading.pop(0)
            self._observer.version_loaded("failed")
            future.set_exception(error)
            return
        if speed is None:
            return
        with self._wake:
            self._loading.pop(0)
            self._residents[version] = _Resident(version, denoiser, speed, speed.knee())
            self._evict()
        self._observer.version_loaded("loaded")
        log.info("version %s is warm: %d forward rows a step", version, speed.knee())
        future.set_result(None)

    def _evict(self) -> None:
        busy = {request.resident.version for request in self._requests}
        newest = next(reversed(self._residents))
        for version in list(self._residents):
            if self._networks() <= self.limits.versions:
                return
            if version not in busy and version != newest:
                del self._residents[version]

    def _networks(self) -> int:
        return sum(resident.networks for resident in self._residents.values())

    def _fail_loads(self) -> None:
        for _, _, _, future in self._loading:
            future.set_exception(EngineStopped())
        self._loading.clear()


def _plans(resident: _Resident, request: SampleRequest) -> list[RowPlan]:
    """The rows' plans; raises ValueError for a row that the model cannot draw, or cannot score."""
    plans = [_plan(resident.denoiser, row) for row in request.rows]
    if not plans:
        raise ValueError("a request needs at least one row")
    null = resident.denoiser.null_label
    if request.scored and any(plan.label != plan.end_label or plan.label == null for plan in plans):
        raise ValueError("only images of one class have a score")
    return plans


def _plan(denoiser: Denoiser, row: RowRequest) -> RowPlan:
    return plan_row(
        denoiser,
        row.sampling,
        label=row.class_index,
        seed=row.seed,
        index=row.index,
        end_label=row.end_class_index,
        end_seed=row.end_seed,
        end_index=row.end_index,
        mix=row.mix,
    )


def _work_seconds(resident: _Resident, forward_rows: int) -> float:
    """How long so many forward rows take in full batches."""
    return forward_rows * resident.speed.seconds(resident.batch_limit) / resident.batch_limit


def _idle_seconds(resident: _Resident, plans: Sequence[RowPlan], score_steps: int) -> float:
    """How long the rows take when nobody else is there. Steps are counted at their mean width."""
    work = sum(plan.forward_rows_left[0] + score_steps * SCORE_FORWARD_ROWS for plan in plans)
    steps = max(plan.steps for plan in plans) + score_steps
    if work >= steps * resident.batch_limit:
        return _work_seconds(resident, work)
    return steps * resident.speed.seconds(work / steps)
