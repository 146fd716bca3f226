"""Laws of POST /v1/verify: a file is the same exactly when what it says of itself draws it again."""

import base64
import json
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from darkroom.model.images.described_png import described_png
from tests.app.cli.calls import run_on
from tests.app.served import Json, Service, picture, png_facts
from tests.app.test_refusals import assert_problem

GRID = {"class": ["One", 3], "seed": 2**63 - 1, "n": 2, "first_index": 5, "guidance": 2.5, "threshold": "static"}


def _verify(service: Service, content: bytes) -> httpx.Response:
    return service.client.post("/v1/verify", content=content, headers={"Content-Type": "image/png"})


def _verdict(service: Service, content: bytes) -> Json:
    answer = _verify(service, content)
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


def _file(service: Service, path: str = "/v1/generate", **body: Any) -> bytes:
    answer = service.client.post(path, json={"class": "One", "seed": 5} | body)
    assert answer.status_code == 200, answer.text
    return answer.content


def _with(facts: Json, pixels: np.ndarray | None = None) -> bytes:
    return described_png(np.zeros((8, 8, 1), np.uint8) if pixels is None else pixels, facts)


def _members(archive: bytes) -> list[bytes]:
    with zipfile.ZipFile(BytesIO(archive)) as opened:
        return [opened.read(name) for name in opened.namelist() if name.endswith(".png")]


def _pictures(service: Service) -> dict[str, bytes]:
    """Return a file of each kind that the service makes."""
    best = {"n": 2, "best_of": 4}
    path = {"class": [0, 3], "seeds": [3, 8], "indices": [1, 2], "count": 4}
    of_path = service.client.post("/v1/interpolate", json=path | {"format": "zip"}).content
    stream = service.client.post("/v1/generate", json=GRID | {"stream": True}).text
    streamed = next(json.loads(line[6:]) for line in stream.splitlines() if '"png"' in line and '"step"' not in line)
    return {
        "image": _file(service, first_index=7, sampler="ddpm", steps=3),
        "grid": _file(service, **GRID),
        "member": _members(_file(service, **GRID, format="zip"))[3],
        "json": base64.b64decode(service.generate(**GRID)["images"][1]["png"]),
        "streamed": base64.b64decode(streamed["png"]),
        "best": _file(service, **best),
        "best of several classes": _file(service, **{"class": [0, 1]}, **best),
        "one of the best": _members(_file(service, **best, format="zip"))[1],
        "path": service.client.post("/v1/interpolate", json=path).content,
        "member of a path": _members(of_path)[2],
    }


def test_every_kind_of_file_is_the_same_again(service: Service) -> None:
    for kind, content in _pictures(service).items():
        found = _verdict(service, content)
        assert (found["same_pixels"], found["same_bytes"]) == (True, True), (kind, found)
        facts = png_facts(content)
        assert (found["model"], found["version"], found["seed"]) == (facts["model"], facts["version"], facts["seed"])
    assert found["finding"] == "The file is the same, byte by byte."


def test_a_file_of_a_gpu_is_verified_by_its_pixels(service: Service) -> None:
    content = _file(service)
    found = _verdict(service, _with(png_facts(content) | {"drawn_on": "cuda, bfloat16"}, picture(content)))
    assert (found["same_pixels"], found["same_bytes"]) == (True, True)


def test_one_changed_pixel_is_found(service: Service) -> None:
    content = _file(service, **GRID)
    pixels = picture(content).copy()
    pixels[3, 4] ^= 16
    found = _verdict(service, _with(png_facts(content), pixels))
    assert (found["same_pixels"], found["same_bytes"]) == (False, False)
    assert (found["different_pixels"], found["largest_difference"]) == (1, 16)
    assert "1 of 484 pixels differ, by at most 16 of 255" in found["finding"]


@pytest.mark.parametrize("change", [{"seed": 6}, {"class_index": 0}, {"index": 1}, {"guidance": 3.0}, {"steps": 5}])
def test_another_description_draws_another_picture(service: Service, change: Json) -> None:
    content = _file(service)
    assert not _verdict(service, _with(png_facts(content) | change, picture(content)))["same_pixels"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"class": "Zero"}, "class"),
        ({"class": [["One"]]}, "class"),
        ({"classes": ["Zero"]}, "classes"),
        ({"eta": None}, "eta"),
        ({"percentile": None}, "percentile"),
    ],
)
def test_a_changed_word_of_the_description_is_found_though_the_pixels_are_the_same(
    service: Service, change: Json, named: str
) -> None:
    content = _file(service)
    facts = {name: value for name, value in (png_facts(content) | change).items() if value is not None or name != named}
    found = _verdict(service, _with(facts, picture(content)))
    assert (found["same_pixels"], found["same_bytes"]) == (True, False)
    assert f"the description was changed: {named} are not as drawn" in found["finding"]


def test_a_file_that_was_stored_again_has_the_same_pixels_only(service: Service) -> None:
    content = _file(service)
    stored = BytesIO()
    information = PngInfo()
    information.add_text("darkroom", json.dumps(png_facts(content)))
    Image.open(BytesIO(content)).convert("RGB").save(stored, "PNG", pnginfo=information, compress_level=0)
    found = _verdict(service, stored.getvalue())
    assert (found["same_pixels"], found["same_bytes"]) == (True, False)
    assert "another program" in found["finding"]


