"""Laws of POST /generate: every format has the same pixels, and every answer can be drawn again."""

import base64
import json
import threading
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from darkroom.model.digest import digest_of
from tests.app.served import (
    CLASS_NAMES,
    Json,
    Service,
    cut_grid,
    events_in,
    events_of,
    picture,
    pixels_of,
    png_facts,
    serving_slowly,
    zip_images,
)
from tests.app.test_refusals import assert_problem

SETTINGS = ("guidance", "guidance_interval", "guide", "steps", "spacing", "sampler", "threshold", "percentile")
SETTINGS += ("eta", "variance")
TEXTS = ("guide", "spacing", "sampler", "threshold", "variance")


def remade(service: Service, facts: Json, **request: object) -> np.ndarray:
    """Draw the images again from the facts of an answer."""
    settings = {name: facts.get(name) for name in SETTINGS}  # a setting that is None has no header
    return service.images(**settings, seed=facts["seed"], model=f"{facts['model']}@{facts['version']}", **request)


def from_headers(headers: dict[str, str]) -> Json:
    """Return an answer's facts from its headers."""
    facts: Json = {"model": headers["darkroom-model"], "version": headers["darkroom-version"]}
    for name in ("guidance", "steps", "percentile", "eta", "seed", "n", "class-indices"):
        facts[name.replace("-", "_")] = json.loads(headers[f"darkroom-{name}"])
    if "darkroom-guidance-interval" in headers:
        facts["guidance_interval"] = json.loads(headers["darkroom-guidance-interval"])
    return facts | {name: headers[f"darkroom-{name}"] for name in TEXTS}


def test_every_format_holds_the_same_pixels(service: Service) -> None:
    request = {"class": ["One", "T-shirt/top"], "n": 3, "seed": 7}
    expected = service.images(**request)
    assert expected.shape == (6, 8, 8, 1)
    assert len(np.unique(expected)) > 20, "the tiny model's images are all alike, so the test could not fail"

    def body(form: str) -> bytes:
        answer = service.client.post("/v1/generate", json=request | {"format": form})
        assert answer.status_code == 200, answer.text
        return answer.content

    np.testing.assert_array_equal(cut_grid(picture(body("png")), 6, 3), expected)
    webp = picture(body("webp"))
    np.testing.assert_array_equal(cut_grid(webp[:, :, :1], 6, 3), expected)
    np.testing.assert_array_equal(zip_images(body("zip"))[0], expected)
    arrays = np.load(BytesIO(body("npz")))
    np.testing.assert_array_equal(arrays["images"], expected)
    assert arrays["labels"].tolist() == [1, 1, 1, 2, 2, 2]
    assert arrays["seeds"].tolist() == [7] * 6
    assert arrays["indices"].tolist() == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpmpp_2m", "unipc", "ipndm"])
def test_a_single_png_carries_all_facts_to_draw_it_again(service: Service, sampler: str) -> None:
    request = {"class": 3, "sampler": sampler, "steps": 6, "guidance": 1.5, "eta": 0.5, "threshold": "static"}
    request |= {"spacing": "edm", "guidance_interval": [0.2, 4]}
    answer = service.client.post("/v1/generate", json=request)
    assert answer.headers["content-type"] == "image/png"
    facts = png_facts(answer.content)
    assert facts["class"] == CLASS_NAMES[3]
    again = remade(service, facts, **{"class": facts["class_index"]})
    np.testing.assert_array_equal(again[0], picture(answer.content))
    by_header = from_headers(dict(answer.headers))
    again = remade(service, by_header, **{"class": by_header["class_indices"], "n": by_header["n"]})
    np.testing.assert_array_equal(again[0], picture(answer.content))


