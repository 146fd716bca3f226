"""Laws of the drawers: a replayed step draws the images of a plain one, and the host stays a step before the device."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from darkroom.app.engine.drawer import Drawer, PlainDrawer, ReplayingDrawer
from darkroom.app.engine.engine import Engine, EngineLimits
from darkroom.app.engine.replay import Called, Flight, Lookahead
from darkroom.app.engine.request import Finished, Preview, RowRequest
from darkroom.app.engine.row_states import FIRST_ROWS, PADDING, RowStates
from darkroom.model.config import SamplingConfig
from darkroom.model.diffusion.denoiser import Denoiser
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
