"""The record of a run, through which the training loop stores all results, and its implementation as a folder."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, Protocol

from darkroom.model.checkpoint import load_checkpoint, write_atomically
from darkroom.model.figure import Figure
from darkroom.model.training.curve_point import CurvePoint
from darkroom.model.training.finding import Finding
from darkroom.model.training.forecast import Forecast, plain_verdict
from darkroom.model.training.loss_log import LossLog

Failing = Literal["evaluation", "frontier", "samples", "verdict"]
"""Parts of a run that may fail while training continues."""


class RunRecord(Protocol):
    """Stores a run's results. With several processes only the first one's record is used.

    An exception from any method ends the run; earlier records stay valid.
    """

    def states(self) -> Iterator[tuple[str, bytes]]:
        """Yield (name for messages, training state) to resume from, newest first; nothing for a new run."""

    def begin(self, images_seen: int) -> None:
        """Discard everything recorded after `images_seen`, where training now starts or continues.

        Called once, after `states` and before all other methods.
        """

    def progress(self, point: CurvePoint) -> None:
        """Store a point of the training curve."""

    def checkpoint(self, images_seen: int, weights: bytes, state: bytes) -> None:
        """Store a weights file and its training state: both or neither, so that a run can always resume."""

    def spend(self, seconds: float) -> None:
        """Store how much of its `training.minutes` the run has spent: far more often than a state, and in few bytes."""

    def spent(self) -> float:
        """Return what `spend` has stored last, also in an attempt that was killed; 0 when it was never called."""

    def samples(self, images_seen: int, picture: bytes) -> None:
        """Store a sample grid, a PNG."""

    def verdict(self, images_seen: int, findings: Sequence[Finding], forecast: Forecast | None) -> None:
        """Store what a look at `images_seen` found, which replaces what earlier looks found."""

    def evaluation(self, images_seen: int, evaluations: Sequence[Figure]) -> None:
        """Store the figures of the checkpoint at `images_seen`: all or none."""

    def evaluated(self, images_seen: int) -> bool:
        """Return True when `evaluation` has stored figures for `images_seen`."""

    def frontier(self, images_seen: int, evaluations: Sequence[Figure]) -> None:
        """Add points to the stored frontier of the checkpoint at `images_seen`."""

    def frontier_points(self, images_seen: int) -> Sequence[Figure]:
        """Return the stored points of the frontier at `images_seen`."""

    def failed(self, images_seen: int, what: Failing, detail: str) -> None:
        """Store that `what` failed at `images_seen`, for users who look at the run; the run continues."""

    def last_good(self) -> str | None:
        """Return the name, for messages, of the last valid checkpoint; None when there is none."""


class FolderRecord:
    """A run as a folder.

    It has `state.safetensors` (to resume from), `checkpoints/IMAGES.safetensors` (to sample from), `losses.csv`,
    `loss.png`, `samples/IMAGES.png`, `verdict.json`, `evaluations.jsonl` and, in a run that ends by the clock,
    `spent_seconds`. `begin` writes first.
    title: of the loss curve. findings: of the newest look, None before one.
    """

    def __init__(self, folder: Path, title: str) -> None:
        self._folder = folder
        self._title = title
        self._losses = LossLog(folder / "losses.csv")
        self._last = 0
        self.findings: Sequence[Finding] | None = None
        self.forecast: Forecast | None = None

    def states(self) -> Iterator[tuple[str, bytes]]:
        """Yield the folder's only state; raises OSError when the file exists but cannot be read."""
        path = self._folder / "state.safetensors"
        if path.exists():
            yield str(path), path.read_bytes()

    def begin(self, images_seen: int) -> None:
        """Drop the lines of both logs after `images_seen`."""
        self._last = images_seen
        self._losses.begin(images_seen)
        kept = [line for line in self._evaluations() if line["images_seen"] <= images_seen]
        if len(kept) < len(self._evaluations()):
            self._write_evaluations(kept)

    def progress(self, point: CurvePoint) -> None:
        """Add a line to `losses.csv`."""
        self._losses.append(point)

    def checkpoint(self, images_seen: int, weights: bytes, state: bytes) -> None:
        """Write the weights first, so that the new state replaces the old one only when its weights exist."""
        write_atomically(self.checkpoint_path(images_seen), weights)
        write_atomically(self._folder / "state.safetensors", state)
        self._last = images_seen
        self._losses.draw(self._folder / "loss.png", self._title)

    def spend(self, seconds: float) -> None:
        """Write `spent_seconds`."""
        write_atomically(self._folder / "spent_seconds", f"{seconds:.3f}\n".encode())

    def spent(self) -> float:
        """Read `spent_seconds`."""
        path = self._folder / "spent_seconds"
        return float(path.read_text()) if path.exists() else 0.0

    def samples(self, images_seen: int, picture: bytes) -> None:
        """Write `samples/IMAGES.png`."""
        write_atomically(self._folder / "samples" / f"{images_seen:010d}.png", picture)

    def verdict(self, images_seen: int, findings: Sequence[Finding], forecast: Forecast | None) -> None:
        """Write `verdict.json`."""
        self.findings, self.forecast = findings, forecast
        verdict = plain_verdict(images_seen, findings, forecast)
        write_atomically(self._folder / "verdict.json", f"{json.dumps(verdict, ensure_ascii=False)}\n".encode())

    def evaluation(self, images_seen: int, evaluations: Sequence[Figure]) -> None:
        """Add one line for each figure to `evaluations.jsonl`; replaces lines at `images_seen`."""
        new = [{"images_seen": images_seen, **asdict(figure)} for figure in evaluations]
        kept = [line for line in self._evaluations() if line["images_seen"] != images_seen]
        self._write_evaluations([*kept, *new])

    def evaluated(self, images_seen: int) -> bool:
        """Return True when `evaluations.jsonl` has a line for `images_seen`."""
        return any(line["images_seen"] == images_seen for line in self._evaluations())

    def frontier(self, images_seen: int, evaluations: Sequence[Figure]) -> None:
        """Write the points into the header of the weights file, which changes its digest."""
        from darkroom.model.metrics.frontier_measurement import with_evaluations

        path = self.checkpoint_path(images_seen)
        write_atomically(path, with_evaluations(load_checkpoint(path), evaluations))

    def frontier_points(self, images_seen: int) -> Sequence[Figure]:
        """Return the evaluations in the header of the weights file."""
        return load_checkpoint(self.checkpoint_path(images_seen)).header.evaluations

    def failed(self, images_seen: int, what: Failing, detail: str) -> None:
        """Do nothing: the log already has a warning for the user."""

    def last_good(self) -> str | None:
        """Return the path of the weights file that belongs to the state."""
        path = self.checkpoint_path(self._last)
        return str(path) if path.exists() else None

    def checkpoint_path(self, images_seen: int) -> Path:
        """Return the path of the weights file at `images_seen`, which may not exist."""
        return self._folder / "checkpoints" / f"{images_seen:010d}.safetensors"

    @property
    def _evaluations_path(self) -> Path:
        return self._folder / "evaluations.jsonl"

    def _evaluations(self) -> list[dict[str, Any]]:
        if not self._evaluations_path.exists():
            return []
        return [json.loads(line) for line in self._evaluations_path.read_text().splitlines()]

    def _write_evaluations(self, lines: Sequence[dict[str, Any]]) -> None:
        write_atomically(self._evaluations_path, "".join(json.dumps(line) + "\n" for line in lines).encode())
