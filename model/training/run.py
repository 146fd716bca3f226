"""The training loop: `train` runs a recipe on a data set, from the start or where it stopped, and writes a record.

See `trainer.py` for one step, `run_record.py` for the record, and `distributed.py` for several processes. Progress is
counted in images.
"""

import logging
import math
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from darkroom.model.checkpoint import CheckpointError
from darkroom.model.config import Recipe
from darkroom.model.datasets.dataset import ImageDataset
from darkroom.model.diffusion.denoiser import SamplingStopped
from darkroom.model.digest import digest_of
from darkroom.model.figure import Figure
from darkroom.model.images.pictures import grid, png
from darkroom.model.images.pixels import to_pixels
from darkroom.model.machine.shared_cores import leave_cores, sharing_cores
from darkroom.model.progress import OnProgress, silent
from darkroom.model.sampling.draw import plan_row, sample
from darkroom.model.training import distributed
from darkroom.model.training.curve_point import CurvePoint
from darkroom.model.training.forecast import Anchors
from darkroom.model.training.inspection import Inspection, hopeless
from darkroom.model.training.run_record import Failing, RunRecord
from darkroom.model.training.state import require_sound_state
from darkroom.model.training.trainer import (
    Trainer,
    TrainingDiverged,
    TrainingError,
    TrainingHopeless,
    learning_rate,
    rate_jump,
)

if TYPE_CHECKING:
    from darkroom.model.metrics.evaluation import ReferenceCache

__all__ = [
    "StartingPoint",
    "StateStart",
    "Trainer",
    "TrainingError",
    "TrainingResult",
    "WeightsStart",
    "train",
]

LOG_EVERY_ITERATIONS = 20
SPENT_TOLD = 500
"""So many times a run that ends by the clock stores the time that it has spent."""
FIRST_RESERVE = 0.05
"""Share of a run's minutes that is kept for what follows its last batch, until such a pause was measured."""
LONGEST_RESERVE = 0.5
"""The largest such share, however long a pause was."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WeightsStart:
    """Begin a run with the weights of a weights file, at 0 images. weights: its bytes. source: its name in messages."""

    source: str
    weights: bytes


@dataclass(frozen=True)
class StateStart:
    """Continue another run's training state with this recipe: keep its optimizer moments, EMA and images seen.

    state: its bytes. source: its name in messages.
    """

    source: str
    state: bytes


StartingPoint = WeightsStart | StateStart


@dataclass(frozen=True)
class TrainingResult:
    """The end of a run. finished: False when it stopped before the recipe's last image or last evaluation."""

    images_seen: int
    finished: bool


