"""A frontier's points can be compared, and a quality chooses the cheapest point that is good enough."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkroom.model.checkpoint import CheckpointHeader, decode_checkpoint, encode_checkpoint
from darkroom.model.config import EvaluationConfig, Quality, SamplingConfig, ScheduleConfig
from darkroom.model.figure import Figure
from darkroom.model.metrics.evaluation import FolderReferences
from darkroom.model.metrics.frontier import (
    WITHIN,
    FrontierPoint,
    choose,
    efficient,
    frontiers,
    nearest_frontier,
    network_evaluations,
)
from darkroom.model.metrics.frontier_measurement import frontier_cells, measure_frontier, with_evaluations
from tests.model.small import CLASS_NAMES, random_dataset, small_denoiser

SCHEDULE = ScheduleConfig()
METRIC = "fid-efficientnet-lite0"


def figure(value: float, *, metric: str = METRIC, images: int = 100, **settings: Any) -> Figure:
    """Return a figure like that of `evaluate` with these sampling settings."""
    sampling = SamplingConfig.model_validate({"guidance": 2.0} | settings)
    return Figure(metric, value, {"metric": metric, "images": images, "seed": 0, **sampling.effective()}, 1.0)


def points(*costs_and_values: tuple[int, float]) -> tuple[FrontierPoint, ...]:
    return tuple(
        FrontierPoint.of(SamplingConfig(steps=cost), cost, value, f"sha256:{number}")
        for number, (cost, value) in enumerate(costs_and_values)
    )


@pytest.mark.parametrize(("quality", "cost"), [("fast", 10), ("balanced", 20), ("best", 100)])
def test_each_quality_is_the_cheapest_that_is_good_enough(quality: Quality, cost: int) -> None:
    measured = points((5, 30.0), (10, 12.4), (15, 12.45), (20, 10.4), (50, 10.45), (100, 10.0), (250, 10.01))
    assert choose(measured, quality).network_evaluations == cost


values = st.floats(0.0, 1e6)


@given(st.lists(st.tuples(st.integers(1, 1000), values), min_size=1, max_size=30), st.sampled_from(list(WITHIN)))
def test_nothing_cheaper_is_good_enough(measured: list[tuple[int, float]], quality: Quality) -> None:
    found = points(*measured)
    chosen = choose(found, quality)
    lowest = min(value for _, value in measured)
    assert chosen.value <= WITHIN[quality] * lowest
    for cost, value in measured:
        assert cost >= chosen.network_evaluations or value > WITHIN[quality] * lowest


@given(st.lists(st.tuples(st.integers(1, 1000), values), min_size=1, max_size=30))
def test_more_quality_is_never_cheaper_and_never_worse(measured: list[tuple[int, float]]) -> None:
    fast, balanced, best = (choose(points(*measured), quality) for quality in ("fast", "balanced", "best"))
    assert fast.network_evaluations <= balanced.network_evaluations <= best.network_evaluations
    assert best.value == min(value for _, value in measured)
    assert balanced.value <= WITHIN["balanced"] * best.value


@given(st.lists(st.tuples(st.integers(1, 50), values), min_size=1, max_size=30))
def test_efficient_points_beat_each_other_in_one_thing_only(measured: list[tuple[int, float]]) -> None:
    found = points(*measured)
    kept = efficient(found)
    for cheaper, dearer in pairwise(kept):
        assert cheaper.network_evaluations < dearer.network_evaluations
        assert cheaper.value > dearer.value
    for point in found:
        assert any(one.network_evaluations <= point.network_evaluations and one.value <= point.value for one in kept), (
            "a dropped point is better than all kept ones"
        )


def test_a_distance_of_zero_that_rounding_made_negative_can_be_chosen() -> None:
    assert choose(points((5, 1.0), (10, -1e-9)), "fast").network_evaluations == 10


def test_only_figures_that_compare_are_points_of_one_frontier() -> None:
    measured = [
        figure(20.0, steps=10),
        figure(10.0, steps=50, sampler="unipc"),
        figure(11.0, steps=50, sampler="ddpm", variance="beta"),
        figure(3.0, steps=10, guidance=1.0),
        figure(2.0, steps=20, guidance=1.0),
        figure(1.0, steps=10, images=99),
        figure(1.0, steps=10, threshold="none"),
        figure(1.0, steps=10, metric="kid-efficientnet-lite0"),
        figure(1.0, steps=20, metric="kid-efficientnet-lite0"),
    ]
    found = frontiers(measured, SCHEDULE)
    assert frontiers(reversed(measured), SCHEDULE) == found
    by_guidance = {one.guidance: one for one in found}
    assert set(by_guidance) == {1.0, 2.0}
    assert [(point.sampler, point.value) for point in by_guidance[2.0].points] == [
        ("ddim", 20.0),
        ("unipc", 10.0),
        ("ddpm", 11.0),
    ]
    assert [point.network_evaluations for point in by_guidance[2.0].points] == [20, 100, 100]
    assert [point.network_evaluations for point in by_guidance[1.0].points] == [10, 20]


def test_a_request_gets_the_frontier_of_the_nearest_guidance() -> None:
    measured = [figure(1.0, steps=steps, guidance=w) for w in (1.0, 2.0, 5.0) for steps in (5, 10)]
    measured += [figure(1.0, steps=steps, guidance=2.0, images=1000) for steps in (5, 10)]
    found = frontiers(measured, SCHEDULE)
    for wanted, got in ((0.0, 1.0), (1.4, 1.0), (3.0, 2.0), (100.0, 5.0)):
        chosen = nearest_frontier(found, wanted)
        assert chosen is not None
        assert chosen.guidance == got
        assert chosen.images == (1000 if got == 2.0 else 100)
    assert nearest_frontier((), 1.0) is None


@pytest.mark.parametrize(
    "change", [{"sampler": "of-the-future"}, {"steps": 2000}, {"steps": "many"}, {"sampler": None}, {"guidance": None}]
)
def test_a_protocol_that_is_not_understood_is_left_out(change: Mapping[str, Any]) -> None:
    strange = figure(0.1, steps=7)
    strange = Figure(METRIC, 0.1, {**strange.protocol, **change}, 1.0)
    (found,) = frontiers([figure(2.0, steps=5), figure(1.0, steps=10), strange], SCHEDULE)
    assert [point.value for point in found.points] == [2.0, 1.0]


def test_steps_that_the_schedule_does_not_have_are_left_out() -> None:
    measured = [figure(value, steps=steps) for steps, value in ((5, 3.0), (10, 2.0), (1000, 1.0))]
    (found,) = frontiers(measured, ScheduleConfig(steps=100))
    assert [point.steps for point in found.points] == [5, 10]


@pytest.mark.parametrize(("guidance", "rows"), [(0.0, 1), (1.0, 1), (2.0, 2)])
def test_the_cost_is_the_network_rows_of_an_image(guidance: float, rows: int) -> None:
    from darkroom.model.sampling.draw import plan_row

    sampling = SamplingConfig(steps=7, guidance=guidance)
    plan = plan_row(small_denoiser(), sampling, label=1, seed=0)
    assert network_evaluations(SCHEDULE, sampling) == plan.network_rows_left[0] == 7 * rows


def test_a_choice_changes_the_samplers_settings_only() -> None:
    point = FrontierPoint.of(SamplingConfig(sampler="unipc", steps=9, spacing="edm", guidance=3.0), 18, 1.0, "sha256:0")
    asked = SamplingConfig(guidance=1.5, threshold="static", percentile=0.9)
    assert point.applied_to(asked) == asked.model_copy(update={"sampler": "unipc", "steps": 9, "spacing": "edm"})


CONFIG = EvaluationConfig(every_images=1, images=6, batch_images=6, guidance=7.0, steps=3)
CELLS = frontier_cells(SamplingConfig(guidance=1.0), ("ddim", "unipc"), (3, 2, 2000), SCHEDULE)


def measured_cells(folder: Path, known: Sequence[Figure] = ()) -> list[Figure]:
    found = measure_frontier(
        small_denoiser(), "sha256:0", random_dataset(), CONFIG, CELLS, FolderReferences(folder), known=known
    )
    return list(found)


def test_measuring_goes_on_where_it_stopped(tmp_path: Path) -> None:
    assert [(cell.sampler, cell.steps) for cell in CELLS] == [("ddim", 2), ("unipc", 2), ("ddim", 3), ("unipc", 3)]
    whole = measured_cells(tmp_path)
    told = [(one.protocol["sampler"], one.protocol["steps"], one.protocol["guidance"]) for one in whole]
    assert told == [(cell.sampler, cell.steps, 1.0) for cell in CELLS], "the evaluation's own settings are not used"
    rest = measured_cells(tmp_path, known=[whole[2], whole[0]])
    assert [(one.value, one.protocol) for one in rest] == [(one.value, one.protocol) for one in (whole[1], whole[3])]
    assert not measured_cells(tmp_path, known=whole)
    (found,) = frontiers(whole, SCHEDULE)
    assert {point.value for point in found.points} == {one.value for one in whole}


def test_a_weights_file_keeps_its_frontier_and_is_another_file() -> None:
    denoiser = small_denoiser()
    assert hasattr(denoiser.network, "state_dict")
    header = CheckpointHeader(
        name="small",
        model=denoiser.config,
        sampling=SamplingConfig(),
        class_names=CLASS_NAMES,
        images_seen=1,
        dataset_digest="sha256:0",
    )
    before = decode_checkpoint(encode_checkpoint(header, denoiser.network.state_dict()), source="before")
    measured = [figure(2.0, steps=5, percentile=0.9), figure(1.0, steps=10, percentile=0.9)]
    after = decode_checkpoint(with_evaluations(before, measured), source="after")
    assert after.digest != before.digest
    assert after.denoiser().config == before.denoiser().config
    assert frontiers(after.header.evaluations, SCHEDULE) == frontiers(measured, SCHEDULE) != ()
    again = decode_checkpoint(with_evaluations(after, [figure(1.5, steps=5, percentile=0.9)]), source="again")
    assert [one.value for one in again.header.evaluations] == [1.5, 1.0], "a figure of equal protocol is replaced"
    assert with_evaluations(again, ()) == encode_checkpoint(again.header, again.weights)
