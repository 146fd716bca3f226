"""The requests that the engine takes, the events that it sends, and its refusals: plain values without HTTP."""

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
    end_class_index, end_seed, end_index, mix: for interpolation. The start noise is interpolated spherically, at `mix`
    in 0..1, from the noise of (seed, index) to that of (end_seed, end_index). The class embedding is interpolated
    linearly.
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
    """Rows that one model version draws and that are answered together.

    version: digest ("sha256:...") of a version that the engine holds.
    deadline_seconds: counted from submission. The engine refuses a request whose deadline it cannot meet, and drops an
    accepted one when its deadline passes.
    preview_every_steps: number of steps between two Previews of a row; 0 for none.
    scored: score each image by its class (`model/sampling/scoring.py`); every row must have exactly one class.
    owner: id of the API key; the engine treats owners fairly. None for the user of an open service.
    """

    version: str
    rows: tuple[RowRequest, ...]
    deadline_seconds: float | None = None
    preview_every_steps: int = 0
    scored: bool = False
    owner: int | None = None


@dataclass(frozen=True, slots=True)
class Timings:
    """A request's times. queue_seconds: from submission to the first step of any row; run_seconds: from there on."""

    queue_seconds: float
    run_seconds: float


@dataclass(frozen=True, slots=True)
class Preview:
    """The x_0 estimate of an unfinished row, after `step` of `steps` steps. image: (H, W, C) uint8."""

    row: int
    step: int
    steps: int
    image: Pixels


@dataclass(frozen=True, slots=True)
class RowDone:
    """A finished row. row: its position in SampleRequest.rows; image: (H, W, C) uint8; score: None unless asked for."""

    row: int
    image: Pixels
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """The sum of steps over all rows of the request, scoring included. Sent after each engine step that advances it."""

    done_steps: int
    total_steps: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event of a request that succeeds: every row is finished."""

    timings: Timings


@dataclass(frozen=True, slots=True)
class Failed:
    """The last event of a request that fails. detail: a sentence for the client."""

    reason: Literal["cancelled", "deadline", "shutdown", "internal"]
    detail: str


Event = Preview | RowDone | Progress | Finished | Failed
Sink = Callable[[Event], None]
"""Receives a request's events on the engine's thread. It must return at once and not raise: an asyncio caller uses
call_soon_threadsafe."""


class EngineRefusal(Exception):
    """The engine refuses a request, and has queued none of its rows. Base of the refusals below.

    reason: the word by which an observer counts it.
    """

    reason: ClassVar[str]


@dataclass
class QueueFull(EngineRefusal):
    """The queue has no room for the request now. retry_after_seconds: expected time until it has, by measured speed."""

    reason = "queue_full"
    rows: int
    rows_waiting: int
    limit: int
    retry_after_seconds: float


@dataclass
class QueueLong(EngineRefusal):
    """The accepted requests of the owner need `seconds` of work, and no more is accepted above `limit_seconds`.

    retry_after_seconds: expected time until it is less, by measured speed.
    """

    reason = "queue_full"
    seconds: float
    limit_seconds: float
    retry_after_seconds: float


@dataclass
class TooManyRows(EngineRefusal):
    """The request alone is larger than the queue can ever hold."""

    reason = "too_many_rows"
    rows: int
    limit: int


@dataclass
class DeadlineUnmeetable(EngineRefusal):
    """By the measured speed, the deadline would pass first.

    retry_after_seconds: expected time until it would not; None if an idle engine could not meet it either.
    """

    reason = "deadline"
    deadline_seconds: float
    expected_seconds: float
    retry_after_seconds: float | None


@dataclass
class VersionsBusy(EngineRefusal):
    """Memory is full, and the owner already draws with its share of the versions. versions: with how many others."""

    reason = "versions_busy"
    versions: int


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
