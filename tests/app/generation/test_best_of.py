"""Laws of `best_of`: the answer has the n images with the highest scores of k plain ones, best first."""

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from darkroom.model.checkpoint import load_checkpoint
from darkroom.model.sampling.scoring import SCORE_NAME, score
from tests.app.served import (
    Service,
    cut_grid,
    events_of,
    picture,
    pixels_of,
    png_facts,
    serving_slowly,
    zip_images,
)
from tests.app.test_refusals import assert_problem
from tests.processes import wait_until

REQUEST: dict[str, Any] = {"class": ["Zero", "One"], "n": 2, "best_of": 6, "seed": 4}


def ranked(service: Service, weights: Path) -> list[tuple[int, int, float]]:
    """Return (class, index, score) that REQUEST should answer, from a plain request's images and the score function."""
    images = service.images(**{"class": [0, 1], "n": 6, "seed": 4})
    denoiser = load_checkpoint(weights / "tiny.safetensors").denoiser()
    labels = [0] * 6 + [1] * 6
    scores = score(denoiser, torch.from_numpy(images).permute(0, 3, 1, 2), labels).tolist()
    of_each = [
        sorted(((label, index, scores[6 * label + index]) for index in range(6)), key=lambda one: -one[2])[:2]
        for label in (0, 1)
    ]
    return [one for some in of_each for one in some]


def test_the_answer_has_the_best_of_a_plain_requests_images_best_first(service: Service, weights: Path) -> None:
    wanted = ranked(service, weights)
    answer = service.generate(**REQUEST)
    got = [(image["class_index"], image["index"], image["score"]) for image in answer["images"]]
    assert [one[:2] for one in got] == [one[:2] for one in wanted]
    assert [one[2] for one in got] == pytest.approx([one[2] for one in wanted], rel=1e-3, abs=1e-6)
    assert (answer["n"], answer["best_of"], answer["score"]) == (2, 6, SCORE_NAME)
    assert answer["indices"] == [one[1] for one in wanted]
    assert answer["scores"] == [one[2] for one in got]
    plain = service.images(**{"class": [0, 1], "n": 6, "seed": 4})
    np.testing.assert_array_equal(pixels_of(answer), plain[[6 * label + index for label, index, _ in wanted]])


def test_best_of_one_is_the_plain_image_with_its_score(service: Service) -> None:
    answer = service.generate(seed=9, best_of=1)
    np.testing.assert_array_equal(pixels_of(answer), service.images(seed=9))
    facts = png_facts(service.client.post("/generate", json={"class": "One", "seed": 9, "best_of": 1}).content)
    assert (facts["index"], facts["score"]) == (0, pytest.approx(answer["images"][0]["score"], rel=1e-3))


def test_every_format_has_the_same_images(service: Service) -> None:
    expected = service.images(**REQUEST)

    def body(form: str) -> Any:
        answer = service.client.post("/generate", json=REQUEST | {"format": form})
        assert answer.status_code == 200, answer.text
        assert len(json.loads(answer.headers["darkroom-scores"])) == 4
        return answer.content

    np.testing.assert_array_equal(cut_grid(picture(body("png")), 4, 2), expected)
    np.testing.assert_array_equal(zip_images(body("zip"))[0], expected)
    arrays = np.load(BytesIO(body("npz")))
    np.testing.assert_array_equal(arrays["images"], expected)
    assert arrays["indices"].tolist() == json.loads(str(arrays["facts"]))["indices"]


def test_a_stream_previews_all_images_and_ends_with_the_best(service: Service) -> None:
    events = events_of(service.client.post("/generate", json=REQUEST | {"stream": True, "preview_every_steps": 2}).text)
    expected = service.generate(**REQUEST)
    images = [data for kind, data in events if kind == "image"]
    assert [image["index"] for image in images] == expected["indices"]
    assert [image["score"] for image in images] == pytest.approx(expected["scores"], rel=1e-3, abs=1e-6)
    assert len({data["row"] for kind, data in events if kind == "preview"}) == 12
    assert [kind for kind, _ in events][-5:] == ["image"] * 4 + ["done"]
    progress = [data for kind, data in events if kind == "progress"][-1]
    assert progress["done_steps"] == progress["total_steps"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"n": 7}, "of 6 there are no best 7"),
        ({"best_of": 17}, "17 images of 2 classes are more than the 32"),
        ({"best_of": 0}, "greater than or equal to 1"),
        ({"guidance": 0}, "no class"),
    ],
)
def test_requests_that_cannot_be_ranked_are_refused(service: Service, change: dict[str, Any], says: str) -> None:
    problem = assert_problem(service.client.post("/generate", json=REQUEST | change), 422)
    assert [error["pointer"] for error in problem["errors"]] == ["/best_of"]
    assert says in problem["errors"][0]["detail"]


def test_an_interpolation_has_no_class_to_score(service: Service) -> None:
    body = {"class": [0, 1], "seeds": [1, 2], "best_of": 3}
    problem = assert_problem(service.client.post("/v1/interpolate", json=body), 422)
    assert [error["pointer"] for error in problem["errors"]] == ["/best_of"]


def test_all_drawn_images_take_places_in_the_queue(weights: Path) -> None:
    with serving_slowly(weights, default_model="tiny", queue_rows=10) as (service, pace):
        pace.open.clear()
        with service.client.stream("POST", "/generate", json={"class": 0, "best_of": 8, "stream": True}):
            wait_until(lambda: service.rows() == 8, "the engine holds its rows")
            refused = assert_problem(service.client.post("/generate", json={"class": 0, "best_of": 3}), 429)
            assert "8 of 10" in refused["detail"]
            pace.open.set()
        wait_until(lambda: service.rows() == 0, "its rows have left the engine")
