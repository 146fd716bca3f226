"""Laws of requests that name some settings: the model's own settings give way, and the answer names all of them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from darkroom.app.cli.main import cli
from tests.app.served import SCHEDULE_STEPS, Json, Service, picture, pixels_of, serving, tiny_weights
from tests.app.test_refusals import assert_problem
from tests.processes import wait_until

FOLDERS = ("1", "10", "11", "12", *map(str, range(2, 10)))
COARSE = {"spacing": "edm_coarse", "sampler": "unipc_3", "steps": 10, "guidance_interval": (0.5, 2.0)}


@pytest.fixture(scope="module")
def coarse(tmp_path_factory: pytest.TempPathFactory, module_database_url: str) -> Iterator[Service]:
    """A service with three models: one with the shipped model's settings, `noisy` with ddpm, `folders` with numbers."""
    folder = tmp_path_factory.mktemp("weights")
    (folder / "coarse.safetensors").write_bytes(tiny_weights("coarse", **COARSE))
    (folder / "noisy.safetensors").write_bytes(tiny_weights("noisy", sampler="ddpm", eta=0.5))
    (folder / "folders.safetensors").write_bytes(tiny_weights("folders", 3, FOLDERS))
    with serving(folder, default_model="coarse", database_url=module_database_url, request_rows=32) as service:
        wait_until(lambda: len(service.client.get("/v1/models").json()["models"]) == 3, "registered")
        yield service


def test_a_request_may_name_only_the_schedules_full_number_of_steps(coarse: Service) -> None:
    asked: Json = {"sampler": "ddpm", "steps": SCHEDULE_STEPS}
    answer = coarse.generate(**asked, seed=1)
    assert answer.items() >= (asked | {"spacing": "trailing", "guidance_interval": [0.5, 2.0]}).items()
    headers = coarse.client.post("/generate", json={"class": 0, "seed": 1} | asked).headers
    assert headers["darkroom-spacing"] == "trailing"
    again = coarse.images(**asked, spacing="trailing", seed=1)
    np.testing.assert_array_equal(again, pixels_of(answer))
    assert coarse.generate(sampler="ddpm", steps=9)["spacing"] == "edm_coarse"


def test_every_route_completes_settings_by_the_same_rule(coarse: Service, tmp_path: Path) -> None:
    way = {"class": 0, "seeds": [1, 2], "count": 2, "steps": SCHEDULE_STEPS, "sampler": "ddim", "format": "json"}
    assert coarse.client.post("/v1/interpolate", json=way).json()["spacing"] == "trailing"
    job = coarse.client.post("/v1/generate-jobs", json={"class": 0, "sampler": "ddpm", "steps": SCHEDULE_STEPS})
    assert (job.status_code, job.json()["spacing"]) == (202, "trailing")
    options = ["--sampler", "ddpm", "--steps", str(SCHEDULE_STEPS), "--out", str(tmp_path / "one.json")]
    done = CliRunner().invoke(cli, ["generate", "Bag", "--url", coarse.url, *options])
    assert "there is no class 'Bag'" in done.output
    done = CliRunner().invoke(cli, ["generate", "One", "--url", coarse.url, *options])
    assert done.exit_code == 0, done.output
    assert f"ddpm {SCHEDULE_STEPS} steps" in done.output


def test_an_impossible_named_setting_is_refused_with_the_limit(coarse: Service) -> None:
    named = {"sampler": "ddpm", "steps": SCHEDULE_STEPS, "spacing": "edm"}
    for path, body in (("generate", {}), ("generate-jobs", {}), ("interpolate", {"seeds": [1, 2], "sampler": "ddim"})):
        problem = assert_problem(coarse.client.post(f"/v1/{path}", json={"class": 0} | named | body), 422)
        assert [error["pointer"] for error in problem["errors"]] == ["/spacing", "/steps"]
        assert "between 1 and 496" in problem["detail"]


def test_guidance_0_ignores_the_class_whatever_the_models_own_settings(coarse: Service) -> None:
    drawn = [coarse.images(**{"class": label, "guidance": 0, "seed": 4}) for label in (0, 1)]
    np.testing.assert_array_equal(*drawn)
    assert coarse.generate(guidance=0)["guidance_interval"] is None


def test_an_interpolation_replaces_the_models_own_noisy_sampler(coarse: Service) -> None:
    body = {"class": 0, "seeds": [1, 2], "model": "noisy", "format": "json"}
    for more in ({}, {"deadline_seconds": 3600.0}):
        answer = coarse.client.post("/v1/interpolate", json=body | more)
        assert answer.status_code == 200, answer.text
        assert (answer.json()["sampler"], answer.json()["eta"]) == ("ddim", 0.0)
    assert coarse.generate(model="noisy")["sampler"] == "ddpm"


def test_a_number_means_the_class_of_that_name(coarse: Service, tmp_path: Path) -> None:
    body = {"model": "folders", "seed": 5}
    named = coarse.generate(**body, **{"class": "2"})
    assert (named["classes"], named["class_indices"]) == (["2"], [FOLDERS.index("2")])
    for path, more in (("generate", {}), ("interpolate", {"seeds": [1, 2], "count": 2}), ("generate-jobs", {})):
        for wanted in (2, "2", [2, "2"]):
            asked = {"class": wanted, "model": "folders"} | more
            if path != "generate-jobs":
                asked["format"] = "json"
            answer = coarse.client.post(f"/v1/{path}", json=asked)
            assert answer.is_success, answer.text
            assert set(answer.json()["classes"]) == {"2"}, (path, wanted)
    out = tmp_path / "two.png"
    command = ["generate", "2", "--model", "folders", "--seed", "5", "--url", coarse.url, "--out", str(out)]
    done = CliRunner().invoke(cli, command)
    assert done.exit_code == 0, done.output
    np.testing.assert_array_equal(picture(out.read_bytes()), pixels_of(named)[0])
    refused = CliRunner().invoke(
        cli, ["generate", "0002", "--model", "folders", "--url", coarse.url, "--out", str(out)]
    )
    assert refused.exit_code == 2
    assert "there is no class '0002'" in refused.output


def test_the_headers_name_the_classes_so_that_the_images_can_be_drawn_again(coarse: Service) -> None:
    answer = coarse.client.post("/generate", json={"class": [12, "3"], "model": "folders", "seed": 5})
    assert answer.headers["darkroom-classes"] == '["12", "3"]'
    assert answer.headers["darkroom-class-indices"] == "[3, 5]"
