"""Laws of `training.minutes`: a run ends by the clock, over all its attempts, and its schedule fits that end.

The clock stands still but for the seconds that a test adds before each step.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from darkroom.model.training.run import TrainingResult, train
from darkroom.model.training.run_record import FolderRecord
from darkroom.model.training.state import read_state_header
from tests.model.small import random_dataset, small_recipe, small_unet
from tests.model.training.memory_record import MemoryRecord

BATCH = 8
TOTAL = 800
TINY = small_unet(
    width=8, multipliers=(1,), attention_resolutions=(), middle_attention=False, norm_groups=2
).model_dump()


def run(
    record: MemoryRecord | FolderRecord,
    seconds: Callable[[int], float],
    steps: int | None = None,
    **changes: Any,
) -> TrainingResult:
    """Train for a minute. seconds: that the step of this number takes. steps: after so many it is asked to stop."""
    now, done = 0.0, 0

    def before_a_step() -> bool:
        nonlocal now, done
        if done == steps:
            return True
        now += seconds(done)
        done += 1
        return False

    recipe = small_recipe(
        training__minutes=1.0,
        training__total_images=TOTAL,
        training__checkpoint_every_images=200,
        training__sample_every_images=10**6,
        model__unet=TINY,
        optimizer__warmup_images=0,
        **changes,
    )
    cpu = torch.device("cpu")
    return train(recipe, random_dataset(), record, device=cpu, should_stop=before_a_step, clock=lambda: now)


@pytest.mark.parametrize(("step_seconds", "steps"), [(2.0, 29), (5.0, 12), (100.0, 1)])
def test_the_run_ends_by_the_clock_however_fast_the_machine_is(step_seconds: float, steps: int) -> None:
    record = MemoryRecord()
    result = run(record, lambda step: step_seconds)
    assert result == TrainingResult(steps * BATCH, finished=True)  # 57 of 60 seconds; the rest is for the end
    assert max(record.checkpoints) == steps * BATCH


def test_checkpoints_and_the_learning_rate_follow_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("darkroom.model.training.run.LOG_EVERY_ITERATIONS", 1)
    record = MemoryRecord()
    run(record, lambda step: 3.0 if step < 10 else 1.5)  # the machine becomes twice as fast in the middle
    images = 28 * BATCH
    assert sorted(record.checkpoints) == [5 * BATCH, 10 * BATCH, 19 * BATCH, images]  # quarters of the time
    points = record.reports
    assert points[BATCH].learning_rate == 2e-3
    assert points[10 * BATCH].learning_rate == pytest.approx(1e-3, rel=0.1)  # half of the time
    assert points[images].learning_rate < 0.01 * 2e-3
    assert points[5 * BATCH].total_images == 19 * BATCH  # at the speed so far
    assert points[10 * BATCH].seconds_left == pytest.approx(27.0)
    assert (points[images].seconds_left, points[images].total_images) == (0.0, images)


def test_a_stopped_run_spends_only_the_rest_of_its_time() -> None:
    record = MemoryRecord()
    assert run(record, lambda step: 3.0, steps=10) == TrainingResult(10 * BATCH, finished=False)
    header = read_state_header(record.checkpoints[10 * BATCH][1], source="state")
    assert (header.seconds, header.place) == (30.0, int(30 / 57 * TOTAL))
    assert run(record, lambda step: 3.0) == TrainingResult(19 * BATCH, finished=True)
    assert run(record, lambda step: 3.0) == TrainingResult(19 * BATCH, finished=True)  # nothing is left


def test_a_killed_attempt_has_spent_its_time_also_after_its_last_state(tmp_path: Path) -> None:
    for record in (MemoryRecord(), FolderRecord(tmp_path, "run")):
        with pytest.raises(Killed):
            run(record, killing(12))  # at 36 seconds; the last state is of 30
        assert record.spent() == 36.0
        assert run(record, lambda step: 3.0) == TrainingResult((10 + 7) * BATCH, finished=True)  # 57 seconds in all


def test_a_run_that_was_killed_before_its_first_state_begins_anew_with_all_its_time() -> None:
    record = MemoryRecord()
    with pytest.raises(Killed):
        run(record, killing(3))
    assert (record.spent(), record.checkpoints) == (9.0, {})
    assert run(record, lambda step: 3.0) == TrainingResult(19 * BATCH, finished=True)


class Killed(Exception):
    """Ends a run at once, like SIGKILL."""


def killing(steps: int) -> Callable[[int], float]:
    """Return 3 seconds for so many steps, and then raise Killed."""

    def seconds(step: int) -> float:
        if step == steps:
            raise Killed
        return 3.0

    return seconds


def test_the_time_that_the_end_takes_is_kept_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing samples takes ten seconds, once in the middle and once at the end."""
    now = 0.0

    def before_a_step() -> bool:
        nonlocal now
        now += 2.0
        return False

    def draw(*arguments: object) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        nonlocal now
        now += 10.0
        return np.zeros((1, 8, 8, 1), np.uint8), np.zeros(1, np.int64)

    monkeypatch.setattr("darkroom.model.training.run._sample_grid", draw)
    recipe = small_recipe(
        training__minutes=1.0, training__total_images=TOTAL, training__sample_every_images=400, model__unet=TINY
    )
    cpu, record = torch.device("cpu"), MemoryRecord()
    result = train(recipe, random_dataset(), record, device=cpu, should_stop=before_a_step, clock=lambda: now)
    assert len(record.pictures) == 2
    assert now == 60.0
    assert result == TrainingResult(20 * BATCH, finished=True)


def test_a_run_without_minutes_keeps_no_time_in_its_state() -> None:
    record = MemoryRecord()
    train(small_recipe(model__unet=TINY), random_dataset(), record, device=torch.device("cpu"))
    header = read_state_header(record.checkpoints[96][1], source="state")
    assert (header.seconds, header.place) == (0.0, None)
