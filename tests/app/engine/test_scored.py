"""Laws of scored requests: the same images as without scores, and scores that do not depend on the batch."""

import threading
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from darkroom.app.engine.engine import Engine, EngineLimits
from darkroom.app.engine.request import DeadlineUnmeetable, Failed, Finished, Progress, RowRequest
from darkroom.model.config import SamplingConfig
from darkroom.model.diffusion.denoiser import Denoiser, Network
from darkroom.model.sampling.scoring import SCORE_STEPS, score
from tests.app.engine.calls import CLASSES, CONFIG, POISON, rows, smooth, submit

T = CONFIG.schedule.steps


@pytest.fixture
def engines() -> Iterator[list[Engine]]:
    made: list[Engine] = []
    yield made
    for engine in made:
        engine.stop(0.0)


def started(engines: list[Engine], network: Network = smooth, **limits: int) -> Engine:
    engine = Engine(EngineLimits(**limits))
    engines.append(engine)
    engine.start()
    engine.load("v1", Denoiser(CONFIG, CLASSES, network)).result(60)
    return engine


def test_scored_images_are_those_of_a_plain_request_and_the_score_is_of_the_served_image(engines: list[Engine]) -> None:
    engine = started(engines, batch_rows=16)
    company = [submit(engine, rows(5, seed=seed, steps=3 + 4 * seed), scored=seed % 2 == 0) for seed in range(6)]
    wanted = (*rows(4, label=0), *rows(5, label=2, guidance=1.0, steps=9))
    scored, plain = submit(engine, wanted, scored=True), submit(engine, wanted)
    for call in [scored, plain, *company]:
        assert isinstance(call.wait(), Finished)
    assert sorted(scored.done()) == sorted(plain.done()) == list(range(9))
    images = np.stack([scored.done()[row].image for row in range(9)])
    others = np.stack([plain.done()[row].image for row in range(9)])
    assert np.abs(images.astype(int) - others.astype(int)).max() <= 1
    alone = score(Denoiser(CONFIG, CLASSES, smooth), torch.from_numpy(images).permute(0, 3, 1, 2), [0] * 4 + [2] * 5)
    assert [scored.done()[row].score for row in range(9)] == pytest.approx(alone.tolist(), rel=1e-4, abs=1e-6)
    assert len(set(alone.tolist())) == 9
    assert all(one.score is None for one in plain.done().values())


def test_scoring_counts_as_progress(engines: list[Engine]) -> None:
    call = submit(started(engines), rows(3), scored=True)
    call.wait()
    progress = [event for event in call.events if isinstance(event, Progress)]
    assert {event.total_steps for event in progress} == {3 * (10 + SCORE_STEPS)}
    assert [event.done_steps for event in progress] == sorted({event.done_steps for event in progress})
    assert progress[-1].done_steps == progress[-1].total_steps


def test_forecasts_and_refusals_include_scoring(engines: list[Engine]) -> None:
    engine = started(engines)
    wanted = rows(64, steps=1, guidance=1.0)
    plain = engine.expected_seconds("v1", wanted[0].sampling, len(wanted))
    scored = engine.expected_seconds("v1", wanted[0].sampling, len(wanted), scored=True)
    assert scored > SCORE_STEPS * plain
    with pytest.raises(DeadlineUnmeetable) as refusal:
        submit(engine, wanted, scored=True, deadline_seconds=plain * 1.5)
    assert refusal.value.retry_after_seconds is None, "an idle engine could not meet it either"


def test_a_cancelled_request_leaves_between_two_steps_of_scoring(engines: list[Engine]) -> None:
    gate, entered = threading.Event(), threading.Event()
    loaded = False

    def scoring_waits(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        if loaded and bool((t < T).any()):
            entered.set()
            assert gate.wait(60)
        return smooth(x, t, labels)

    engine = started(engines, scoring_waits)
    loaded = True
    call = submit(engine, rows(4, steps=1), scored=True)
    assert entered.wait(60)
    call.cancel()
    gate.set()
    assert call.wait() == Failed("cancelled", "the request was cancelled")
    assert not call.done()
    left = engine.status()
    assert (left.rows_waiting, left.rows_running, left.requests) == (0, 0, 0)


def test_out_of_memory_while_scoring_loses_nothing(engines: list[Engine]) -> None:
    limited = False

    def tight(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        if limited and len(x) > 4 and bool((t < T).all()):
            raise torch.OutOfMemoryError("too large")
        return smooth(x, t, labels)

    engine = started(engines, tight, batch_rows=32)
    limited = True
    call = submit(engine, rows(10, steps=1), scored=True)
    assert isinstance(call.wait(), Finished)
    assert all(one.score is not None for one in call.done().values())
    assert len(call.done()) == 10


@pytest.mark.parametrize("fault", ["raises", "nan"])
def test_a_fault_in_scoring_fails_only_its_own_request(engines: list[Engine], fault: str) -> None:
    def faulty(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        bad = (labels == POISON) & (t < T)
        if fault == "raises" and bool(bad.any()):
            raise RuntimeError("bad class")
        return torch.where(bad.reshape(-1, 1, 1, 1), torch.nan, smooth(x, t, labels))

    engine = started(engines, faulty)
    good = submit(engine, rows(3, steps=1), scored=True)
    bad = submit(engine, rows(2, label=POISON, steps=1), scored=True)
    assert isinstance(good.wait(), Finished)
    end = bad.wait()
    assert isinstance(end, Failed)
    assert end.reason == "internal"
    assert not bad.done()
    assert isinstance(submit(engine, rows(1), scored=True).wait(), Finished)


SETTINGS = SamplingConfig(guidance=2.0, steps=2)


@pytest.mark.parametrize(
    "row",
    [
        RowRequest(None, 1, 0, SETTINGS),
        RowRequest(1, 1, 0, SETTINGS.model_copy(update={"guidance": 0.0})),
        RowRequest(1, 1, 0, SETTINGS, end_class_index=2, mix=0.5),
    ],
)
def test_an_image_without_exactly_one_class_cannot_be_scored(engines: list[Engine], row: RowRequest) -> None:
    engine = started(engines)
    with pytest.raises(ValueError, match="one class"):
        submit(engine, (row,), scored=True)
    assert engine.status().requests == 0
