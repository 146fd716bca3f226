"""Laws of the results page: it shows what was measured, and leaves out what was not."""

import pytest

from bench.experiments import guidance, guides
from bench.experiments.report import few_against_many, mean_and_spread, shipped_default, table
from darkroom.model.config import SamplingConfig, ScheduleConfig
from darkroom.model.metrics.frontier import FrontierPoint


def point(steps: int, value: float, **settings: object) -> FrontierPoint:
    sampling = SamplingConfig.model_validate({"steps": steps, "threshold": "none", "guidance": 1.0, **settings})
    return FrontierPoint.of(sampling, steps, value, f"sha256:{steps}")


def test_few_steps_are_compared_with_the_best_of_all_steps() -> None:
    points = [
        point(5, 300.0, sampler="ddim"),
        point(10, 208.0, sampler="unipc"),
        point(15, 100.0, sampler="unipc"),
        point(1000, 250.0, sampler="ddpm"),
        point(1000, 200.0, sampler="ipndm"),
    ]
    assert few_against_many(points) == [
        "The best with at most 10 steps is 208.00 (unipc). The best with 1,000 steps is 200.00 (ipndm). "
        "The ratio is 1.040; the goal is at most 1.05."
    ]
    assert few_against_many(points[:3]) == few_against_many(points[2:]) == []


@pytest.mark.parametrize("name", guides.WAYS)
def test_the_shipped_way_is_named_as_it_is_drawn(name: str) -> None:
    shipped = SamplingConfig().model_copy(update={**guidance.DRAWN, **guides.WAYS[name]})
    (line,) = shipped_default(ScheduleConfig(), shipped)
    assert line.startswith(f"The shipped model's default is `{name}`.")


def test_what_an_interval_saves_is_counted() -> None:
    shipped = SamplingConfig().model_copy(update={**guidance.DRAWN, **guides.WAYS["interval-0.5-2-w3"]})
    (line,) = shipped_default(ScheduleConfig(), shipped)
    assert line.endswith(" An image takes 11 network evaluations. With guidance at every noise level it would take 20.")
    assert shipped_default(ScheduleConfig(), shipped.model_copy(update={"guidance": 3.5})) == []


def test_a_cell_is_the_mean_over_its_seeds_and_empty_without_one() -> None:
    assert mean_and_spread([12.34], 1) == "12.3"
    assert mean_and_spread([10.0, 12.0, 14.0], 2) == "12.00 ± 2.00"
    judged = [{"values": {"agreement": value}} for value in (0.5, 0.7)]
    assert table(("w",), [(("1",), judged), (("2",), [])], ("agreement",)).splitlines()[2:] == [
        "| 1 | 0.600 ± 0.141 | 2 |",
        "| 2 |  | 0 |",
    ]