def test_a_scaled_file_is_not_drawn(service: Service) -> None:
    facts = png_facts(_file(service))
    found = _verdict(service, _with(facts, np.zeros((16, 8, 1), np.uint8)))
    assert (found["same_pixels"], found["different_pixels"]) == (False, 128)
    assert "has 8x16 pixels, and its description draws 8x8" in found["finding"]


def _plain() -> bytes:
    buffer = BytesIO()
    Image.new("L", (8, 8)).save(buffer, "PNG")
    return buffer.getvalue()


def _text(text: str) -> bytes:
    buffer, information = BytesIO(), PngInfo()
    information.add_text("darkroom", text)
    Image.new("L", (8, 8)).save(buffer, "PNG", pnginfo=information)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "no readable PNG"),
        (b"GIF89a", "no readable PNG"),
        (_plain()[:20], "no readable PNG"),
        (_plain(), "does not say how it was drawn"),
        (_text("{"), "is no JSON"),
        (_text("[" * 100_000), "is no JSON"),
        (_text("9" * 5000), "is no JSON"),
        (_text("[]"), "is no JSON object"),
    ],
)
def test_a_file_without_a_description_is_refused(service: Service, content: bytes, fault: str) -> None:
    problem = assert_problem(_verify(service, content), 422)
    assert problem["type"] == "/docs/errors#not-described"
    assert fault in problem["detail"]


def test_damaged_pixels_are_refused(service: Service) -> None:
    content = _file(service)
    data = content.index(b"IDAT") + 10
    problem = assert_problem(_verify(service, content[:data]), 422)
    assert problem["type"] == "/docs/errors#not-described"


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"new_setting": 1}, "/new_setting"),
        ({"sampler": "newest"}, "/sampler"),
        ({"steps": "4"}, "/steps"),
        ({"seed": 2**63}, "/seed"),
        ({"version": "1"}, "/version"),
        ({"index": None, "n": None}, ""),
        ({"class_index": None}, ""),
        ({"seeds": [1, 2], "indices": [0, 0], "class_indices": [0, 1], "mixes": [0, 1], "index": 2}, ""),
        ({"seeds": [1, 2], "indices": [0, 0], "class_indices": [0], "mixes": [0, 1]}, ""),
        ({"index": None, "first_index": 2**31 - 1, "n": 2}, ""),
        ({"class_index": 10**4000}, "/class_index"),
        ({"a/b": 1}, "/a~1b"),
    ],
)
def test_a_description_of_another_version_names_the_members(service: Service, change: Json, pointer: str) -> None:
    problem = assert_problem(_verify(service, _with(png_facts(_file(service)) | change)), 422)
    assert problem["type"] == "/docs/errors#description-unknown"
    assert pointer in [error["pointer"] for error in problem["errors"]]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"class_index": 4}, "names class 4"),
        ({"index": None, "class_indices": [0, 99]}, "names class 99"),
        ({"index": None, "n": 2**31 - 1}, "one request may draw 32"),
        ({"guide": "snapshot"}, "snapshot"),
    ],
)
def test_a_description_that_nothing_could_draw_is_refused(service: Service, change: Json, fault: str) -> None:
    problem = assert_problem(_verify(service, _with(png_facts(_file(service)) | change)), 422)
    assert problem["type"] == "/docs/errors#description-unfit"
    assert fault in problem["detail"]


@pytest.mark.parametrize("change", [{"model": "gone"}, {"version": "sha256:" + "0" * 64}])
def test_a_version_that_is_gone_is_410(service: Service, change: Json) -> None:
    problem = assert_problem(_verify(service, _with(png_facts(_file(service)) | change)), 410)
    assert problem["type"] == "/docs/errors#version-gone"
    assert "darkroom models add" in problem["detail"]


def test_a_file_has_a_limit_of_its_own_and_a_form_is_refused(service: Service) -> None:
    large = _verify(service, b"\x89PNG\r\n\x1a\n" + bytes(60_000))  # more than other bodies may have
    assert assert_problem(large, 422)["type"] == "/docs/errors#not-described"
    answer = service.client.post("/v1/verify", files={"file": _plain()})
    assert "--data-binary" in assert_problem(answer, 415)["detail"]


def test_the_command_says_of_each_file_whether_it_is_the_same(service: Service, tmp_path: Path) -> None:
    run = run_on(service, "verify")
    content = _file(service)
    good, changed, plain = tmp_path / "good.png", tmp_path / "changed.png", tmp_path / "plain.png"
    good.write_bytes(content)
    changed.write_bytes(_with(png_facts(content) | {"seed": 6}, picture(content)))
    plain.write_bytes(_plain())
    same = run(good)
    assert (same.exit_code, same.output) == (0, f"{good}: The file is the same, byte by byte.\n")
    several = run(good, changed, plain)
    assert several.exit_code == 1
    assert f"{good}: The file is the same" in several.output
    assert f"{changed}: " in several.output
    assert f"error: {plain}: the PNG does not say how it was drawn" in several.output
