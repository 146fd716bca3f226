"""Laws of the queue: its counts agree with its rows, and a refusal plans no row."""

import random
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future

import pytest
import torch
from torch import Tensor

import darkroom.app.engine.engine
import darkroom.app.engine.phases
from darkroom.app.engine.engine import Engine, EngineLimits
from darkroom.app.engine.phases import Drawing
from darkroom.app.engine.queue import Queue
from darkroom.app.engine.request import DeadlineUnmeetable, Event, Finished, Progress, QueueFull, RowDone, SampleRequest
from darkroom.app.engine.residents import Resident
from darkroom.app.engine.rows import Request
from darkroom.model.diffusion.denoiser import Denoiser
from tests.app.engine.calls import CLASSES, CONFIG, POISON, Call, rows, smooth, submit


@pytest.fixture
def engine() -> Iterator[Engine]:
    """An engine with two versions, little room and a stopped clock.

    Class POISON raises an error, and more than 12 network rows are out of memory.
    """
    strict = Future[None]()

    def network(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        if strict.done() and bool((labels == POISON).any()):
            raise RuntimeError("bad class")
        if strict.done() and len(x) > 12:
            raise torch.OutOfMemoryError("too large")
        return smooth(x, t, labels)

    engine = Engine(EngineLimits(queue_rows=40, batch_rows=16), clock=lambda: 0.0)
    engine.start()
    for version in ("v1", "v2"):
        engine.load(version, Denoiser(CONFIG, CLASSES, network)).result(60)
    strict.set_result(None)
    yield engine
    engine.stop(0.0)


def walked(queue: Queue) -> tuple[int, int, Counter[Resident], Counter[int | None]]:
    """Count rows, running, open and owned from the requests and their rows."""
    every = [row for request in queue.requests for row in request.unfinished]
    owned = Counter(row.request.owner for row in every)
    return len(every), sum(row.begun for row in every), Counter(request.resident for request in queue.requests), owned


def agrees_with_its_phases(request: Request) -> bool:
    """Compare a request's counts with its rows' phases. A step changes these before the counts, without a lock."""
    steps_left = sum(row.phase.steps_left for row in request.unfinished)
    network_rows_left = sum(row.phase.network_rows_left for row in request.unfinished)
    return request.network_rows_left == network_rows_left and request.total_steps >= request.done_steps + steps_left


def kept(queue: Queue) -> tuple[int, int, Counter[Resident], Counter[int | None]]:
    return queue.rows, queue.running, queue.open, queue.owned


def test_the_queues_counts_agree_with_its_rows(engine: Engine) -> None:
    generator = random.Random(3)
    queue, calls, faults, looks = engine._queue, list[Call](), list[object](), 0

    def look() -> None:
        nonlocal looks
        looks += 1
        with engine._wake:
            if kept(queue) != walked(queue):
                faults.append((kept(queue), walked(queue)))
            arrivals = [request.submitted for request in queue.requests]
            if arrivals != sorted(arrivals):
                faults.append(arrivals)

    for number in range(60):
        call, scored = Call(), generator.random() < 0.4
        wanted = rows(
            generator.randint(1, 6),
            label=POISON if generator.random() < 0.1 else 1,
            seed=number,
            steps=generator.randint(1, 6),
            guidance=generator.choice([1.0, 2.0]),
            guidance_interval=generator.choice([None, (0.3, 3.0)]),
        )
        leaves_at = generator.choice([None, None, 3])

        def sink(event: Event, call: Call = call, leaves_at: int | None = leaves_at) -> None:
            call.sink(event)
            if isinstance(event, Progress) and leaves_at is not None and event.done_steps >= leaves_at:
                call.cancel()
            if isinstance(event, Progress):
                look()
                with engine._wake:  # on the engine's thread, between two steps
                    faults.extend(request for request in queue.requests if not agrees_with_its_phases(request))

        owner = generator.choice([None, 1, 2])
        request = SampleRequest(generator.choice(["v1", "v2"]), wanted, scored=scored, owner=owner)
        with engine._wake:
            try:
                call.ticket = engine.submit(request, sink)
            except QueueFull:
                continue
            finally:
                look()
        calls.append(call)
        if generator.random() < 0.7:
            call.wait()
    ends = [type(call.wait()) for call in calls]
    look()
    assert not faults
    assert looks > len(calls)
    assert Finished in ends
    assert len(set(ends)) > 1
    assert kept(queue) == (0, 0, Counter(), Counter())


def test_a_full_queue_refuses_before_rows_are_planned(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    planned = 0

    def counting(*arguments: object, **settings: object) -> object:
        nonlocal planned
        planned += 1
        return plan_row(*arguments, **settings)

    plan_row = darkroom.app.engine.phases.plan_row
    monkeypatch.setattr(darkroom.app.engine.phases, "plan_row", counting)
    with engine._wake:  # holding the lock stops the engine
        submit(engine, rows(30))
        assert planned == 30
        settings = rows(1)[0].sampling
        with pytest.raises(QueueFull) as refusal:
            submit(engine, rows(11))
        with pytest.raises(QueueFull) as asked:
            engine.require_room("v1", settings, 11)
        assert vars(asked.value) == vars(refusal.value)
        with pytest.raises(DeadlineUnmeetable):
            engine.require_room("v1", settings, 1, deadline_seconds=1e-9)
        engine.require_room("v1", settings, 1)
    assert planned == 30


def test_a_request_is_refused_if_the_queue_fills_while_its_rows_are_planned(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overtaken(denoiser: Denoiser, request: SampleRequest) -> list[Drawing]:
        monkeypatch.undo()
        submit(engine, rows(30))
        return drawings(denoiser, request)

    drawings = darkroom.app.engine.engine.drawings
    with engine._wake:
        monkeypatch.setattr(darkroom.app.engine.engine, "drawings", overtaken)
        with pytest.raises(QueueFull):
            submit(engine, rows(20))
        assert engine.status().requests == 1


def test_a_request_whose_last_event_is_being_sent_takes_no_time_from_others(engine: Engine) -> None:
    """Between the events of its last row and its last event, a request has no unfinished row, and is in the queue."""
    forecasts = list[float]()

    def ask(event: Event) -> None:
        if isinstance(event, RowDone):
            with pytest.raises(QueueFull) as refusal:
                engine.require_place(None)
            expected = engine.expected_seconds("v1", rows(1)[0].sampling, 1)
            forecasts.extend([refusal.value.retry_after_seconds, expected])

    with engine._wake:
        engine.submit(SampleRequest("v1", rows(1)), ask)
        others = [submit(engine, rows(number)) for number in (29, 10)]
    for other in others:
        assert isinstance(other.wait(), Finished)
    assert len(forecasts) == 2
    assert min(forecasts) > 0.0


def test_a_request_without_rows_is_refused(engine: Engine) -> None:
    with pytest.raises(ValueError, match="at least one row"):
        submit(engine, ())
    assert engine.status().requests == 0


INTERVAL = {"guidance": 3.0, "guidance_interval": (0.3, 3.0), "sampler": "ipndm", "spacing": "edm", "steps": 17}


@pytest.mark.parametrize(
    ("settings", "scored"),
    [
        ({}, False),
        ({}, True),
        ({"guidance": 1.0}, False),
        ({"guidance": 1.0}, True),
        ({"guidance": 0.0}, False),
        (INTERVAL, False),
        (INTERVAL, True),
        ({"guidance": 0.0, "guidance_interval": (0.3, 3.0)}, False),
    ],
)
def test_a_forecast_from_settings_is_that_of_the_planned_rows(
    engine: Engine, settings: dict[str, object], scored: bool
) -> None:
    wanted = rows(7, **settings)
    with engine._wake:
        idle = engine.expected_seconds("v1", wanted[0].sampling, 7, scored=scored)
        submit(engine, rows(16, steps=1))
        alone = engine.expected_seconds("v1", wanted[0].sampling, 7, scored=scored, deadline_seconds=1e-9)
        behind = engine.expected_seconds("v1", wanted[0].sampling, 7, scored=scored)
        with pytest.raises(DeadlineUnmeetable) as refusal:
            submit(engine, wanted, scored=scored, deadline_seconds=1e-9)
    assert alone == refusal.value.expected_seconds
    assert behind > idle, "work that was accepted earlier takes its share"
