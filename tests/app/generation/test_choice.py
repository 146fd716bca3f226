"""Laws of settings picked by `quality` or a deadline: they come from the frontier, and the answer names them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from darkroom.app.generation.choice import DEFAULTS
from darkroom.model.checkpoint import decode_checkpoint
from darkroom.model.config import SamplingConfig
from darkroom.model.figure import Figure
from darkroom.model.metrics.frontier_measurement import with_evaluations
from darkroom.model.protocol import protocol_digest
from darkroom.store.database import Database
from darkroom.store.figure_repository import record_figures
from darkroom.store.model_repository import resolve
from tests.app.served import Json, Service, pixels_of, png_facts, serving, serving_slowly, store_weights, tiny_weights
from tests.app.test_refusals import assert_problem
from tests.processes import wait_until

METRIC = "fid-efficientnet-lite0"
POINTS: tuple[tuple[float, dict[str, Any]], ...] = (
    (30.0, {"sampler": "ipndm", "steps": 5, "spacing": "edm"}),
    (12.4, {"sampler": "unipc", "steps": 10}),
    (10.4, {"sampler": "dpmpp_2m", "steps": 20}),
    (10.0, {"sampler": "ddpm", "steps": 100, "variance": "beta"}),
)
PICKED = {"fast": POINTS[1][1], "balanced": POINTS[2][1], "best": POINTS[3][1]}


def figure(value: float, guidance: float = 2.0, **settings: Any) -> Figure:
    sampling = SamplingConfig.model_validate({"guidance": guidance} | settings)
    return Figure(METRIC, value, {"metric": METRIC, "images": 100, **sampling.effective()}, 1.0)


FIGURES = [figure(value, **settings) for value, settings in POINTS]


def measured_weights() -> bytes:
    return with_evaluations(decode_checkpoint(tiny_weights("measured", 2), source="test"), FIGURES)


@pytest.fixture(scope="module")
def folder(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights folder: `tiny` has no frontier, `measured` has one in its weights file."""
    folder = tmp_path_factory.mktemp("measured")
    (folder / "measured.safetensors").write_bytes(measured_weights())
    (folder / "tiny.safetensors").write_bytes((weights / "tiny.safetensors").read_bytes())
    return folder


@pytest.fixture(scope="module")
def choosing(folder: Path) -> Iterator[Service]:
    with serving(folder, default_model="tiny", request_rows=32) as service:
        yield service


def settings_of(answer: Json) -> Json:
    return {name: answer[name] for name in ("sampler", "steps", "spacing", "eta", "variance")}


@pytest.mark.parametrize("quality", ["fast", "balanced", "best"])
def test_quality_picks_from_the_frontier_and_the_answer_says_so(choosing: Service, quality: str) -> None:
    answer = choosing.generate(model="measured", quality=quality, seed=3, threshold="static")
    assert settings_of(answer).items() >= PICKED[quality].items()
    assert (answer["threshold"], answer["guidance"]) == ("static", 2.0)
    (point,) = [one for one in FIGURES if one.protocol["steps"] == PICKED[quality]["steps"]]
    assert answer["choice"] == {
        "by": "quality",
        "quality": quality,
        "from": "frontier",
        "network_evaluations": 2 * PICKED[quality]["steps"],
        "metric": METRIC,
        "value": point.value,
        "guidance": 2.0,
        "protocol": protocol_digest(point.protocol),
    }
    again = choosing.images(model="measured", seed=3, threshold="static", **settings_of(answer))
    np.testing.assert_array_equal(pixels_of(answer), again)


@pytest.mark.parametrize("quality", ["fast", "balanced", "best"])
def test_without_a_frontier_the_documented_defaults_are_used_and_named(choosing: Service, quality: Any) -> None:
    answer = choosing.generate(quality=quality)
    assert (answer["sampler"], answer["steps"]) == DEFAULTS[quality]
    assert (answer["choice"]["from"], answer["choice"]["metric"]) == ("defaults", None)
    schema = choosing.client.get("/openapi.json").json()["components"]["schemas"]["GenerateRequest"]
    described = schema["properties"]["quality"]["description"]
    assert "{} with {}".format(*DEFAULTS[quality]) in described


def test_binary_answers_carry_the_choice(choosing: Service) -> None:
    answer = choosing.client.post("/generate", json={"class": 0, "model": "measured", "quality": "fast"})
    choice = json.loads(answer.headers["darkroom-choice"])
    assert "choice" not in png_facts(answer.content)  # the settings alone draw the image again
    assert choice["value"] == 12.4
    plain = choosing.client.post("/generate", json={"class": 0})
    assert "darkroom-choice" not in plain.headers
    assert choosing.generate()["choice"] is None


