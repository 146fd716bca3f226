"""Laws of the reporter: a fast training stores many curve points at once, and no checkpoint waits for that."""

import time
from collections.abc import Sequence
from typing import cast

import pytest

from darkroom.model.training.curve_point import CurvePoint
from darkroom.store.database import Database
from darkroom.store.job_repository import Lease
from darkroom.worker import reporter
from darkroom.worker.reporter import Reporter, Write


def _point(images_seen: int) -> CurvePoint:
    return CurvePoint(images_seen, 0.1, 1.0, 1e-4, 100.0, 1)


class _Noting(Reporter):
    """Notes what each write stores, and stores nothing."""

    def __init__(self) -> None:
        self.stored: list[list[int]] = []
        super().__init__(cast(Database, None), Lease(1, 1))

    def _store(self, points: Sequence[CurvePoint], seconds: float | None, write: Write | None) -> None:
        self.stored.append([point.images_seen for point in points])


def test_points_that_come_fast_are_stored_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporter, "PROGRESS_SECONDS", 3600.0)
    noting = _Noting()
    noting.curve_point(_point(1))
    noting.flush()
    for images_seen in (2, 3, 4):
        noting.curve_point(_point(images_seen))
        time.sleep(0.02)  # the reporter would take it
    assert noting.stored == [[1]]
    noting.put(lambda session, lease: None)  # a checkpoint does not wait, and takes the points along
    noting.flush()
    noting.curve_point(_point(5))
    noting.flush()
    assert noting.stored == [[1], [2, 3, 4], [5]]
