"""Laws of the engine: it loses no row, and no request changes or harms another in its batch."""

import math
import random
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from darkroom.app.engine.drawer import PlainDrawer
from darkroom.app.engine.engine import Engine, EngineLimits
from darkroom.app.engine.observer import EngineObserver
from darkroom.app.engine.phases import SCORE_NETWORK_ROWS, Drawing, Result, drawings
from darkroom.app.engine.request import (
    DeadlineUnmeetable,
    EngineStopped,
    Event,
    Failed,
    Finished,
    Preview,
    Progress,
    QueueFull,
    RowDone,
    SampleRequest,
    TooManyRows,
    VersionNotLoaded,
    VersionsBusy,
)
from darkroom.app.engine.residents import GROWS_AFTER, Resident
from darkroom.app.engine.speed import SpeedCurve
from darkroom.app.engine.warmup import REPEATS, compile_ahead, measure_speed
from darkroom.model.config import SamplingConfig
from darkroom.model.diffusion.denoiser import Denoiser, Network
from darkroom.model.diffusion.fixed_shapes import FixedShapes
from darkroom.model.images.pixels import to_pixels
from darkroom.model.sampling.draw import plan_row, sample
from darkroom.telemetry.log_fields import log_fields
from tests.app.engine.calls import CLASSES, CONFIG, POISON, Call, rows, smooth, submit
from tests.telemetry.log_lines import logging_to