@pytest.mark.parametrize("form", ["png", "zip", "npz", "webp", "json"])
def test_an_answer_with_many_images_can_be_drawn_again(service: Service, form: str) -> None:
    request = {"class": ["Größe", 0], "n": 2, "format": form}
    answer = service.client.post("/v1/generate", json=request)
    assert answer.status_code == 200, answer.text
    by_header = from_headers(dict(answer.headers))
    again = remade(service, by_header, **{"class": by_header["class_indices"], "n": by_header["n"]})
    if form in ("png", "webp"):
        got = cut_grid(picture(answer.content)[:, :, :1], 4, 2)
    elif form == "zip":
        got = zip_images(answer.content)[0]
    elif form == "npz":
        got = np.load(BytesIO(answer.content))["images"]
    else:
        got = pixels_of(answer.json())
    np.testing.assert_array_equal(got, again)
    if form != "webp":
        facts = {
            "png": lambda: png_facts(answer.content),
            "zip": lambda: zip_images(answer.content)[1],
            "npz": lambda: json.loads(str(np.load(BytesIO(answer.content))["facts"])),
            "json": answer.json,
        }[form]()
        assert facts["classes"] == ["Größe", "Zero"]
        np.testing.assert_array_equal(remade(service, facts, **{"class": facts["classes"], "n": facts["n"]}), again)


def test_one_image_of_a_json_answer_can_be_drawn_again_alone(service: Service) -> None:
    answer = service.generate(**{"class": ["One", "Zero"], "n": 3})
    for image in answer["images"]:
        facts = png_facts(base64.b64decode(image["png"]))
        assert (facts["index"], facts["class_index"]) == (image["index"], image["class_index"])
        again = remade(service, facts, **{"class": facts["class"], "n": facts["index"] + 1})[-1]
        np.testing.assert_array_equal(again, picture(base64.b64decode(image["png"])))


def test_equal_requests_have_one_entity_tag(service: Service) -> None:
    body = {"class": "One", "seed": 5, "n": 2}
    first, again = (service.client.post("/v1/generate", json=body) for _ in range(2))
    assert first.content == again.content
    tag = first.headers["etag"]
    assert again.headers["etag"] == tag == f'"{digest_of(first.content)}"'
    other = service.client.post("/v1/generate", json=body | {"seed": 6}, headers={"If-None-Match": tag})
    assert other.status_code == 200
    assert other.headers["etag"] != tag
    known = service.client.post("/v1/generate", json=body, headers=[("If-None-Match", '"x"'), ("If-None-Match", tag)])
    assert (assert_problem(known, 412)["type"], known.headers["etag"]) == ("/docs/errors#not-changed", tag)


def test_a_larger_n_keeps_the_first_images(service: Service) -> None:
    many = service.images(n=12, seed=3)
    for n in (1, 5):
        np.testing.assert_array_equal(service.images(n=n, seed=3), many[:n])


def test_first_index_gives_the_later_images_of_a_larger_n(service: Service) -> None:
    body = {"class": [1, 0], "seed": 6}
    first, rest = service.images(**body, n=3), service.generate(**body, n=2, first_index=1)
    assert rest["first_index"] == 1
    assert [image["index"] for image in rest["images"]] == [1, 2, 1, 2]
    np.testing.assert_array_equal(pixels_of(rest), first[[1, 2, 4, 5]])
    assert service.generate(**body, first_index=2**31 - 1)["images"][0]["index"] == 2**31 - 1
    beyond = service.client.post("/generate", json=body | {"class": "One", "first_index": 2**31 - 2, "n": 3})
    assert [one["pointer"] for one in assert_problem(beyond, 422)["errors"]] == ["/first_index"]


def test_a_class_in_a_list_has_the_same_images_as_alone(service: Service) -> None:
    listed = service.images(**{"class": [0, "One", 2], "n": 2, "seed": 9})
    for position, name in enumerate(("Zero", "One", "T-shirt/top")):
        np.testing.assert_array_equal(
            service.images(**{"class": name, "n": 2, "seed": 9}), listed[2 * position : 2 * position + 2]
        )


