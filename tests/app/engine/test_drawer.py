"""Laws of the drawers: a replayed step draws the images of a plain one, and the host stays a step before the device."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from itertools import product
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from darkroom.app.engine.drawer import Drawer, PlainDrawer, ReplayingDrawer
from darkroom.app.engine.engine import Engine, EngineLimits
from darkroom.app.engine.replay import Called, Flight, Lookahead, recording_on
from darkroom.app.engine.request import Finished, Preview, RowRequest
from darkroom.app.engine.row_states import FIRST_ROWS, PADDING, RowStates
from darkroom.app.engine.warmup import compile_ahead
from darkroom.model.config import SamplingConfig
from darkroom.model.diffusion.denoiser import Denoiser, Network
from darkroom.model.diffusion.fixed_shapes import FixedShapes, compile_whole
from darkroom.model.extension_points import SAMPLERS
from darkroom.model.sampling.draw import RowPlan, plan_row, start
from tests.app.engine.calls import CLASSES, CONFIG, rows, smooth, submit

CPU = torch.device("cpu")


class Clockwork:
    """A device whose steps take a second each; a step ends when somebody waits for it."""

    def __init__(self) -> None:
        self.recorded = self.ended = 0

    def event(self) -> "Event":
        return Event(self)


class Event:
    """An event as torch.cuda.Event: two of them belong to a step."""

    def __init__(self, device: Clockwork) -> None:
        self._device, self.number = device, -1

    def record(self) -> None:
        self.number = self._device.recorded
        self._device.recorded += 1

    def synchronize(self) -> None:
        assert self.number >= 0
        self._device.ended = max(self._device.ended, self.number + 1)

    def elapsed_time(self, later: "Event") -> float:
        assert later.number == self.number + 1
        return 1000.0


def worse(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
    """A network that guides."""
    return smooth(0.9 * x, t, labels)


def replaying(denoiser: Denoiser) -> ReplayingDrawer:
    """Return a drawer that calls each step in place of a recording."""
    return ReplayingDrawer(denoiser, Called, Lookahead(Clockwork().event))


def drawn(make: Callable[[Denoiser], Drawer], wanted: tuple[RowRequest, ...], **options: bool | int) -> list[object]:
    """Return images, scores and previews of an engine with such drawers."""
    engine = Engine(EngineLimits(batch_rows=16), drawer=make)
    engine.start()
    try:
        engine.load("v1", Denoiser(CONFIG, CLASSES, smooth, snapshot=worse)).result()
        call = submit(engine, wanted, **options)
        assert isinstance(call.wait(), Finished), call.events
    finally:
        engine.stop(0.0)
    done = call.done()
    previews = [(event.row, event.step, event.image) for event in call.events if isinstance(event, Preview)]
    return [
        [(row, done[row].image, done[row].score) for row in sorted(done)],
        sorted(previews, key=lambda one: one[:2]),
    ]


def every_sampler() -> tuple[RowRequest, ...]:
    """Return rows of all samplers and guides, and one between two classes."""
    found = [
        replace(rows(1, sampler=sampler, guide=guide, steps=5)[0], seed=number)
        for number, (sampler, guide) in enumerate(
            (sampler, guide) for sampler in SAMPLERS for guide in ("unconditional", "snapshot")
        )
    ]
    return (*found, replace(found[0], end_class_index=2, end_seed=9, mix=0.3))


@pytest.mark.parametrize("options", [{}, {"preview_every_steps": 2}, {"scored": True}], ids=["", "previews", "scores"])
def test_the_engine_draws_the_same_by_replayed_steps(options: dict[str, bool | int]) -> None:
    wanted = rows(5) if options.get("scored") else every_sampler()
    plain, replayed = (drawn(make, wanted, **options) for make in (PlainDrawer, replaying))
    for known, found in zip(plain, replayed, strict=True):
        assert len(known) == len(found)
        for one, other in zip(known, found, strict=True):
            for value, again in zip(one, other, strict=True):
                np.testing.assert_array_equal(value, again)


@torch.inference_mode()
def test_a_row_is_the_same_to_the_last_bit_alone_and_among_others() -> None:
    """Rows that are all guided, lie in a row, or have no memory take shorter ways through a step."""
    denoiser = Denoiser(CONFIG, CLASSES, smooth, snapshot=worse)
    drawer = PlainDrawer(denoiser)

    def images(plans: list[RowPlan], order: slice) -> list[Tensor]:
        places = drawer.begin(plans)
        for position in range(5):
            drawer.advance(plans[order], [position] * len(plans), places[order])
        return [place.image.clone() for place in places]

    for guidance in (1.0, 2.0):
        plans = [
            plan_row(denoiser, row.sampling.model_copy(update={"guidance": guidance}), label=0, seed=row.seed)
            for row in every_sampler()
        ]
        together = images(plans, slice(None))
        for plan, image, scattered in zip(plans, together, images(plans, slice(None, None, -1)), strict=True):
            assert torch.equal(images([plan], slice(None))[0], image), plan.sampling
            assert torch.equal(scattered, image), plan.sampling


def test_a_step_is_recorded_once_for_each_kind() -> None:
    drawer = replaying(Denoiser(CONFIG, CLASSES, smooth))
    plain = SamplingConfig(sampler="ddim", steps=3, guidance=1.0)
    for count in (5, 7, 8):
        plans = [plan_row(drawer.denoiser, plain, label=row % 3, seed=row) for row in range(count)]
        places = drawer.begin(plans)
        for position in range(3):
            drawer.advance(plans, [position] * count, places)
    assert drawer.recordings == 1
    drawer.advance(plans[:4], [0] * 4, drawer.begin(plans[:4]))
    assert drawer.recordings == 2


@pytest.mark.parametrize("snapshot", [None, worse], ids=["", "snapshot"])
@pytest.mark.parametrize("batch_rows", [1, 8])
def test_requests_of_every_kind_record_nothing_after_the_warm_up(snapshot: Network | None, batch_rows: int) -> None:
    drawers: list[ReplayingDrawer] = []

    def make(denoiser: Denoiser) -> Drawer:
        drawers.append(replaying(denoiser))
        return drawers[-1]

    engine = Engine(EngineLimits(batch_rows=batch_rows), drawer=make)
    engine.start()
    try:
        engine.load("v1", Denoiser(CONFIG, CLASSES, smooth, snapshot=snapshot)).result()
        warm = drawers[0].recordings
        assert warm == (4 if batch_rows == 8 else 2) * (4 if snapshot is None else 8)  # batch sizes times kinds
        guides = ["unconditional", "snapshot"][: 1 if snapshot is None else 2]
        for count, sampler, guide, guidance, mixed in product(
            (1, 3, 8), ("ddim", "ddpm"), guides, (1.0, 2.0), (False, True)
        ):
            wanted = rows(count, sampler=sampler, guide=guide, guidance=guidance, steps=3)
            between = tuple(replace(row, end_class_index=2, mix=0.3) for row in wanted)
            assert isinstance(submit(engine, between if mixed else wanted).wait(), Finished)
    finally:
        engine.stop(0.0)
    assert drawers[0].recordings == warm


def test_what_one_thread_has_compiled_serves_the_engines_thread() -> None:
    """Dynamo guards much that belongs to a thread, and compiles again where it differs."""
    graphs: list[str] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Any]) -> Callable[..., Any]:
        graphs.append(threading.current_thread().name)
        return graph.forward

    own, guide = (FixedShapes(compile_whole(network, backend=backend)) for network in (smooth, worse))
    denoiser = Denoiser(CONFIG, CLASSES, own, snapshot=guide)
    with ThreadPoolExecutor(1, thread_name_prefix="loader") as loader:
        loader.submit(compile_ahead, denoiser, 8).result()
    compiled = list(graphs)
    assert compiled
    assert all(name.startswith("loader") for name in compiled)
    engine = Engine(EngineLimits(batch_rows=8), drawer=replaying)
    engine.start()
    try:
        engine.load("v1", denoiser).result()
        for wanted in (rows(1), rows(5), every_sampler()):
            assert isinstance(submit(engine, wanted).wait(), Finished)
    finally:
        engine.stop(0.0)
    assert graphs == compiled


def test_steps_are_recorded_and_measured_on_the_denoisers_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA's current device belongs to a thread and is 0 at first. A recording made there replays nothing elsewhere."""
    current, seen = [0], []

    @contextmanager
    def on(device: torch.device) -> Iterator[None]:
        before, current[0] = current[0], device.index
        yield
        current[0] = before

    def noting(name: str) -> Callable[..., Any]:
        def note(*arguments: object, **options: object) -> Any:
            seen.append((name, current[0]))
            return nullcontext() if name in ("graph", "stream") else SimpleNamespace(**stream)

        return note

    stream = {"wait_stream": lambda other: None, "replay": noting("replay"), "record": noting("record")}
    monkeypatch.setattr(torch.cuda, "device", on)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    for name in ("current_stream", "Stream", "stream", "CUDAGraph", "graph", "Event"):
        monkeypatch.setattr(torch.cuda, name, noting(name))
    record, ahead = recording_on(torch.device("cuda:1"))
    recording = record(noting("step"))
    with ahead.flight(1, host_began=0.0):
        recording.replay()
    named = [name for name, _ in seen]
    assert named.count("step") == 3
    assert named[-5:] == ["Event", "Event", "record", "replay", "record"]
    assert {device for name, device in seen if name != "Event"} == {1}  # an event belongs where it is recorded
    assert current == [0]