@sharing_cores()
def train(
    recipe: Recipe,
    dataset: ImageDataset,
    record: RunRecord,
    *,
    device: torch.device,
    start: StartingPoint | None = None,
    references: "ReferenceCache | None" = None,
    on_progress: Callable[[CurvePoint], None] = lambda point: None,
    on_measurement: OnProgress = silent,
    should_stop: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.perf_counter,
) -> TrainingResult:
    """Run the recipe to its end, or until `should_stop` returns True, and then write a checkpoint.

    start: starting point when `record` has no saved state; default: new weights.
    references: caches statistics for evaluations; may be None for a recipe without evaluations.
    on_progress: called every LOG_EVERY_ITERATIONS iterations and at the end. on_measurement: told how far an evaluation
    is.
    should_stop: called between iterations, and between the steps of sample grids and evaluations; True is final.
    clock: seconds from any start. `training.minutes` counts its seconds, over all attempts at the run, also those that
    a killed attempt spent after its last state. A run without a state begins anew, with all its time.

    In a process group every process calls this with equal arguments. The first process records and reports; any of
    them may ask to stop. When a sample grid or an evaluation fails, the failure is recorded and training continues.
    Raises TrainingDiverged when loss, weights or images are not finite, and TrainingHopeless when the early verdict
    ends the run; the earlier record stays valid. Raises TrainingError for a recipe that cannot run or metrics that are
    not installed, and CheckpointError when the record's state belongs to another recipe or data set, or `start` does
    not fit.
    """
    trainer = Trainer(recipe, dataset, device)
    training = recipe.training
    if training.precision == "bfloat16" and device.type == "cpu" and not multiplies_bfloat16():
        _log.warning("this CPU has no instructions for bfloat16: training.precision float32 would be many times faster")
    inspection = None if training.early_verdict == "off" else Inspection(trainer)
    judge = _Judge(trainer, record, references, inspection, on_measurement) if recipe.evaluation is not None else None
    stop = _StopRequest(should_stop)
    saved = _restore(trainer, record, start)
    distributed.from_first(lambda: record.begin(trainer.images_seen))

    def save() -> None:
        nonlocal saved
        meter.count_seconds()
        distributed.from_first(lambda: _keep(trainer, record))
        saved = trainer.images_seen

    def take_losses() -> None:
        for loss, norm in trainer.read():
            if not (math.isfinite(loss) and math.isfinite(norm)):
                told = f"the loss is {loss} and the gradient norm {norm}"
                raise _diverged(told, trainer.images_seen, distributed.from_first(record.last_good))
            meter.add(loss, norm)

    def crossed(before: int, every: int) -> bool:
        return trainer.ended or before // every < trainer.place // every

    meter = _Meter(trainer, clock)
    # The run may have been interrupted between this checkpoint and its evaluation.
    if judge and saved is not None and crossed(max(0, trainer.place - training.batch_size), judge.every_images):
        with meter.paused():
            judge.once(stop)
    while not trainer.ended and not distributed.any_of(stop()):
        before = trainer.place
        leave_cores()
        trainer.advance()
        meter.rate = learning_rate(recipe.optimizer, before, training.total_images)
        if not trainer.reads_late:
            take_losses()
        meter.tell_time()
        if training.minutes is not None and crossed(before, max(1, training.total_images // SPENT_TOLD)):
            distributed.from_first(lambda: record.spend(trainer.seconds))
        reports = trainer.iteration % LOG_EVERY_ITERATIONS == 0 or trainer.ended
        evaluates = judge is not None and crossed(before, judge.every_images)
        samples = crossed(before, training.sample_every_images)
        saves = evaluates or crossed(before, training.checkpoint_every_images)
        if reports or saves or samples:
            take_losses()
        if reports:
            distributed.from_first(partial(_report, meter.point(), record, on_progress))
        with meter.paused(whole=samples and (evaluates or judge is None)):
            if saves:
                save()
            if judge and evaluates:
                judge.once(stop)
            if samples:  # after the evaluation, which tells the verdict how far the pictures are
                end = distributed.from_first(lambda: _draw_samples(trainer, record, stop, inspection))
                if end is not None:
                    raise TrainingHopeless(end)
    take_losses()
    if saved != trainer.images_seen or distributed.from_first(record.last_good) is None:
        save()
    # Only this line evaluates a run that started at its end, with another run's state.
    judged = judge is None or not trainer.ended or (judge.once(stop) and judge.frontier(stop))
    return TrainingResult(trainer.images_seen, trainer.ended and judged)


class _StopRequest:
    """Calls `should_stop` until it returns True, and then stays True."""

    def __init__(self, should_stop: Callable[[], bool]) -> None:
        self._should_stop = should_stop
        self._stopped = False

    def __call__(self) -> bool:
        self._stopped = self._stopped or self._should_stop()
        return self._stopped


class _Meter:
    """Computes curve points: means since the last point, and the speed of training without `paused` time.

    It also keeps the run's time, which decides the trainer's place where the recipe has `training.minutes`.
    rate: the last step's learning rate.
    """

    rate = 0.0

    def __init__(self, trainer: Trainer, clock: Callable[[], float]) -> None:
        self._trainer = trainer
        self._clock = clock
        minutes = trainer.recipe.training.minutes
        self._budget = None if minutes is None else 60.0 * minutes
        self._reserve = FIRST_RESERVE * (self._budget or 0.0)
        self._began = clock() - trainer.seconds
        self._begin()

    def _begin(self) -> None:
        self._losses: list[float] = []
        self._norms: list[float] = []
        self._images = self._trainer.images_seen
        self._since_seconds = self._clock()

    def add(self, loss: float, norm: float) -> None:
        """Add a step's loss and gradient norm."""
        self._losses.append(loss)
        self._norms.append(norm)

    def tell_time(self) -> None:
        """Set the trainer's seconds and, with a budget, its place. All processes take the first one's time.

        The place never goes back, so that nothing that is due at a place is done twice.
        """
        if self._budget is None:
            return
        trainer = self._trainer
        self.count_seconds()
        share = trainer.seconds / (self._budget - self._reserve) if distributed.rank() == 0 else 0.0
        place = int(min(1.0, distributed.sums([share])[0]) * trainer.recipe.training.total_images)
        trainer.place = max(trainer.place, place)

    def count_seconds(self) -> None:
        """Set the trainer's seconds, which its state keeps."""
        self._trainer.seconds = self._clock() - self._began

    def point(self) -> CurvePoint:
        """Return the curve point of all steps since the previous one, and begin the next."""
        images_seen = self._trainer.images_seen
        speed = (images_seen - self._images) / (self._clock() - self._since_seconds)
        point = CurvePoint(
            images_seen,
            float(np.mean(self._losses)),
            float(np.mean(self._norms)),
            self.rate,
            speed,
            _memory_bytes(self._trainer.device),
            self._seconds_left(speed),
        )
        self._begin()
        return point

    def _seconds_left(self, speed: float) -> float:
        trainer = self._trainer
        if trainer.ended:
            return 0.0
        if self._budget is None:
            return (trainer.recipe.training.total_images - trainer.images_seen) / speed
        return max(0.0, self._budget - self._reserve - trainer.seconds)

    @contextmanager
    def paused(self, *, whole: bool = False) -> Iterator[None]:
        """Leave the block's time out of the speed.

        whole: the block does all that follows the last batch, so that its time is kept free for that.
        """
        began = self._clock()
        yield
        pause = self._clock() - began
        self._since_seconds += pause
        if whole and self._budget is not None:
            self._reserve = min(pause, LONGEST_RESERVE * self._budget)


def _memory_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit_bytes = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit_bytes


def _restore(trainer: Trainer, record: RunRecord, start: StartingPoint | None) -> int | None:
    """Restore the trainer from the record or from `start`; returns the record's images seen, None without a state."""
    own = distributed.bytes_from_first(lambda: _newest_intact(record))
    if own is not None:
        name, data = own
        trainer.resume(data, source=name)
        trainer.seconds = max(trainer.seconds, distributed.from_first(record.spent))
        return trainer.images_seen
    match start:
        case WeightsStart():
            trainer.start_from(start.weights, source=start.source)
        case StateStart():
            before = trainer.continue_from(start.state, source=start.source)
            told = rate_jump(before, trainer.recipe, trainer.images_seen)
            if told is not None:
                _log.warning("%s", told)
        case None:
            pass
    return None


def _newest_intact(record: RunRecord) -> tuple[str, bytes] | None:
    damaged: list[CheckpointError] = []
    for name, data in record.states():
        try:
            require_sound_state(data, source=name)
        except CheckpointError as error:
            damaged.append(error)
            continue
        for fault in damaged:
            _log.warning("%s; going on from %s, the one before", fault, name)
        return name, data
    if damaged:  # a new start would overwrite what the user may still repair
        raise damaged[0]
    return None


def multiplies_bfloat16() -> bool:
    """Return True when the CPU has instructions such as AVX-512 BF16 or AMX; emulated bfloat16 is 9 times slower."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _keep(trainer: Trainer, record: RunRecord) -> None:
    """Record a checkpoint and its state; raises TrainingDiverged instead when they are not finite."""
    fault = trainer.fault()
    if fault is not None:
        raise _diverged(fault, trainer.images_seen, record.last_good())
    record.checkpoint(trainer.images_seen, trainer.checkpoint(), trainer.state())


def _diverged(fault: str, images_seen: int, last_good: str | None) -> TrainingDiverged:
    good, ways = "no checkpoint was written yet", "."
    if last_good:
        good = f"{last_good} is the last good checkpoint"
        ways = ": a new run, or a job that goes on from that checkpoint (from_job)."
    return TrainingDiverged(
        f"{fault} after {images_seen} images; {good}. Begin again with a lower optimizer.learning_rate or with "
        f"optimizer.gradient_clip{ways}"
    )


def _report(point: CurvePoint, record: RunRecord, on_progress: Callable[[CurvePoint], None]) -> None:
    record.progress(point)
    on_progress(point)


@contextmanager
def _recording_failure(what: Failing, trainer: Trainer, record: RunRecord) -> Iterator[None]:
    """Record an exception in the block and continue after it; SamplingStopped is passed on."""
    try:
        yield
    except SamplingStopped:
        raise
    except Exception as error:
        said = str(error).strip().partition("\n")[0][:1000]
        detail = said if said and isinstance(error, ValueError) else f"{type(error).__name__}: {said}"
        _log.warning("%s failed after %d images; the training goes on: %s", what, trainer.images_seen, detail)
        _log.info("traceback of the failure", exc_info=error)
        record.failed(trainer.images_seen, what, detail)


def _draw_samples(
    trainer: Trainer, record: RunRecord, stop: Callable[[], bool], inspection: Inspection | None
) -> str | None:
    """Record a sample grid, drawn with the EMA weights, and its early verdict; records nothing when stopped.

    It has one line for each class that has images. Returns why the run must end, or None.
    """
    drawn = None
    try:
        with _recording_failure("samples", trainer, record):
            drawn = _sample_grid(trainer, stop)
    except SamplingStopped:
        return None
    if drawn is None:
        return None
    pictures, labels = drawn
    picture = png(grid(pictures, trainer.recipe.training.samples_per_class), scale=2)
    record.samples(trainer.images_seen, picture)
    if inspection is None:
        return None
    with _recording_failure("verdict", trainer, record):
        return _look(inspection, trainer, record, pictures, labels)
    return None


def _sample_grid(trainer: Trainer, stop: Callable[[], bool]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Return the pictures, (N, H, W, C), and their labels, (N,)."""
    columns = trainer.recipe.training.samples_per_class
    denoiser = trainer.denoiser().interruptible(stop)
    classes = np.flatnonzero(trainer.dataset.class_counts)
    plans = [
        plan_row(denoiser, trainer.sampling, label=label, seed=0, index=index)
        for label in classes.tolist()
        for index in range(columns)
    ]
    return to_pixels(sample(denoiser, plans)), np.repeat(classes, columns)


def _look(
    inspection: Inspection,
    trainer: Trainer,
    record: RunRecord,
    pictures: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.int64],
) -> str | None:
    """Record the findings, and log new ones; returns why the run must end, or None."""
    before = {finding.subject for finding in inspection.findings or ()}
    findings = inspection.look(pictures.transpose(0, 3, 1, 2), labels)
    for finding in findings:
        if finding.subject not in before:
            _log.warning("after %d images: %s", trainer.images_seen, finding.advice)
    record.verdict(trainer.images_seen, findings, inspection.forecast)
    cause = None
    if trainer.recipe.training.early_verdict == "stop":
        cause = hopeless(findings, inspection.done, trainer.images_seen)
    if cause is None or trainer.ended:
        return None
    return (
        f"stopped after {trainer.images_seen} images, because the rest would not help. {cause.advice}. To train on all "
        "the same, set training.early_verdict to tell"
    )


class _Judge:
    """Evaluates the current checkpoint in the first process, and records failed evaluations as failures.

    Raises TrainingError at once when the metrics are not installed.
    """

    def __init__(
        self,
        trainer: Trainer,
        record: RunRecord,
        references: "ReferenceCache | None",
        inspection: Inspection | None,
        on_measurement: OnProgress,
    ) -> None:
        config = trainer.recipe.evaluation
        if config is None or references is None:
            raise ValueError("a recipe with evaluations needs `references`")
        self._trainer, self._record, self._references, self._config = trainer, record, references, config
        self._inspection, self._on_measurement = inspection, on_measurement
        self.every_images = config.every_images
        self._failed_images: int | None = None
        distributed.from_first(self._require_metrics)

    def once(self, stop: Callable[[], bool]) -> bool:
        """Evaluate and record unless that was done; returns False and records nothing when stopped.

        A failed evaluation counts as done until the run is started again.
        """
        return distributed.from_first(lambda: self._once(stop))

    def frontier(self, stop: Callable[[], bool]) -> bool:
        """Measure and record the recipe's frontier, point by point; returns False when stopped."""
        return distributed.from_first(lambda: self._frontier(stop))

    def _require_metrics(self) -> None:
        """Raise TrainingError before the training, and not hours later, when the metrics are not installed."""
        from darkroom.model.metrics.evaluation import require_metrics
        from darkroom.model.metrics.extractor import MetricsUnavailable

        try:
            require_metrics(self._config)
        except MetricsUnavailable as error:
            raise TrainingError(f"the recipe asks for evaluations, but {error}") from error

    def _once(self, stop: Callable[[], bool]) -> bool:
        from darkroom.model.metrics.evaluation import evaluate

        trainer, images_seen = self._trainer, self._trainer.images_seen
        if images_seen == self._failed_images or self._record.evaluated(images_seen):
            return True
        evaluations = None
        try:
            with _recording_failure("evaluation", trainer, self._record):
                evaluations = evaluate(
                    trainer.denoiser().interruptible(stop),
                    digest_of(trainer.checkpoint()),
                    trainer.dataset,
                    self._config,
                    trainer.sampling,
                    self._references,
                    stop,
                    trainer.recipe.dataset.split,
                    self._on_measurement,
                )
        except SamplingStopped:
            return False
        if evaluations is None:
            self._failed_images = images_seen
        else:
            self._record.evaluation(images_seen, evaluations)
            if self._inspection is not None:
                try:
                    with _recording_failure("evaluation", trainer, self._record):
                        self._inspection.see(evaluations, partial(self._anchors, stop))
                except SamplingStopped:
                    return False
        return True

    def _anchors(self, stop: Callable[[], bool]) -> Anchors:
        from darkroom.model.metrics.anchors import noise_distance, own_distance

        dataset, references = self._trainer.dataset, self._references
        own = own_distance(dataset, references, self._config.images, stop)
        return Anchors(own, noise_distance(dataset, references, stop))

    def _frontier(self, stop: Callable[[], bool]) -> bool:
        if not self._config.frontier_steps:
            return True
        trainer, record, images_seen = self._trainer, self._record, self._trainer.images_seen
        points = self._measured_points(record.frontier_points(images_seen), stop)
        try:
            while True:
                point = None
                with _recording_failure("frontier", trainer, record):
                    point = next(points, None)
                if point is None:
                    return True
                record.frontier(images_seen, [point])
        except SamplingStopped:
            return False

    def _measured_points(self, known: Sequence[Figure], stop: Callable[[], bool]) -> Iterator[Figure]:
        from darkroom.model.metrics.frontier_measurement import frontier_cells, measure_frontier
        from darkroom.model.metrics.generation import drawing_settings

        trainer, config = self._trainer, self._config
        settings = drawing_settings(config, trainer.sampling)
        schedule = trainer.recipe.model.schedule
        yield from measure_frontier(
            trainer.denoiser().interruptible(stop),
            digest_of(trainer.checkpoint()),
            trainer.dataset,
            config,
            frontier_cells(settings, config.frontier_samplers, config.frontier_steps, schedule),
            self._references,
            stop,
            known=known,
            split=trainer.recipe.dataset.split,
        )