@pytest.mark.parametrize(
    "explicit",
    [{"sampler": "ddim"}, {"steps": 5}, {"spacing": "edm"}, {"eta": 0.0}, {"variance": "beta"}, {"steps": 5, "eta": 1}],
)
@pytest.mark.parametrize("path", ["/v1/generate", "/v1/interpolate"])
def test_quality_and_what_it_picks_exclude_each_other(choosing: Service, path: str, explicit: Json) -> None:
    body = {"class": 0, "quality": "fast"} | explicit | ({"seeds": [1, 2]} if "interpolate" in path else {})
    problem = assert_problem(choosing.client.post(path, json=body), 422)
    assert {error["pointer"] for error in problem["errors"]} == {f"/{name}" for name in explicit}
    assert all("leave out" in error["detail"] for error in problem["errors"])


def test_an_interpolation_gets_the_best_deterministic_sampler(choosing: Service) -> None:
    body = {"class": 0, "seeds": [1, 2], "model": "measured", "quality": "best", "format": "json"}
    answer = choosing.client.post("/v1/interpolate", json=body)
    assert answer.status_code == 200, answer.text
    assert (answer.json()["sampler"], answer.json()["choice"]["value"]) == ("dpmpp_2m", 10.4)


def test_a_long_deadline_gets_the_best_point(choosing: Service) -> None:
    answer = choosing.generate(model="measured", deadline_seconds=3600)
    assert settings_of(answer).items() >= POINTS[3][1].items()
    assert (answer["choice"]["by"], answer["choice"]["quality"], answer["choice"]["from"]) == (
        "deadline",
        None,
        "frontier",
    )


def test_a_short_deadline_gets_a_faster_point_and_an_impossible_one_is_refused(folder: Path) -> None:
    with serving_slowly(folder, default_model="tiny", request_rows=64) as (service, pace):
        pace.seconds = 0.02

        # the engine learns the speed from timed steps: send requests of 10 steps until its estimate is right
        def expected() -> float:
            problem = service.client.post(
                "/generate", json={"class": 0, "model": "measured", "steps": 100, "deadline_seconds": 1e-3}
            ).json()
            return float(problem["expected_seconds"])

        def slow_enough() -> bool:
            service.generate(model="measured", steps=20)
            return expected() > 1.5

        wait_until(slow_enough, "the engine's estimate follows the slow network")
        whole = expected()
        found = service.generate(model="measured", deadline_seconds=0.6 * whole)
        assert found["steps"] in (10, 20)
        assert found["choice"]["from"] == "frontier"
        late = service.client.post("/generate", json={"class": 0, "model": "measured", "deadline_seconds": 1e-3})
        problem = assert_problem(late, 503)
        assert problem["expected_seconds"] < 0.2 * whole, "the refusal is about the fastest point"


def test_a_deadline_changes_no_named_setting(choosing: Service) -> None:
    for named in ({"steps": 7}, {"sampler": "ddpm"}, {"spacing": "edm"}):
        answer = choosing.generate(model="measured", deadline_seconds=3600, **named)
        assert answer["choice"] is None
        assert answer.items() >= named.items()


def test_a_deadline_without_a_frontier_keeps_the_models_own_settings_if_they_fit(choosing: Service) -> None:
    answer = choosing.generate(deadline_seconds=3600)
    assert (answer["sampler"], answer["steps"], answer["choice"]["from"]) == ("ddim", 4, "card")


def test_the_models_routes_show_the_frontier_and_later_measurements(
    folder: Path, database: Database, database_url: str
) -> None:
    digest = store_weights(database, tiny_weights("later", 5))
    with serving(folder, database_url=database_url, alias_poll_seconds=0.05) as service:
        wait_until(lambda: service.client.get("/v1/models/measured").status_code == 200, "registered")
        (shipped,) = service.client.get("/v1/models/measured").json()["newest"]
        (frontier,) = shipped["frontiers"]
        assert (frontier["metric"], frontier["guidance"], frontier["images"]) == (METRIC, 2.0, 100)
        assert [point["value"] for point in frontier["points"]] == [value for value, _ in POINTS]
        assert [point["picked_by"] for point in frontier["points"]] == [[], ["fast"], ["balanced"], ["best"]]
        assert frontier.keys() == {"metric", "guidance", "images", "protocol", "points"}
        members = {"sampler", "steps", "spacing", "eta", "variance", "network_evaluations", "value"}
        assert frontier["points"][0].keys() == members | {"protocol_digest", "picked_by"}

        assert service.generate(model="later", quality="fast")["choice"]["from"] == "defaults"
        with database.session() as session:
            record_figures(session, resolve(session, "later").id, "frontier", FIGURES)
        wait_until(
            lambda: service.generate(model="later", quality="fast")["choice"]["from"] == "frontier", "frontier read"
        )
        answer = service.generate(model=f"later@{digest}", quality="fast")
        assert settings_of(answer).items() >= PICKED["fast"].items()
        job = service.client.post("/v1/generate-jobs", json={"class": 0, "model": "later", "quality": "balanced"})
        assert job.status_code == 202, job.text
        assert settings_of(job.json()).items() >= PICKED["balanced"].items()
        assert job.json()["choice"]["value"] == 10.4
        listed = service.client.get("/v1/generate-jobs").json()["generate_jobs"][0]
        assert listed["choice"] == job.json()["choice"]