@pytest.mark.parametrize(("name", "index"), [("one", 1), ("ZERO", 0), (" t-Shirt/TOP ", 2), ("GRÖSSE", 3)])
def test_a_name_in_any_case_means_its_index(service: Service, name: str, index: int) -> None:
    np.testing.assert_array_equal(
        service.images(**{"class": name, "seed": 1}), service.images(**{"class": index, "seed": 1})
    )


def test_seeds_indices_and_classes_give_different_images(service: Service) -> None:
    drawn = [
        *service.images(n=3, seed=1),
        *service.images(n=3, seed=2),
        *service.images(**{"class": 0, "n": 3, "seed": 1}),
    ]
    assert len({image.tobytes() for image in drawn}) == 9


def test_the_answer_has_the_random_seed_which_draws_the_images_again(service: Service) -> None:
    first, second = service.generate(n=2), service.generate(n=2)
    assert first["seed"] != second["seed"]
    assert first["seed"] < 2**53, "JavaScript would round the seed"
    np.testing.assert_array_equal(service.images(n=2, seed=first["seed"]), pixels_of(first))


def test_the_largest_seed_is_kept_exactly(service: Service) -> None:
    assert service.generate(seed=2**63 - 1)["seed"] == 2**63 - 1
    arrays = np.load(
        BytesIO(service.client.post("/generate", json={"class": 0, "seed": 2**63 - 1, "format": "npz"}).content)
    )
    assert int(arrays["seeds"][0]) == 2**63 - 1


def test_without_guidance_the_class_is_ignored(service: Service) -> None:
    drawn = [service.images(**{"class": label, "guidance": 0, "seed": 4}) for label in (0, 1)]
    np.testing.assert_array_equal(*drawn)
    assert not np.array_equal(drawn[0], service.images(**{"class": 0, "guidance": 1, "seed": 4}))


def test_a_version_can_be_named_by_digest_and_by_its_beginning(service: Service) -> None:
    answer = service.generate(seed=5)
    assert answer["model"] == "tiny"
    for reference in ("tiny", "tiny@production", f"tiny@{answer['version']}", f"tiny@{answer['version'][:15]}"):
        named = service.generate(seed=5, model=reference)
        assert named["version"] == answer["version"]
        np.testing.assert_array_equal(pixels_of(named), pixels_of(answer))
    other = service.generate(seed=5, model="other")
    assert other["model"] == "other"
    assert not np.array_equal(pixels_of(other), pixels_of(answer))


def test_settings_that_are_left_out_are_the_models_own(service: Service) -> None:
    answer = service.generate(seed=5)
    assert (answer["guidance"], answer["sampler"], answer["steps"]) == (2.0, "ddim", 4)
    said = service.generate(seed=5, guidance=2, sampler="ddim", steps=4, threshold="dynamic", percentile=0.995)
    np.testing.assert_array_equal(pixels_of(said), pixels_of(answer))
    null = service.generate(seed=5, guidance=None, sampler=None, steps=None, n=1, format="json", deadline_seconds=None)
    np.testing.assert_array_equal(pixels_of(null), pixels_of(answer))


def test_the_route_answers_with_and_without_prefix(service: Service) -> None:
    request = {"class": 0, "seed": 1}
    bodies = [service.client.post(path, json=request).content for path in ("/generate", "/v1/generate")]
    np.testing.assert_array_equal(*map(picture, bodies))


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        (None, "image/png"),
        ("*/*", "image/png"),
        ("image/*", "image/png"),
        ("image/png", "image/png"),
        ("image/webp", "image/webp"),
        ("IMAGE/WEBP", "image/webp"),
        ("application/zip", "application/zip"),
        ("application/x-npz", "application/x-npz"),
        ("application/octet-stream", "application/x-npz"),
        ("application/json", "application/json"),
        ("application/*", "application/json"),
        ("text/html, application/json;q=0.4, image/webp;q=0.8", "image/webp"),
        ("text/html, */*;q=0.1", "image/png"),
        ("image/png;q=0, */*", "image/webp"),
        ("application/json;q=nonsense, image/png;q=0.5", "application/json"),
        ("text/event-stream", "text/event-stream"),
    ],
)
def test_accept_decides_when_the_body_does_not(service: Service, accept: str | None, media: str) -> None:
    headers = {} if accept is None else {"Accept": accept}
    answer = service.client.post("/generate", json={"class": 0}, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].partition(";")[0] == media
    if media != "text/event-stream":
        assert answer.headers["vary"].lower() == "accept"


