"""Laws of the forecast: it falls with the images, a measurement corrects it, and fitting finds a known law again."""

import math
from itertools import pairwise

import pytest

from bench.plans import POINTS, fitted, misses
from darkroom.model.config import Recipe
from darkroom.model.training.forecast import (
    RECOGNISABLE,
    Anchors,
    Forecast,
    Measured,
    corrected_forecast,
    curve,
    forecast,
    noise_left,
    recognisable_images,
    values,
)
from darkroom.model.training.verdict import judge_distance, judge_speed
from tests.model.small import small_recipe


def recipe_of(images: int) -> Recipe:
    return small_recipe(training__total_images=images)


def test_the_distance_falls_with_the_images_and_lies_in_its_range() -> None:
    found = [forecast(recipe_of(images)) for images in (1000, 10_000, 100_000, 1_000_000)]
    for one in found:
        assert one.low < one.distance < one.high
        assert one.doubled < one.distance
    assert all(more.distance < less.distance for less, more in pairwise(found))
    assert found[0].doubled == pytest.approx(forecast(recipe_of(2000)).distance)


def after(share: float, distance: float, noise_left: float = 0.3, own: float = 50.0, noise: float = 3000.0) -> Forecast:
    return corrected_forecast(Measured(share, distance, noise_left), Anchors(own, noise))


def test_a_measured_distance_and_that_of_noise_give_a_new_forecast() -> None:
    good, bad = after(0.5, 200.0), after(0.5, 400.0)
    assert good.low < good.distance < good.high
    assert good.doubled < good.distance < bad.distance < 400.0
    hard = after(0.5, 200.0, noise=1000.0)  # where noise is nearer, the same distance was a shorter way
    assert good.distance < hard.distance < 200.0
    early, late = after(0.1, 300.0), after(0.9, 300.0)
    assert early.distance < late.distance < 300.0


def test_a_run_that_leaves_less_noise_ends_better() -> None:
    for share in (0.05, 0.1, 0.3, 0.5):
        assert after(share, 2000.0, 0.2).distance < after(share, 2000.0, 0.6).distance


def test_a_distance_near_that_of_the_data_sets_own_pictures_falls_little() -> None:
    near, far = after(0.2, 100.0, own=80.0), after(0.2, 100.0, own=0.0)
    assert far.distance < near.distance < 100.0
    assert near.distance > 80.0


def test_at_the_end_only_the_distance_counts() -> None:
    assert after(1.0, 2000.0, 0.01).distance == pytest.approx(2000.0)
    assert after(1.0, 2000.0, 0.01).doubled < 2000.0


def test_a_distance_beyond_that_of_noise_is_no_end() -> None:
    assert 1000.0 < after(0.1, 5000.0, 0.6).distance < 5000.0


def test_a_correction_between_recorded_shares_lies_between_theirs() -> None:
    first, between, second = (after(share, 500.0).distance for share in (0.2, 0.3, 0.5))
    assert min(first, second) <= between <= max(first, second)


def test_the_noise_that_is_left_is_a_share_of_that_in_x() -> None:
    alpha, sigma = 0.8, 0.6
    # The estimate x / alpha leaves all of it.
    assert noise_left((sigma / alpha) ** 2, alpha, sigma) == pytest.approx(1.0)
    assert noise_left(0.25 * (sigma / alpha) ** 2, alpha, sigma) == pytest.approx(0.25)


def test_recognisable_pictures_need_the_images_after_which_the_curve_says_so() -> None:
    model = recipe_of(1000).model
    needed = recognisable_images(model)
    assert curve().distance(needed / values(model)) == pytest.approx(RECOGNISABLE, rel=0.01)


def test_a_forecast_reads_as_two_digits() -> None:
    assert str(Forecast(1234.5, 98.6, 23456.0, 7.34)) == "1,200 (99 to 23,000)"
    assert Forecast(1234.5, 98.6, 23456.0, 7.34).with_more == "7"


def test_fitting_finds_the_law_of_runs_and_how_far_another_set_lies_from_it() -> None:
    def run(name: str, images: float, half: float) -> dict[str, object]:
        points = [(share * images, 3000.0 / (1.0 + share * images / half), 0.5) for share in POINTS]
        return {"set": name, "channels": 1, "side": 10, "points": points, "own": 0.0, "noise": 3000.0}

    sets = (("a", 500.0), ("b", 1000.0), ("c", 2000.0))
    runs = [run(name, images, half) for name, half in sets for images in (1e5, 1e6)]
    found = fitted(runs)
    for images in (1e3, 1e4, 1e5):
        assert found.distance(images / 100.0) == pytest.approx(3000.0 / (1.0 + images / 1000.0), rel=0.1)
    # Nearly `half / images` is left in the end. The others of `a` need 2 and 4 times as many images, so sqrt(8); those
    # of `b` as many; those of `c` as many fewer as those of `a` more.
    assert found.spread == pytest.approx(math.log(8**0.5) * (2 / 3) ** 0.5, rel=0.05)
    assert [one.share for one in found.corrections] == list(POINTS[:-1])
    for one in found.corrections:  # a set needs the same images all along, so a measurement tells all
        assert one.power == pytest.approx(1.0, abs=0.1)
        assert one.spread < 0.1
    [missed] = misses(runs)[0.0][:1]
    assert missed == pytest.approx(-math.log(8**0.5), rel=0.05)


def test_fitting_finds_how_much_the_noise_that_is_left_says() -> None:
    """Distances tell nothing here until the end, and each falls to 1000 times the square root of the noise left."""

    def run(name: str, left: float) -> dict[str, object]:
        points = [(share * 1e5, 1000.0 * left**0.5 if share == 1.0 else 2000.0, left) for share in POINTS]
        return {"set": name, "channels": 1, "side": 10, "points": points, "own": 0.0, "noise": 3000.0}

    found = fitted([run(name, left) for name, left in (("a", 0.1), ("b", 0.2), ("c", 0.4), ("d", 0.8))])
    for one in found.corrections:
        assert one.exponent * 2.0 / 3.0 == pytest.approx(0.5)  # weighed by how near 2000 is to noise's 3000
        assert one.spread < 0.01


def test_a_run_with_half_the_planned_images_is_slow() -> None:
    assert judge_speed(500, 999) == []
    [finding] = judge_speed(448, 6769)
    assert finding.kind == "slow"
    assert "448 images in the time planned for 6,769" in finding.advice


def test_a_distance_above_the_recorded_range_is_behind() -> None:
    expected = Forecast(300.0, 200.0, 450.0, 250.0)
    assert judge_distance(450.0, expected) == []
    [finding] = judge_distance(451.0, expected)
    assert (finding.kind, finding.severity) == ("behind", "warning")
    assert "most trainings had 300 (200 to 450)" in finding.advice
