"""Makes one step: advances rows in one batch, finds the rows that cause a fault, and sends events."""

import logging
import threading
from collections.abc import Callable, Sequence

import torch

from darkroom.app.engine.observer import EngineObserver
from darkroom.app.engine.phases import Result, Scoring
from darkroom.app.engine.queue import Queue
from darkroom.app.engine.request import Failed, Finished, Preview, Progress, RowDone, Timings
from darkroom.app.engine.rows import Row
from darkroom.model.machine.memory import is_device_lost, is_out_of_memory

log = logging.getLogger(__name__)


class Stepper:
    """Makes steps on the engine's thread. lock: the engine's, for every change of the queue."""

    def __init__(
        self,
        queue: Queue,
        lock: threading.Condition,
        observer: EngineObserver,
        clock: Callable[[], float],
    ) -> None:
        self._queue = queue
        self._lock = lock
        self._observer = observer
        self._clock = clock

    def step(self, rows: Sequence[Row]) -> None:
        """Advance rows of one version and one phase by one step, and send the events that it produced."""
        resident, phases = rows[0].request.resident, [row.phase for row in rows]
        began = self._clock()
        with self._lock:
            fresh = self._queue.begin(rows, began)
        for row in fresh:
            self._observer.row_waited(began - row.request.submitted)
        widths = [row.network_rows for row in rows]
        if self._done(rows, lambda: type(phases[0]).advance(resident.drawer, phases), otherwise=self.step):
            self._advanced(rows, widths, self._clock() - began)

    def _done(self, rows: Sequence[Row], work: Callable[[], None], otherwise: Callable[[Sequence[Row]], None]) -> bool:
        """Do the rows' work. When it fails, isolate the fault by `otherwise`, and return False."""
        try:
            work()
        except Exception as error:  # a network's fault must not end the thread or harm other requests
            if is_device_lost(error):
                raise
            if len(rows) == 1:
                rows[0].request.context.run(log.exception, "a row failed in a batch of its own; its request fails")
            cause, small = type(error).__name__, is_out_of_memory(error)
        else:
            return True
        # Out of the except block, the failed step's tensors are free.
        self._isolate_fault(rows, cause, otherwise, out_of_memory=small)
        return False

    def _advanced(self, rows: Sequence[Row], widths: Sequence[int], seconds: float) -> None:
        resident, taken = rows[0].request.resident, sum(widths)
        known = resident.drawer.timed(taken, seconds)
        if known is not None:
            resident.speed.observe(known.network_rows, known.seconds)
        resident.succeeded()
        self._observer.step(len(rows), taken, seconds, resident.batch_limit)
        with self._lock:
            self._queue.advanced(rows, widths)
        self._deliver(rows)

    def _isolate_fault(
        self, rows: Sequence[Row], cause: str, again: Callable[[Sequence[Row]], None], *, out_of_memory: bool
    ) -> None:
        """Do the two halves of a failed batch by themselves. A row that fails alone ends its request.

        Out of memory also lowers the batch limit to half; it grows again (`Resident.succeeded`).
        """
        request = rows[0].request
        if len(rows) == 1:
            with self._lock:
                self._queue.end(request, Failed("internal", f"sampling failed: {cause}"))
            return
        if out_of_memory:
            resident = request.resident
            resident.ran_out_of_memory(sum(row.network_rows for row in rows))
            log.warning("out of memory at %d rows; the batch limit is now %d", len(rows), resident.batch_limit)
            if resident.denoiser.device.type == "cuda":
                torch.cuda.empty_cache()
        half = len(rows) // 2
        for part in (rows[:half], rows[half:]):
            if left := [row for row in part if not row.request.ended]:
                again(left)

    def _deliver(self, rows: Sequence[Row]) -> None:
        """Send the events that a step produced: faults, then images and previews, then progress, then last events."""
        results: list[Result] = []
        phases = [row.phase for row in rows]
        if not self._done(rows, lambda: results.extend(type(phases[0]).results(phases)), otherwise=self._deliver):
            return
        with self._lock:
            for row, result in zip(rows, results, strict=True):
                if isinstance(result, Failed):
                    self._queue.end(row.request, result)
        for row, result in zip(rows, results, strict=True):
            if row.request.ended:
                continue
            match result:
                case Preview():
                    row.request.sink(result)
                case RowDone():
                    with self._lock:
                        self._queue.finished(row)
                    self._observer.image_finished()
                    row.request.sink(result)
                case Scoring():
                    row.phase = result
        now = self._clock()
        for request in dict.fromkeys(row.request for row in rows if not row.request.ended):
            request.sink(Progress(request.done_steps, request.total_steps))
            if not request.unfinished and request.begun is not None:
                with self._lock:
                    self._queue.end(request, Finished(Timings(request.begun - request.submitted, now - request.begun)))