@pytest.mark.parametrize("accept", ["text/html", "image/avif", "nonsense", "image/png;q=0", "*/*;q=0"])
def test_an_accept_header_without_an_offered_type_is_406(service: Service, accept: str) -> None:
    answer = service.client.post("/generate", json={"class": 0}, headers={"Accept": accept})
    assert answer.status_code == 406
    assert answer.headers["content-type"] == "application/problem+json"
    assert "image/png" in answer.json()["detail"]
    assert service.client.post("/generate", json={"class": 0, "format": "png"}, headers={"Accept": accept}).is_success


def test_a_stream_has_progress_and_previews_and_ends_with_done(service: Service) -> None:
    request = {"class": [0, 1], "n": 2, "steps": 9, "seed": 11, "preview_every_steps": 2}
    by_accept = service.client.post("/generate", json=request, headers={"Accept": "text/event-stream"})
    by_body = service.client.post("/generate", json=request | {"stream": True})
    expected = service.images(**request)
    for answer in (by_accept, by_body):
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert "no-store" in answer.headers["cache-control"]
        events = events_of(answer.text)
        kinds = [kind for kind, _ in events]
        assert kinds[-1] == "done"
        assert kinds.count("done") == 1
        assert set(kinds) <= {"preview", "image", "progress", "done"}
        done_steps = [data["done_steps"] for kind, data in events if kind == "progress"]
        assert done_steps == sorted(set(done_steps))
        assert done_steps[-1] == 4 * 9
        assert {data["total_steps"] for kind, data in events if kind == "progress"} == {36}
        images = {data["row"]: data for kind, data in events if kind == "image"}
        drawn = np.stack([picture(base64.b64decode(images[row]["png"])) for row in range(4)])
        np.testing.assert_array_equal(drawn, expected)
        assert [images[row]["class_index"] for row in range(4)] == [0, 0, 1, 1]
        for row in range(4):  # a slow reader misses some previews; the others are in order
            of_row = [(kind, data) for kind, data in events if data.get("row") == row]
            assert [kind for kind, _ in of_row] == ["preview"] * (len(of_row) - 1) + ["image"]
            steps = [data["step"] for _, data in of_row[:-1]]
            assert steps == sorted(set(steps))
            assert set(steps) <= {2, 4, 6, 8}
        last = events[-1][1]
        assert last["seed"] == 11
        assert last["timings"]["run_seconds"] > 0.0


def test_a_client_that_reads_in_time_gets_every_preview(weights: Path) -> None:
    request = {"class": 0, "guidance": 1, "steps": 9, "seed": 11, "preview_every_steps": 2, "stream": True}
    previewed = []
    with serving_slowly(weights, default_model="tiny") as (service, pace):
        pace.turns = threading.Semaphore(1)  # the engine makes a step only after the client has read of the one before
        with service.client.stream("POST", "/generate", json=request) as answer:
            for kind, data in events_in(answer.iter_lines()):
                if kind == "preview":
                    assert picture(base64.b64decode(data["png"])).shape == (8, 8, 1)
                    previewed.append((data["step"], data["steps"]))
                elif kind == "progress":
                    pace.turns.release()
    assert previewed == [(2, 9), (4, 9), (6, 9), (8, 9)]
