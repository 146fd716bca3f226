"""Where a run's results go: the training loop's only way to what lasts, and its form as a folder."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, Protocol

from darkroom.model.checkpoint import load_checkpoint, write_atomically
from darkroom.model.figure import Figure
from darkroom.model.training.curve_point import CurvePoint
from darkroom.model.training.loss_log import LossLog

Failing = Literal["evaluation", "frontier", "samples"]
"""What a run can do without: where it fails, the training goes on."""


class RunRecord(Protocol):
    """What the loop asks of the place where a run is kept. With several processes only the first one's is used.

    Any method may raise, which ends the run; what was recorded before stays good.
    """

    def states(self) -> Iterator[tuple[str, bytes]]:
        """Training states to resume from, newest first, each with a name for messages; none for a new run."""

    def begin(self, images_seen: int) -> None:
        """Training starts or goes on after `images_seen`: whatever was recorded beyond that never happened.

        Called once, after `states` and before everything else.
        """

    def progress(self, point: CurvePoint) -> None:
        """Keep a point of the training curve."""

    def checkpoint(self, images_seen: int, weights: bytes, state: bytes) -> None:
        """Keep a weights file and the training state that goes with it: both last, or the run resumes from before."""

    def samples(self, images_seen: int, picture: bytes) -> None:
        """Keep a grid of samples, a PNG."""

    def evaluation(self, images_seen: int, evaluations: Sequence[Figure]) -> None:
        """Keep how the checkpoint of these `images_seen` was judged: all of it or nothing."""

    def evaluated(self, images_seen: int) -> bool:
        """Whether `evaluation` was recorded for these `images_seen`."""

    def frontier(self, images_seen: int, evaluations: Sequence[Figure]) -> None:
        """Keep points of the frontier of the checkpoint of these `images_seen`, beside those that are kept."""

    def frontier_points(self, images_seen: int) -> Sequence[Figure]:
        """What `frontier` was given for these `images_seen`."""

    def failed(self, images_seen: int, what: Failing, detail: str) -> None:
        """Tell whoever looks at the run that this could not be done at these `images_seen`; the run goes on."""

    def last_good(self) -> str | None:
        """What an error message calls the last checkpoint that can be used; None when there is none."""


class FolderRecord:
    """A run as a folder.

    `state.safetensors` (to resume from), `checkpoints/IMAGES.safetensors` (to sample from), `losses.csv`, `loss.png`,
    `samples/IMAGES.png` and `evaluations.jsonl`. Nothing is written before `begin`. title: of the loss curve.
    """

    def __init__(self, folder: Path, title: str) -> None:
        self._folder = folder
        self._title = title
        self._losses = LossLog(folder / "losses.csv")
        self._last = 0

    def states(self) -> Iterator[tuple[str, bytes]]:
        """The folder's one state; raises OSError when it is there but cannot be read."""
        path = self._folder / "state.safetensors"
        if path.exists():
            yield str(path), path.read_bytes()

    def begin(self, images_seen: int) -> None:
        """Drop the lines of both logs that lie beyond `images_seen`."""
        self._last = images_seen
        self._losses.begin(images_seen)
        kept = [row for row in self._evaluations() if row["images_seen"] <= images_seen]
        if len(kept) < len(self._evaluations()):
            self._write_evaluations(kept)

    def progress(self, point: CurvePoint) -> None:
        """Add a line to `losses.csv`."""
        self._losses.append(point)

    def checkpoint(self, images_seen: int, weights: bytes, state: bytes) -> None:
        """The weights are written first: the state replaces the one before only when its weights lie there."""
        write_atomically(self.checkpoint_path(images_seen), weights)
        write_atomically(self._folder / "state.safetensors", state)
        self._last = images_seen
        self._losses.draw(self._folder / "loss.png", self._title)

    def samples(self, images_seen: int, picture: bytes) -> None:
        """Write `samples/IMAGES.png`."""
        write_atomically(self._folder / "samples" / f"{images_seen:010d}.png", picture)

    def evaluation(self, images_seen: int, evaluations: Sequence[Figure]) -> None:
        """Add a line a metric to `evaluations.jsonl`."""
        new = [{"images_seen": images_seen, **asdict(figure)} for figure in evaluations]
        kept = [row for row in self._evaluations() if row["images_seen"] != images_seen]
        self._write_evaluations([*kept, *new])

    def evaluated(self, images_seen: int) -> bool:
        """Whether `evaluations.jsonl` has a line for these `images_seen`."""
        return any(row["images_seen"] == images_seen for row in self._evaluations())

    def frontier(self, images_seen: int, evaluations: Sequence[Figure]) -> None:
        """Write the points into the header of the weights file, which thereby has another digest."""
        from darkroom.model.metrics.frontier_measurement import with_evaluations

        path = self.checkpoint_path(images_seen)
        write_atomically(path, with_evaluations(load_checkpoint(path), evaluations))

    def frontier_points(self, images_seen: int) -> Sequence[Figure]:
        """The evaluations in the header of the weights file."""
        return load_checkpoint(self.checkpoint_path(images_seen)).header.evaluations

    def failed(self, images_seen: int, what: Failing, detail: str) -> None:
        """Nothing: whoever runs the command sees the warning in the log."""

    def last_good(self) -> str | None:
        """The path of the weights file that goes with the state."""
        path = self.checkpoint_path(self._last)
        return str(path) if path.exists() else None

    def checkpoint_path(self, images_seen: int) -> Path:
        """Where the weights after `images_seen` are, or would be."""
        return self._folder / "checkpoints" / f"{images_seen:010d}.safetensors"

    @property
    def _evaluations_path(self) -> Path:
        return self._folder / "evaluations.jsonl"

    def _evaluations(self) -> list[dict[str, Any]]:
        if not self._evaluations_path.exists():
            return []
        return [json.loads(line) for line in self._evaluations_path.read_text().splitlines()]

    def _write_evaluations(self, rows: Sequence[dict[str, Any]]) -> None:
        write_atomically(self._evaluations_path, "".join(json.dumps(row) + "\n" for row in rows).encode())