def rough(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
    """A snapshot of `smooth`, for autoguidance."""
    return 0.6 * smooth(x, t, labels) + 0.1


MakeEngine = Callable[..., Engine]


@pytest.fixture
def make_engine() -> Iterator[MakeEngine]:
    engines: list[Engine] = []

    def make(network: Network = smooth, limits: EngineLimits | None = None, snapshot: Network | None = None) -> Engine:
        engine = Engine(limits)
        engines.append(engine)
        engine.start()
        engine.load("v1", Denoiser(CONFIG, CLASSES, network, snapshot=snapshot)).result(60)
        return engine

    yield make
    for engine in engines:
        engine.stop(0.0)


class Gate:
    """A network that waits while the gate is closed, and counts the rows of each call."""

    def __init__(self, network: Network = smooth) -> None:
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Event()
        self.calls = 0
        self._network = network

    def __call__(self, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        self.calls += 1
        self.entered.set()
        assert self.open.wait(60)
        return self._network(x, t, labels)


def test_a_row_gets_the_same_image_as_alone(make_engine: MakeEngine) -> None:
    engine = make_engine(snapshot=rough)
    generator = random.Random(0)
    calls = []
    for number in range(24):
        settings = {
            "sampler": generator.choice(["ddpm", "ddim", "dpmpp_2m", "unipc", "ipndm"]),
            "spacing": generator.choice(["trailing", "edm"]),
            "steps": generator.choice([3, 10, 25]),
            "guidance": generator.choice([0.0, 1.0, 3.0]),
            "guidance_interval": generator.choice([None, (0.3, 3.0)]),
            "guide": generator.choice(["unconditional", "snapshot"]),
            "threshold": generator.choice(["none", "static", "dynamic"]),
        }
        wanted = rows(generator.randint(1, 4), label=generator.choice([None, 0, 1, 2]), seed=number, **settings)
        calls.append((wanted, submit(engine, wanted)))
    denoiser = Denoiser(CONFIG, CLASSES, smooth, snapshot=rough)
    for wanted, call in calls:
        assert isinstance(call.wait(), Finished)
        images = call.images()
        assert sorted(images) == list(range(len(wanted)))
        for number, row in enumerate(wanted):
            alone = sample(
                denoiser, [plan_row(denoiser, row.sampling, label=row.class_index, seed=row.seed, index=row.index)]
            )
            difference = np.abs(images[number].astype(int) - to_pixels(alone)[0].astype(int))
            assert difference.max() <= 1


def test_every_request_ends_exactly_once_whatever_happens(make_engine: MakeEngine) -> None:
    engine = make_engine(limits=EngineLimits(queue_rows=60, batch_rows=8))
    generator = random.Random(1)
    calls: list[Call] = []
    refused = 0
    for _ in range(150):
        options = {"deadline_seconds": generator.choice([None, None, 0.05, 5.0])}
        try:
            calls.append(submit(engine, rows(generator.randint(1, 9), steps=generator.randint(1, 9)), **options))
        except (QueueFull, DeadlineUnmeetable):
            refused += 1
        if calls and generator.random() < 0.3:
            ticket = generator.choice(calls).ticket
            assert ticket is not None
            ticket.cancel()
    outcomes = [call.wait() for call in calls]
    assert len(outcomes) + refused == 150
    for call, outcome in zip(calls, outcomes, strict=True):
        numbers = [event.row for event in call.events if isinstance(event, RowDone)]
        assert len(numbers) == len(set(numbers)), "the engine delivered an image twice"
        if isinstance(outcome, Finished):
            progress = [event for event in call.events if isinstance(event, Progress)]
            assert progress[-1].done_steps == progress[-1].total_steps
    left = engine.status()
    assert (left.rows_waiting, left.rows_running, left.requests) == (0, 0, 0)


def test_a_faulty_row_harms_no_other_request(make_engine: MakeEngine) -> None:
    def poisoned(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        if bool((labels == POISON).any()):
            raise RuntimeError("bad class")
        return smooth(x, t, labels)

    gate = Gate(poisoned)
    engine = make_engine(gate)
    gate.open.clear()
    gate.entered.clear()
    blocker = submit(engine, rows(1))
    assert gate.entered.wait(60)
    good = [submit(engine, rows(3, seed=seed)) for seed in range(3)]
    with logging_to() as written:
        with log_fields(request_id="bad"):
            bad = submit(engine, rows(2, label=POISON))
        gate.open.set()
        assert bad.wait() == Failed("internal", "sampling failed: RuntimeError")
    (fault,) = (line for line in written.parsed() if "exception" in line)
    assert fault["request_id"] == "bad"  # although the engine's thread wrote the line
    for call in [blocker, *good]:
        assert isinstance(call.wait(), Finished)


def test_values_that_are_not_finite_fail_only_their_own_request(make_engine: MakeEngine) -> None:
    def diverging(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        return torch.where((labels == POISON).reshape(-1, 1, 1, 1), torch.nan, smooth(x, t, labels))

    engine = make_engine(diverging)
    bad = submit(engine, rows(2, label=POISON, threshold="none"))
    good = submit(engine, rows(2))
    assert isinstance(good.wait(), Finished)
    end = bad.wait()
    assert isinstance(end, Failed)
    assert end.reason == "internal"
    assert not bad.images()


def test_out_of_memory_halves_the_batch_and_loses_nothing(make_engine: MakeEngine) -> None:
    limited = False

    def tight(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        if limited and len(x) > 4:
            raise torch.OutOfMemoryError("too large")
        return smooth(x, t, labels)

    engine = make_engine(tight, EngineLimits(batch_rows=32))
    limited = True
    calls = [submit(engine, rows(6, seed=seed)) for seed in range(4)]
    assert all(isinstance(call.wait(), Finished) for call in calls)
    assert engine.status().resident["v1"] <= 32
    assert all(len(call.images()) == 6 for call in calls)


def test_the_limit_after_out_of_memory_only_falls(make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    limited = False

    def tight(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        if limited and len(x) > 5:
            raise torch.OutOfMemoryError("too large")
        return smooth(x, t, labels)

    monkeypatch.setattr(SpeedCurve, "knee", lambda curve: 32)
    engine = make_engine(tight, EngineLimits(batch_rows=32))
    limited, seen = True, [32]
    call = Call()

    def sink(event: Event) -> None:
        if isinstance(event, Progress):
            seen.append(engine.status().resident["v1"])
        call.sink(event)

    engine.submit(SampleRequest("v1", rows(32, guidance=1.0)), sink)
    assert isinstance(call.wait(), Finished)
    assert seen == sorted(seen, reverse=True)
    assert 1 <= seen[-1] <= 5


def test_the_limit_grows_again_after_steps_without_a_fault_but_not_beyond_its_first_value() -> None:
    resident = Resident("v1", Denoiser(CONFIG, CLASSES, smooth), SpeedCurve({1: 1.0}), 32)
    resident.ran_out_of_memory(24)
    resident.ran_out_of_memory(20)
    seen = []
    for _ in range(3 * GROWS_AFTER):
        resident.succeeded()
        seen.append(resident.batch_limit)
    assert [*dict.fromkeys(seen)] == [10, 20, 32]
    assert seen.index(20) == GROWS_AFTER - 1


def test_the_tensors_of_a_step_without_memory_are_free_before_the_next() -> None:
    """Only the failed step's frame holds its tensor. A traceback that is still handled would hold the frame."""
    failed: list[weakref.ref[Tensor]] = []
    alive: list[bool] = []

    def tight(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        if len(x) > 4:
            held = torch.empty(8)
            failed.append(weakref.ref(held))
            raise torch.OutOfMemoryError("too large")
        alive.extend(one() is not None for one in failed)
        return smooth(x, t, labels)

    ready = False
    engine = Engine(EngineLimits(batch_rows=32))
    engine.start()
    engine.load("v1", Denoiser(CONFIG, CLASSES, lambda *inputs: (tight if ready else smooth)(*inputs))).result(60)
    ready = True
    assert isinstance(submit(engine, rows(12)).wait(), Finished)
    engine.stop(0.0)
    assert failed
    assert alive
    assert not any(alive)


def test_a_lost_device_fails_all_requests_and_ends_the_engine() -> None:
    told, lost = threading.Event(), False

    def on_device(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        if lost:
            raise torch.AcceleratorError("CUDA error: device-side assert triggered")
        return smooth(x, t, labels)

    engine = Engine(on_failure=told.set)
    engine.start()
    engine.load("v1", Denoiser(CONFIG, CLASSES, on_device)).result(60)
    lost = True
    call = submit(engine, rows(2))
    end = call.wait()
    assert isinstance(end, Failed)
    assert end.reason == "internal"
    assert told.wait(60)
    engine.stop(0.0)
    assert not engine.alive


def test_a_device_that_another_thread_finds_lost_ends_an_idle_engine() -> None:
    told = threading.Event()
    engine = Engine(on_failure=told.set)
    engine.start()
    engine.device_lost(torch.AcceleratorError("CUDA error: device-side assert triggered"))
    assert told.wait(60)
    engine.stop(0.0)
    assert not engine.alive


def test_out_of_memory_after_a_step_halves_the_batch_and_advances_no_row_twice(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Finished images are put together after their step. That may need memory, too."""
    engine, wanted = make_engine(limits=EngineLimits(batch_rows=32)), rows(9)
    whole = submit(engine, wanted)
    assert isinstance(whole.wait(), Finished)
    results, sizes = Drawing.results.__func__, []

    def tight(cls: type[Drawing], phases: Sequence[Drawing]) -> list[Result]:
        finished = [one for one in phases if one.position == one.plan.steps]
        sizes.append(len(finished))
        if len(finished) > 4:
            raise torch.OutOfMemoryError("too large")
        return results(cls, phases)

    monkeypatch.setattr(Drawing, "results", classmethod(tight))
    halved = submit(engine, wanted)
    assert isinstance(halved.wait(), Finished), halved.events
    assert max(sizes) > 4
    assert engine.status().resident["v1"] < 32
    for row, image in whole.images().items():
        np.testing.assert_array_equal(halved.images()[row], image)


def test_a_warm_up_without_memory_frees_its_tensors_before_it_returns_the_speed() -> None:
    failed: list[weakref.ref[Tensor]] = []

    def tight(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        if len(x) > 4:
            held = torch.empty(8)
            failed.append(weakref.ref(held))
            raise torch.OutOfMemoryError("too large")
        return smooth(x, t, labels)

    with torch.inference_mode():
        for speed in measure_speed(PlainDrawer(Denoiser(CONFIG, CLASSES, tight)), 16):
            if speed is not None:
                break
    assert speed is not None
    assert speed.knee() <= 4
    assert failed
    assert failed[0]() is None


def test_everything_that_compiles_is_first_called_off_the_engines_thread(make_engine: MakeEngine) -> None:
    """So that requests of other versions wait for no compilation."""
    first: dict[tuple[str, int, bool], str] = {}

    def watched(name: str, network: Network) -> Network:
        def watching(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
            first.setdefault((name, len(x), labels.is_floating_point()), threading.current_thread().name)
            return network(x, t, labels)

        return FixedShapes(watching)

    engine = make_engine(limits=EngineLimits(batch_rows=8))
    denoiser = Denoiser(CONFIG, CLASSES, watched("own", smooth), snapshot=watched("snapshot", rough))
    compile_ahead(denoiser, engine.limits.batch_rows)
    engine.load("v2", denoiser).result(60)
    wanted = tuple(replace(row, end_class_index=2, mix=0.3) for row in rows(3))
    for asked in (wanted, rows(7), rows(2, guide="snapshot")):
        assert isinstance(submit(engine, asked, "v2").wait(), Finished)
    assert len(first) == 2 * 4 * 2
    assert set(first.values()) == {threading.current_thread().name}


def test_each_step_of_a_warm_up_is_reported_with_its_seconds() -> None:
    told: list[float] = []

    class Listening(EngineObserver):
        def warm_up_step(self, seconds: float) -> None:
            told.append(seconds)

    engine = Engine(EngineLimits(batch_rows=4), Listening())
    engine.start()
    engine.load("v1", Denoiser(CONFIG, CLASSES, smooth)).result(60)
    engine.stop(0.0)
    assert len(told) == 3 * (1 + REPEATS) + 1  # three sizes, and the end


def test_requests_have_half_of_the_time_while_another_version_warms_up() -> None:
    """So a request takes at most twice its time and one step of the warm-up, however large its own steps are."""
    spent: list[tuple[str, float]] = []

    def costly(name: str, seconds_of_a_row: float) -> Network:
        def network(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
            spent.append((name, seconds_of_a_row * len(x)))
            return gate(x, t, labels) if name == "served" else smooth(x, t, labels)

        return network

    gate = Gate()
    engine = Engine(EngineLimits(batch_rows=16), clock=lambda: sum(seconds for _, seconds in spent))
    engine.start()
    try:
        engine.load("v1", Denoiser(CONFIG, CLASSES, costly("served", 0.01))).result(60)
        gate.open.clear()
        gate.entered.clear()
        call = submit(engine, rows(1, guidance=1.0, steps=1000))
        assert gate.entered.wait(60)
        before = len(spent)
        loaded = engine.load("v2", Denoiser(CONFIG, CLASSES, costly("new", 0.05)))
        gate.open.set()
        loaded.result(60)
        assert not any(isinstance(event, Finished) for event in call.events), "the load waited for the request's end"
        assert isinstance(call.wait(), Finished)
    finally:
        engine.stop(0.0)
    waited = own = 0.0
    for name, seconds in spent[before:]:
        if name == "new":
            assert waited <= own + 1e-9
            waited += seconds
        else:
            own += seconds
    assert waited == pytest.approx((1 + REPEATS) * 0.05 * (1 + 2 + 4 + 8 + 16))


def test_out_of_memory_in_warm_up_leaves_the_smaller_batches(make_engine: MakeEngine) -> None:
    def tight(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        if len(x) > 8:
            raise torch.OutOfMemoryError("too large")
        return smooth(x, t, labels)

    engine = make_engine(tight, EngineLimits(batch_rows=64))
    assert engine.status().resident["v1"] <= 8
    assert isinstance(submit(engine, rows(20, guidance=1.0)).wait(), Finished)


def test_a_row_outside_its_interval_takes_one_network_row_and_both_networks_are_counted(
    make_engine: MakeEngine,
) -> None:
    """The engine's counts agree with the networks' inputs and with the rows' plans."""
    reported: list[int] = []

    class Listening(EngineObserver):
        def step(self, rows: int, network_rows: int, seconds: float, batch_limit: int) -> None:
            reported.append(network_rows)

    seen: list[int] = []

    def counted(network: Network) -> Network:
        def counting(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
            seen.append(len(x))
            return network(x, t, labels)

        return counting

    denoiser = Denoiser(CONFIG, CLASSES, counted(smooth), snapshot=counted(rough))
    engine = Engine(EngineLimits(batch_rows=16), Listening())
    engine.start()
    engine.load("v1", denoiser).result(60)
    seen.clear()
    wanted = (
        *rows(3, guidance_interval=(0.3, 3.0), steps=12),
        *rows(2, guidance_interval=(0.3, 3.0), guide="snapshot", sampler="ipndm", spacing="edm"),
        *rows(2, guide="snapshot"),
    )
    call = submit(engine, wanted)
    assert isinstance(call.wait(), Finished)
    engine.stop(1.0)
    plans = [plan_row(denoiser, row.sampling, label=row.class_index, seed=row.seed) for row in wanted]
    work = sum(plan.network_rows_left[0] for plan in plans)
    assert sum(plan.steps for plan in plans) < work < 2 * sum(plan.steps for plan in plans)
    assert sum(reported) == sum(seen) == work
    assert max(reported) <= 16


def test_warm_up_runs_the_snapshot_at_every_size(make_engine: MakeEngine) -> None:
    """So the first guided request does not wait for compilation or capture."""
    sizes: set[int] = set()

    def watched(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        sizes.add(len(x))
        return rough(x, t, labels)

    make_engine(limits=EngineLimits(batch_rows=16), snapshot=watched)
    assert sizes == {1, 2, 4, 8, 16}


def test_warm_up_of_fixed_shapes_runs_every_batch_that_requests_can_need(make_engine: MakeEngine) -> None:
    """Each network sees each bucket with labels and with mixtures of labels, so that no request compiles anything."""
    seen: set[tuple[str, int, bool]] = set()

    def watched(name: str, network: Network) -> Network:
        def watching(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
            seen.add((name, len(x), labels.is_floating_point()))
            return network(x, t, labels)

        return FixedShapes(watching)

    own, snapshot = watched("own", smooth), watched("snapshot", rough)
    engine = make_engine(own, EngineLimits(batch_rows=16), snapshot=snapshot)
    warm = set(seen)
    assert warm == {
        (name, size, mixed) for name in ("own", "snapshot") for size in (1, 2, 4, 8, 16) for mixed in (0, 1)
    }
    mixture = tuple(replace(row, end_class_index=2, mix=0.3) for row in rows(3, guide="snapshot"))
    for wanted in (rows(1, guidance=1.0), rows(5), rows(7, guide="snapshot"), mixture, (*mixture, *rows(2))):
        assert isinstance(submit(engine, wanted).wait(), Finished)
    assert isinstance(submit(engine, rows(3, guidance=1.0), scored=True).wait(), Finished)
    assert seen == warm


def test_a_version_with_a_snapshot_counts_as_two(make_engine: MakeEngine) -> None:
    engine = make_engine(limits=EngineLimits(versions=3))
    engine.load("v2", Denoiser(CONFIG, CLASSES, smooth)).result(60)
    assert engine.status().networks == 2
    engine.load("v3", Denoiser(CONFIG, CLASSES, smooth, snapshot=rough)).result(60)
    assert list(engine.status().resident) == ["v2", "v3"]
    assert engine.status().networks == 3


def test_guidance_by_a_missing_snapshot_is_refused_at_once(make_engine: MakeEngine) -> None:
    engine = make_engine()
    with pytest.raises(ValueError, match="carries no snapshot"):
        submit(engine, rows(1, guide="snapshot"))
    assert engine.status().requests == 0


def test_a_fault_of_the_engine_itself_ends_every_request_and_is_reported() -> None:
    """Later requests are served: see tests/test_background_loops.py."""

    class Broken(EngineObserver):
        def step(self, rows: int, network_rows: int, seconds: float, batch_limit: int) -> None:
            raise RuntimeError("a bug")

    engine = Engine(observer=Broken())
    engine.start()
    engine.load("v1", Denoiser(CONFIG, CLASSES, smooth)).result(60)
    assert engine.alive
    calls = [submit(engine, rows(2)), submit(engine, rows(2, seed=6))]
    for call in calls:
        event = call.wait()
        assert isinstance(event, Failed)
        assert event.reason == "internal"
    engine.stop(0.0)
    assert not engine.alive
    with pytest.raises(EngineStopped):
        submit(engine, rows(1))
    with pytest.raises(EngineStopped):
        engine.load("v2", Denoiser(CONFIG, CLASSES, smooth)).result(60)


def test_a_caller_that_gives_up_waiting_for_a_load_harms_no_other(make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.load("v2", Denoiser(CONFIG, CLASSES, smooth)).cancel()
    engine.load("v3", Denoiser(CONFIG, CLASSES, smooth)).result(60)
    assert isinstance(submit(engine, rows(1)).wait(), Finished)


def test_the_queue_is_bounded_in_rows_and_a_refusal_says_when_to_try_again(make_engine: MakeEngine) -> None:
    gate = Gate()
    engine = make_engine(gate, EngineLimits(queue_rows=10))
    gate.open.clear()
    first = submit(engine, rows(8))
    with pytest.raises(QueueFull) as refusal:
        submit(engine, rows(3))
    assert refusal.value.rows_waiting == 8
    assert 0.0 < refusal.value.retry_after_seconds < float("inf")
    second = submit(engine, rows(2))
    with pytest.raises(TooManyRows):
        submit(engine, rows(11))
    gate.open.set()
    assert isinstance(first.wait(), Finished)
    assert isinstance(second.wait(), Finished)


def test_a_cancelled_request_leaves_between_two_steps(make_engine: MakeEngine) -> None:
    gate = Gate()
    engine = make_engine(gate)
    gate.open.clear()
    gate.entered.clear()
    call = submit(engine, rows(4, steps=1000))
    assert gate.entered.wait(60)
    assert call.ticket is not None
    call.ticket.cancel()
    calls = gate.calls
    gate.open.set()
    assert call.wait() == Failed("cancelled", "the request was cancelled")
    assert gate.calls == calls, "the engine made another step for a cancelled request"
    assert engine.status().requests == 0


def test_a_deadline_that_cannot_be_met_is_refused_at_once(make_engine: MakeEngine) -> None:
    engine = make_engine()
    with pytest.raises(DeadlineUnmeetable) as refusal:
        submit(engine, rows(64, steps=1000), deadline_seconds=1e-4)
    assert refusal.value.expected_seconds > 1e-4
    assert engine.status().requests == 0


def test_a_deadline_that_passes_drops_the_request(make_engine: MakeEngine) -> None:
    gate = Gate()
    engine = make_engine(gate)
    gate.open.clear()
    call = submit(engine, rows(1, steps=2), deadline_seconds=0.5)
    threading.Timer(0.8, gate.open.set).start()
    end = call.wait()
    assert isinstance(end, Failed)
    assert end.reason == "deadline"


def test_previews_come_in_order_and_only_when_asked_for(make_engine: MakeEngine) -> None:
    engine = make_engine()
    call = submit(engine, rows(2, steps=10), preview_every_steps=3)
    call.wait()
    previews = [(event.row, event.step) for event in call.events if isinstance(event, Preview)]
    assert sorted(previews) == [(row, step) for row in range(2) for step in (3, 6, 9)]
    assert previews.index((0, 3)) < previews.index((0, 6)) < previews.index((0, 9))
    plain = submit(engine, rows(1))
    plain.wait()
    assert not [event for event in plain.events if isinstance(event, Preview)]


def test_several_versions_load_together_and_the_least_recently_used_leaves(make_engine: MakeEngine) -> None:
    engine = make_engine(limits=EngineLimits(versions=2))
    running = submit(engine, rows(4, steps=200))
    engine.load("v2", Denoiser(CONFIG, CLASSES, lambda x, t, labels: -smooth(x, t, labels))).result(60)
    assert isinstance(running.wait(), Finished)
    new, old = submit(engine, rows(1), "v2"), submit(engine, rows(1), "v1")
    new.wait()
    old.wait()
    assert not np.array_equal(new.images()[0], old.images()[0])
    engine.load("v3", Denoiser(CONFIG, CLASSES, smooth)).result(60)
    assert list(engine.status().resident) == ["v1", "v3"]
    with pytest.raises(VersionNotLoaded):
        submit(engine, rows(1), "v2")


def test_versions_that_serve_everybody_leave_memory_last(make_engine: MakeEngine) -> None:
    engine = make_engine(limits=EngineLimits(versions=2))
    engine.keep_longest(lambda: ["v1"])
    for version in ("v2", "v3"):
        engine.load(version, Denoiser(CONFIG, CLASSES, smooth)).result(60)
        assert list(engine.status().resident) == ["v1", version]
    engine.keep_longest(lambda: ["v1", "v3", "v4"])
    engine.load("v4", Denoiser(CONFIG, CLASSES, smooth)).result(60)
    assert list(engine.status().resident) == ["v3", "v4"]


def test_an_owner_keeps_no_more_than_its_share_of_a_full_memory_busy(make_engine: MakeEngine) -> None:
    engine = make_engine(limits=EngineLimits(versions=2, queue_seconds=math.inf))

    def draw(version: str, owner: int | None) -> Call:
        return submit(engine, rows(200, steps=1000), version, owner=owner)

    calls = [draw("v1", 7)]
    for version in ("v2", "v3"):
        engine.load(version, Denoiser(CONFIG, CLASSES, smooth)).result(60)
        if version == "v2":
            calls.append(draw(version, 7))  # as many as memory has room for
    assert engine.status().networks == 3
    for attempt in (partial(draw, "v3", 7), partial(require_room, engine, "v3", 7)):
        with pytest.raises(VersionsBusy) as refused:
            attempt()
        assert refused.value.versions == 2
    calls += [draw("v1", 7), draw("v3", 8), draw("v1", None)]  # no further network; another owner; nobody's request
    with pytest.raises(VersionsBusy):
        draw("v1", 8)
    for call in calls:
        call.cancel()
    assert all(isinstance(call.wait(), Failed) for call in calls)
    calls = [draw("v3", 7)]
    calls[0].cancel()


def require_room(engine: Engine, version: str, owner: int) -> None:
    engine.require_room(version, SamplingConfig(steps=2), 1, owner=owner)


def test_a_model_that_cannot_run_is_reported_to_its_loader(make_engine: MakeEngine) -> None:
    def broken(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        raise RuntimeError("no such kernel")

    engine = make_engine()
    with pytest.raises(RuntimeError, match="no such kernel"):
        engine.load("broken", Denoiser(CONFIG, CLASSES, broken)).result(60)
    assert isinstance(submit(engine, rows(1)).wait(), Finished)


def test_stopping_drains_and_refuses(make_engine: MakeEngine) -> None:
    gate = Gate()
    engine = make_engine(gate)
    gate.open.clear()
    call = submit(engine, rows(2, steps=5))
    stopper = threading.Thread(target=engine.stop, args=(60.0,))
    stopper.start()
    while True:
        try:
            submit(engine, rows(1))
        except EngineStopped:
            break
    gate.open.set()
    assert isinstance(call.wait(), Finished)
    stopper.join(60)
    assert not stopper.is_alive()


def test_padding_to_fixed_shapes_changes_no_row() -> None:
    seen: list[int] = []

    def network(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        seen.append(len(x))
        return smooth(x, t, labels)

    x, t, labels = torch.randn(5, 1, 8, 8), torch.arange(1, 6), torch.arange(5) % 3
    assert torch.equal(FixedShapes(network)(x, t, labels), smooth(x, t, labels))
    assert seen == [8]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_bucket_has_the_same_strides_and_addresses_however_its_rows_were_made(channels: int) -> None:
    """Strides of one channel are ambiguous: concatenated rows, a slice and whole tensors each have their own."""
    seen: set[tuple[object, ...]] = set()

    def network(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        seen.add(tuple((part.shape, part.stride(), part.data_ptr()) for part in (x, t, labels)))
        return x.clone()

    fixed = FixedShapes(network)
    whole = torch.randn(8, channels, 8, 8)
    spread = whole.contiguous(memory_format=torch.channels_last)
    for x in (whole, spread, torch.cat([spread[:3], whole[:5]]), spread[1:6], whole[:, :, ::2].repeat(1, 1, 2, 1)):
        rows_of_x = len(x)
        assert torch.equal(fixed(x, torch.arange(rows_of_x), torch.zeros(rows_of_x, dtype=torch.int64)), x)
    assert len(seen) == 1
    mixed = torch.full((5, 4), 0.25)
    fixed(whole[:5], torch.arange(5), mixed)
    assert len(seen) == 2  # mixtures of labels have another shape


def test_rows_left_over_from_a_larger_batch_are_cleared() -> None:
    seen: list[Tensor] = []

    def network(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        seen.append(x.clone())
        return x.clone()

    fixed = FixedShapes(network)
    for count in (8, 5):
        fixed(torch.ones(count, 1, 4, 4), torch.ones(count), torch.ones(count, dtype=torch.int64))
    assert seen[1][:5].all()
    assert not seen[1][5:].any()


def test_other_threads_may_ask_for_the_network_rows_of_a_row_that_has_just_ended() -> None:
    """A submission counts them while the engine's thread, without the lock, makes a row's last step."""
    denoiser = Denoiser(CONFIG, CLASSES, smooth)
    for scored in (False, True):
        [row] = drawings(denoiser, SampleRequest("v1", rows(1), scored=scored))
        row.position = row.plan.steps
        assert row.network_rows == SCORE_NETWORK_ROWS
        assert row.network_rows_left == row.steps_left * SCORE_NETWORK_ROWS
