"""Guidance: its interval, and guidance by a snapshot of the network."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from darkroom.model.config import SamplingConfig, ScheduleConfig
from darkroom.model.diffusion.denoiser import Denoiser, Network
from darkroom.model.diffusion.schedule import make_schedule
from darkroom.model.diffusion.unet import UNet
from darkroom.model.sampling.draw import RowPlan, plan_row, sample
from darkroom.model.sampling.guidance import network_rows_left
from darkroom.model.sampling.step_numbers import REAL
from tests.model.small import CLASS_NAMES, awaken, small_denoiser

EVERYWHERE, NOWHERE = (0.0, 1e9), (1e8, 1e9)
WEIGHTS = [0.0, 0.5, 1.0, 2.0, 7.5]
GREY_LEVEL = 2.0 / 255.0


def draw(denoiser: Denoiser, sampling: SamplingConfig, labels: tuple[int | None, ...] = (0, 1, 2)) -> Tensor:
    plans = [plan_row(denoiser, sampling, label=label, seed=3, index=index) for index, label in enumerate(labels)]
    return sample(denoiser, plans)


def with_snapshot(snapshot: Network | None = None, *, seed: int = 7) -> Denoiser:
    """Return the small denoiser with a snapshot: the given network, or another random one."""
    denoiser = small_denoiser()
    if snapshot is None:
        network = UNet(denoiser.config, len(CLASS_NAMES))
        awaken(network, seed)
        snapshot = network.eval().requires_grad_(False)
    return Denoiser(denoiser.config, CLASS_NAMES, denoiser.network, snapshot=snapshot)


class Counted:
    """A network that records the number of rows of each call."""

    def __init__(self, network: Network) -> None:
        self.rows: list[int] = []
        self._network = network

    def __call__(self, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        self.rows.append(len(x))
        return self._network(x, t, labels)


@pytest.mark.parametrize("guide", ["unconditional", "snapshot"])
@pytest.mark.parametrize("sampler", ["ddpm", "unipc", "ipndm"])
@pytest.mark.parametrize("w", [0.0, 3.0])
def test_outside_its_interval_a_row_is_unguided_bit_for_bit_and_costs_as_little(
    guide: str, sampler: str, w: float
) -> None:
    denoiser = with_snapshot()
    counted = Counted(denoiser.network)
    denoiser.network = counted
    settings = SamplingConfig.model_validate({"sampler": sampler, "steps": 6, "guidance": w, "guide": guide})
    plain = draw(denoiser, settings.model_copy(update={"guidance": 1.0}))
    cost = sum(counted.rows)
    outside = draw(denoiser, settings.model_copy(update={"guidance_interval": NOWHERE}))
    assert torch.equal(outside, plain)
    assert sum(counted.rows) == 2 * cost
    assert not torch.allclose(draw(denoiser, settings), plain, atol=0.01)


@pytest.mark.parametrize("guide", ["unconditional", "snapshot"])
def test_an_interval_that_holds_every_level_is_none(guide: str) -> None:
    denoiser = with_snapshot()
    settings = SamplingConfig.model_validate({"steps": 6, "guidance": 3.0, "guide": guide})
    everywhere = draw(denoiser, settings.model_copy(update={"guidance_interval": EVERYWHERE}))
    assert torch.equal(everywhere, draw(denoiser, settings))


def test_a_step_is_guided_where_its_noise_level_is_in_the_interval() -> None:
    denoiser = small_denoiser()
    counted = Counted(denoiser.network)
    denoiser.network = counted
    sampling = SamplingConfig(steps=10, guidance=2.0, guidance_interval=(0.4, 3.0))
    plan = plan_row(denoiser, sampling, label=0, seed=0)
    sample(denoiser, [plan])
    schedule = make_schedule(denoiser.config.schedule)
    levels = (schedule.sigma / schedule.alpha)[plan.table.times[:-1]]
    wanted = [2 if 0.4 < level <= 3.0 else 1 for level in levels.tolist()]
    assert len(set(wanted)) == 2
    assert counted.rows == wanted
    assert [plan.network_rows(k) for k in range(10)] == wanted
    assert plan.numbers[:, REAL.index("guidance")].tolist() == [2.0 if rows == 2 else 1.0 for rows in wanted]
    assert plan.network_rows_left == tuple(np.cumsum([0, *wanted[::-1]])[::-1].tolist())


def test_the_ends_of_an_interval_are_open_below_and_closed_above() -> None:
    config = ScheduleConfig()
    schedule = make_schedule(config)
    sampling = SamplingConfig(steps=1000, guidance=2.0)
    low, high = (float((schedule.sigma / schedule.alpha)[t]) for t in (300, 500))
    left = network_rows_left(config, sampling.model_copy(update={"guidance_interval": (low, high)}), 2.0)
    guided = [1000 - k for k in range(1000) if left[k] - left[k + 1] == 2]
    assert guided == list(range(500, 300, -1))


@pytest.mark.parametrize("interval", [(1.0, 1.0), (2.0, 1.0), (-1.0, 1.0), (0.0, float("inf")), (0.0, float("nan"))])
def test_intervals_that_are_none_are_refused(interval: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="guidance_interval"):
        SamplingConfig.model_validate({"guidance_interval": interval})


@pytest.mark.parametrize("w", WEIGHTS)
@pytest.mark.parametrize("label", [0, None])
def test_a_snapshot_that_is_the_network_itself_changes_nothing(w: float, label: int | None) -> None:
    denoiser = with_snapshot(small_denoiser().network)
    settings = SamplingConfig(steps=6, sampler="unipc", guidance=1.0, guide="snapshot")
    plain = draw(denoiser, settings, (label, label))
    assert torch.equal(draw(denoiser, settings.model_copy(update={"guidance": w}), (label, label)), plain)


@pytest.mark.parametrize("w", WEIGHTS)
def test_guidance_by_a_snapshot_moves_away_from_its_estimate_for_the_same_class(w: float) -> None:
    denoiser = with_snapshot()
    assert denoiser.snapshot is not None
    earlier = Denoiser(denoiser.config, CLASS_NAMES, denoiser.snapshot)
    x, t, labels = torch.randn(4, 1, 8, 8), torch.tensor([1, 200, 500, 700]), torch.tensor([0, 1, 2, 3])
    ones = torch.ones(4, dtype=torch.float64)
    guided = denoiser.estimate(x, t, labels, w * ones, torch.ones(4, dtype=torch.bool))[0]
    expected = w * denoiser.estimate(x, t, labels, ones)[0] + (1 - w) * earlier.estimate(x, t, labels, ones)[0]
    torch.testing.assert_close(guided, expected, rtol=1e-3, atol=1e-3)


def test_without_a_snapshot_nothing_can_be_guided_by_one() -> None:
    denoiser = small_denoiser()
    with pytest.raises(ValueError, match="carries no snapshot"):
        plan_row(denoiser, SamplingConfig(guide="snapshot", guidance=2.0), label=0, seed=0)
    with pytest.raises(ValueError, match="carries no snapshot"):
        denoiser.estimate(
            torch.zeros(1, 1, 8, 8), torch.tensor([5]), torch.tensor([0]), torch.tensor([2.0]), torch.tensor([True])
        )[0]


def mixed_plans(denoiser: Denoiser) -> list[RowPlan]:
    every = itertools.product(("unconditional", "snapshot"), (0.0, 1.0, 2.5), (None, (0.3, 3.0)), (None, 1))
    plans = []
    for position, (guide, w, interval, label) in enumerate(every):
        fields = {"guide": guide, "guidance": w, "guidance_interval": interval, "sampler": "ipndm", "spacing": "edm"}
        sampling = SamplingConfig.model_validate(fields | {"steps": (6, 10)[position % 2]})
        plans.append(plan_row(denoiser, sampling, label=label, seed=1, index=position))
    blend = SamplingConfig(sampler="unipc", guidance=2.0, steps=10, guide="snapshot")
    plans.append(plan_row(denoiser, blend, label=0, end_label=2, seed=8, end_seed=9, mix=0.4))
    return plans


def test_rows_of_all_guides_and_intervals_in_one_batch_are_what_they_are_alone() -> None:
    denoiser = with_snapshot()
    plans = mixed_plans(denoiser)
    for plan, image in zip(plans, sample(denoiser, plans), strict=True):
        assert (sample(denoiser, [plan])[0] - image).abs().max() < GREY_LEVEL, plan.sampling


def test_the_networks_see_the_rows_that_need_them_and_no_others() -> None:
    denoiser = with_snapshot()
    assert denoiser.snapshot is not None
    main, snapshot = Counted(denoiser.network), Counted(denoiser.snapshot)
    denoiser.network, denoiser.snapshot = main, snapshot
    plans = mixed_plans(denoiser)
    sample(denoiser, plans)
    assert sum(main.rows) + sum(snapshot.rows) == sum(plan.network_rows_left[0] for plan in plans)
    by_snapshot = [plan for plan in plans if plan.sampling.guide == "snapshot"]
    assert sum(snapshot.rows) == sum(plan.network_rows_left[0] - plan.steps for plan in by_snapshot) > 0
