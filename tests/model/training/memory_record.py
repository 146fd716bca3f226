"""A run record in memory, to test the training loop with a record other than a folder."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from darkroom.model.figure import Figure
from darkroom.model.training.curve_point import CurvePoint
from darkroom.model.training.finding import Finding
from darkroom.model.training.forecast import Forecast
from darkroom.model.training.run_record import Failing


@dataclass
class MemoryRecord:
    """A record in memory. checkpoints: (weights, state) by images seen; calls: everything recorded, in order."""

    checkpoints: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)
    reports: dict[int, CurvePoint] = field(default_factory=dict)
    pictures: dict[int, bytes] = field(default_factory=dict)
    verdicts: dict[int, tuple[Finding, ...]] = field(default_factory=dict)
    evaluations: dict[int, tuple[Figure, ...]] = field(default_factory=dict)
    points: dict[int, list[Figure]] = field(default_factory=dict)
    failures: list[tuple[str, int, str]] = field(default_factory=list)
    calls: list[tuple[str, int]] = field(default_factory=list)
    seconds: float = 0.0

    def states(self) -> Iterator[tuple[str, bytes]]:
        for images_seen in sorted(self.checkpoints, reverse=True):
            yield f"state {images_seen}", self.checkpoints[images_seen][1]

    def begin(self, images_seen: int) -> None:
        self.calls.append(("begin", images_seen))

    def progress(self, point: CurvePoint) -> None:
        self.reports[point.images_seen] = point

    def checkpoint(self, images_seen: int, weights: bytes, state: bytes) -> None:
        self.calls.append(("checkpoint", images_seen))
        self.checkpoints[images_seen] = weights, state

    def spend(self, seconds: float) -> None:
        self.seconds = seconds

    def spent(self) -> float:
        return self.seconds

    def samples(self, images_seen: int, picture: bytes) -> None:
        self.calls.append(("samples", images_seen))
        self.pictures[images_seen] = picture

    def verdict(self, images_seen: int, findings: Sequence[Finding], forecast: Forecast | None) -> None:
        self.calls.append(("verdict", images_seen))
        self.verdicts[images_seen] = tuple(findings)

    def evaluation(self, images_seen: int, evaluations: Sequence[Figure]) -> None:
        self.calls.append(("evaluation", images_seen))
        self.evaluations[images_seen] = tuple(evaluations)

    def evaluated(self, images_seen: int) -> bool:
        return images_seen in self.evaluations

    def frontier(self, images_seen: int, evaluations: Sequence[Figure]) -> None:
        self.calls.append(("frontier", images_seen))
        self.points[images_seen] = [*self.points.get(images_seen, []), *evaluations]

    def frontier_points(self, images_seen: int) -> Sequence[Figure]:
        return self.points.get(images_seen, [])

    def failed(self, images_seen: int, what: Failing, detail: str) -> None:
        self.failures.append((what, images_seen, detail))

    def last_good(self) -> str | None:
        return f"checkpoint {max(self.checkpoints)}" if self.checkpoints else None