def test_the_host_prepares_one_step_while_the_device_computes_another() -> None:
    device = Clockwork()
    ahead = Lookahead(device.event)
    for number in range(6):
        ahead.wait()
        steps_begun, steps_ended = device.recorded // 2, device.ended // 2
        assert steps_begun == number
        assert steps_ended == max(0, number - 1)  # the one before may still run
        found = ahead.take()
        if number < 2:
            assert found is None
        else:
            assert found is not None
            assert (found.network_rows, found.device_seconds) == (number - 2, 1.0)
        assert ahead.take() is None  # once
        with ahead.flight(number, host_began=0.0):
            pass


def test_the_speed_curve_learns_the_devices_time_and_not_that_of_asking_for_it() -> None:
    drawer = replaying(Denoiser(CONFIG, CLASSES, smooth))
    plans = [plan_row(drawer.denoiser, SamplingConfig(steps=9, guidance=2.0), label=0, seed=0)] * 3
    places, told = drawer.begin(plans), []
    for position in range(5):
        drawer.advance(plans, [position] * 3, places)
        told.append(drawer.timed(99, 0.001))
    assert told[:2] == [None, None]
    assert [(one.network_rows, one.device_seconds) for one in told[2:] if one is not None] == [(6, 1.0)] * 3
    assert Flight(6, 0.25, 1.0).seconds == Flight(6, 1.0, 0.25).seconds == 1.0
    assert PlainDrawer(drawer.denoiser).timed(99, 0.001) == Flight(99, 0.001)


def test_states_keep_their_places_while_others_come_and_go() -> None:
    denoiser = Denoiser(CONFIG, CLASSES, smooth)
    states = RowStates(denoiser.image_shape, CPU)
    plans = [plan_row(denoiser, SamplingConfig(steps=2), label=0, seed=seed) for seed in range(3 * FIRST_ROWS)]
    noise = start(denoiser, plans)
    kept = states.take(noise[:10])
    left = states.take(noise[10:20])
    numbers = {place.number for place in left}
    del left
    assert {place.number for place in states.take(noise[10:20])} == numbers  # dropped places are given again
    kept += states.take(noise[10:])  # more than there was room for
    taken = [place.number for place in kept]
    assert len(set(taken)) == len(taken)
    assert PADDING not in taken
    for place, expected in zip(kept, noise, strict=True):
        assert torch.equal(place.image, expected[0])
