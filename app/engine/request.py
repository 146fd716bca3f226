"""What goes into the engine and what comes out: plain values, no HTTP, no queues of anybody else's."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from darkroom.model.config import SamplingConfig

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class RowRequest:
    """One image to draw.

    class_index: None draws without a class (guidance then has no effect).
    index: the image's number within its request; with `seed` it fixes the image.
    end_class_index, end_seed, end_index, mix: for interpolation; the start noise is the spherical interpolation at
    `mix` in 0..1 from that of (seed, index) to that of (end_seed, end_index), and the class embedding the linear one.
    """

    class_index: int | None
    seed: int
    index: int
    sampling: SamplingConfig
    end_class_index: int | None = None
    end_seed: int | None = None
    end_index: int | None = None
    mix: float = 0.0


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """Rows that are drawn by one model version and answered together.

    version: digest ("sha256:...") of a model that the engine holds.
    deadline_seconds: from submission; refused at once when it cannot be met, dropped when it passes.
    preview_every_steps: 0 for no previews, else a Preview of every row each so many steps.
    scored: every image is scored by its class when it is drawn (`model/sampling/scoring.py`), which takes
    one class a row.
    """

    version: str
    rows: tuple[RowRequest, ...]
    deadline_seconds: float | None = None
    preview_every_steps: int = 0
    scored: bool = False


@dataclass(frozen=True, slots=True)
class Timings:
    """queue_seconds: from submission to the first step of any of its rows; run_seconds: from then to the end."""

    queue_seconds: float
    run_seconds: float


@dataclass(frozen=True, slots=True)
class Preview:
    """The x0 estimate of one unfinished row. image: (H, W, C) uint8; step of steps are done."""

    row: int
    step: int
    steps: int
    image: Pixels


@dataclass(frozen=True, slots=True)
class RowDone:
    """A finished row. row: its position in SampleRequest.rows; image: (H, W, C) uint8; score: where asked for."""

    row: int
    image: Pixels
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """Steps done of all the request's row steps, scoring included, after each engine step that moved it."""

    done_steps: int
    total_steps: int


@dataclass(frozen=True, slots=True)
class Finished:
    """Every row is done; the last event of a request that succeeds."""

    timings: Timings


@dataclass(frozen=True, slots=True)
class Failed:
    """The last event of a request that does not succeed. detail: a sentence for its owner."""

    reason: Literal["cancelled", "deadline", "shutdown", "internal"]
    detail: str


Event = Preview | RowDone | Progress | Finished | Failed
Sink = Callable[[Event], None]
"""Called on the engine's thread; must return at once and not raise (an asyncio caller uses call_soon_threadsafe)."""


class EngineRefusal(Exception):
    """A request that the engine does not take; nothing of it was queued. Base of the refusals below.

    reason: the word by which an observer counts it.
    """

    reason: ClassVar[str]


@dataclass
class QueueFull(EngineRefusal):
    """The bounded queue has no room. retry_after_seconds: from the measured speed; infinite room is never promised."""

    reason = "queue_full"
    rows: int
    rows_waiting: int
    limit: int
    retry_after_seconds: float


@dataclass
class TooManyRows(EngineRefusal):
    """The request alone is larger than the queue can ever hold."""

    reason = "too_many_rows"
    rows: int
    limit: int


@dataclass
class DeadlineUnmeetable(EngineRefusal):
    """By the measured speed the deadline would pass. idle_seconds: what the request takes on an idle engine."""

    reason = "deadline"
    deadline_seconds: float
    expected_seconds: float
    idle_seconds: float


@dataclass
class VersionNotLoaded(EngineRefusal):
    """The engine does not hold that model version."""

    reason = "version_not_loaded"
    version: str


@dataclass
class EngineStopped(EngineRefusal):
    """The engine is draining or has stopped."""

    reason = "stopped"
    detail: str = field(default="the service is shutting down")
