"""Laws of the number of threads of a step: warm-up chooses it."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from darkroom.app.engine import warmup
from darkroom.app.engine.engine import Engine
from darkroom.app.engine.fixed_shapes import FixedShapes
from darkroom.app.engine.speed import SpeedCurve
from darkroom.app.engine.warmup import measure_speed
from darkroom.model.diffusion.denoiser import Denoiser
from darkroom.model.sampling.draw import RowPlan
from tests.app.engine.calls import CLASSES, CONFIG, rows, smooth, submit

DENOISER = Denoiser(CONFIG, CLASSES, smooth)


def measured_as(
    seconds: Mapping[tuple[int, int], float],
    monkeypatch: pytest.MonkeyPatch,
    threads: int = 2,
    denoiser: Denoiser = DENOISER,
) -> SpeedCurve:
    """Return the measured speed curve of a device with these durations of a step, by rows and threads."""

    def timed(denoiser: Denoiser, plans: list[RowPlan], count: int) -> float:
        return seconds[len(plans), count]

    monkeypatch.setattr(warmup, "_timed_step", timed)
    *_, curve = measure_speed(denoiser, max(size for size, _ in seconds), threads)
    assert curve is not None
    return curve


def test_small_steps_use_one_thread_until_more_are_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    curve = measured_as(
        {(1, 1): 3.0, (1, 2): 2.5, (2, 1): 4.2, (2, 2): 3.7, (4, 1): 8.0, (4, 2): 5.0, (8, 2): 7.0}, monkeypatch
    )
    assert curve.one_thread_rows == 2
    assert [curve.seconds(size) for size in (1, 2, 4, 8)] == [3.0, 4.2, 5.0, 7.0]


def test_all_threads_are_used_if_they_are_always_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    curve = measured_as({(1, 1): 4.0, (1, 2): 2.0, (2, 2): 3.0}, monkeypatch)
    assert curve.one_thread_rows == 0
    assert [curve.seconds(size) for size in (1, 2)] == [2.0, 3.0]


def test_a_machine_with_one_thread_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    curve = measured_as({(1, 1): 4.0, (2, 1): 5.0}, monkeypatch, threads=1)
    assert [curve.seconds(size) for size in (1, 2)] == [4.0, 5.0]


def test_a_compiled_network_keeps_its_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = Denoiser(CONFIG, CLASSES, FixedShapes(smooth))
    curve = measured_as({(1, 2): 2.5, (2, 2): 3.7}, monkeypatch, denoiser=compiled)
    assert curve.one_thread_rows == 0


def test_the_engine_uses_the_threads_that_warm_up_found_and_other_threads_use_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    used: dict[int, set[int]] = {}

    def network(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        used.setdefault(len(x), set()).add(torch.get_num_threads())
        return smooth(x, t, labels)

    timed_step = warmup._timed_step

    def timed(denoiser: Denoiser, plans: list[RowPlan], count: int) -> float:
        timed_step(denoiser, plans, count)
        return len(plans) * (1.0 if count == 1 or len(plans) <= 2 else 0.5)

    monkeypatch.setattr(warmup, "_timed_step", timed)
    engine = Engine(threads=3)
    engine.start()
    try:
        engine.load("v1", Denoiser(CONFIG, CLASSES, network)).result(60)
        used.clear()
        submit(engine, rows(2, guidance=1.0)).wait()
        assert used == {2: {1}}
        used.clear()
        submit(engine, rows(4, guidance=1.0)).wait()
        assert used == {4: {3}}
        with ThreadPoolExecutor(1) as others:
            assert others.submit(torch.get_num_threads).result() == 1
    finally:
        engine.stop(0.0)
