"""Laws of a request's guidance: by an interval, and by a snapshot if the model carries one."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from darkroom.model.checkpoint import decode_checkpoint
from darkroom.model.config import SamplingConfig
from darkroom.model.images.pixels import to_pixels
from darkroom.model.sampling.draw import plan_row, sample
from darkroom.store.database import Database
from tests.app.served import Service, pixels_of, serving, store_weights, tiny_weights, weights_folder
from tests.processes import wait_until

CARRYING = tiny_weights("carrying", seed=0, snapshot_seed=4)
NOWHERE = [1e7, 1e8]


@pytest.fixture(scope="module")
def carrying(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with two models: `carrying` with a snapshot, the default, and `tiny` without."""
    folder = weights_folder(tmp_path_factory.mktemp("weights"), tiny=0)
    (folder / "carrying.safetensors").write_bytes(CARRYING)
    with serving(folder, default_model="carrying") as service:
        yield service


def test_an_interval_without_any_level_is_guidance_1(service: Service) -> None:
    plain, guided = service.images(guidance=1.0, seed=3), service.images(guidance=4.0, seed=3)
    assert not np.array_equal(plain, guided)
    np.testing.assert_array_equal(service.images(guidance=4.0, guidance_interval=NOWHERE, seed=3), plain)
    np.testing.assert_array_equal(service.images(guidance=4.0, guidance_interval=[0, 1e6], seed=3), guided)


def test_the_answer_names_guide_interval_and_spacing(carrying: Service) -> None:
    asked = {"guide": "snapshot", "guidance_interval": [0.25, 5], "spacing": "log_snr", "sampler": "ipndm", "steps": 6}
    answer = carrying.generate(**asked)
    assert {name: answer[name] for name in asked} == asked
    headers = carrying.client.post("/generate", json={"class": 0} | asked).headers
    assert headers["darkroom-guide"] == "snapshot"
    assert headers["darkroom-guidance-interval"] == "[0.25, 5.0]"
    assert headers["darkroom-spacing"] == "log_snr"
    plain = carrying.generate()
    assert (plain["guide"], plain["guidance_interval"], plain["spacing"]) == ("unconditional", None, "trailing")


@pytest.mark.parametrize("interval", [None, [0.3, 3.0]])
def test_the_image_is_the_same_as_without_the_service(carrying: Service, interval: list[float] | None) -> None:
    asked = {"guide": "snapshot", "guidance": 2.5, "steps": 6, "guidance_interval": interval}
    checkpoint = decode_checkpoint(CARRYING, source="test")
    denoiser = checkpoint.denoiser()
    settings = SamplingConfig.model_validate(checkpoint.header.sampling.model_dump() | asked)
    plans = [plan_row(denoiser, settings, label=2, seed=9, index=index) for index in range(3)]
    drawn = carrying.images(**asked, seed=9, n=3, **{"class": 2})
    assert np.abs(to_pixels(sample(denoiser, plans)).astype(int) - drawn).max() <= 1
    assert not np.array_equal(drawn, carrying.images(guidance=2.5, steps=6, seed=9, n=3, **{"class": 2}))


def test_a_model_without_a_snapshot_says_so(carrying: Service) -> None:
    for path in ("/generate", "/v1/interpolate"):
        body = {"class": 0, "model": "tiny", "guide": "snapshot"} | ({"seeds": [1, 2]} if "inter" in path else {})
        answer = carrying.client.post(path, json=body)
        assert answer.status_code == 422, answer.text
        (error,) = answer.json()["errors"]
        assert error["pointer"] == "/guide"
        assert "tiny" in error["detail"]
        assert "carries no snapshot" in error["detail"]


def test_interpolation_is_guided_by_the_snapshot_too(carrying: Service) -> None:
    body = {"class": 1, "seeds": [3, 8], "count": 3, "format": "json", "guide": "snapshot", "sampler": "ipndm"}
    way = pixels_of(carrying.client.post("/v1/interpolate", json=body).json())
    alone = carrying.images(seed=3, guide="snapshot", sampler="ipndm")
    assert np.abs(way[0].astype(int) - alone[0]).max() <= 1


def test_the_models_routes_say_which_carry_a_snapshot(tmp_path: Path, database_url: str, database: Database) -> None:
    folder = weights_folder(tmp_path / "weights", tiny=0)
    store_weights(database, CARRYING)
    (folder / "carrying.safetensors").write_bytes(CARRYING)
    with serving(folder, database_url=database_url) as service:
        wait_until(lambda: len(service.client.get("/v1/models").json()["models"]) == 2, "both models are registered")
        carried = {
            model["name"]: model["snapshot_images"] for model in service.client.get("/v1/models").json()["models"]
        }
        assert carried == {"carrying": 1000, "tiny": None}
