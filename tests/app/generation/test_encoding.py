"""Laws of image files: every format contains the same pixels, and the facts that draw them again."""

import base64
import json
from io import BytesIO
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from darkroom.app.engine.request import Timings
from darkroom.app.generation.encoding import MEDIA_TYPES, Drawn, encode, sheet_size
from darkroom.app.generation.schemas import Format, GenerateAnswer
from darkroom.model.images.pictures import LONGEST_LINE, default_columns
from darkroom.model.provenance import Choice
from tests.app.served import cut_grid, picture, png_facts, zip_images

SIDE = 8
ANSWER = GenerateAnswer(
    id="1",
    model="tiny",
    version="sha256:0",
    guidance=1.5,
    guidance_interval=(0.5, 2.0),
    seed=2**63 - 1,
    n=2,
    first_index=0,
    classes=["Größe", "b"],
    class_indices=[0, 1],
    choice=Choice(by="quality", quality="fast", from_="defaults", network_evaluations=10),
    best_of=None,
    score=None,
)
FACTS = json.loads(ANSWER.model_dump_json(exclude={"images", "id", "timings", "choice", "drawn_on"}))


def test_a_file_says_where_it_was_drawn_unless_on_a_cpu() -> None:
    on_gpu = ANSWER.model_copy(update={"drawn_on": "cuda, bfloat16"})
    assert png_facts(encode(_drawn(4), ANSWER, "png", 2)) == FACTS
    assert png_facts(encode(_drawn(4), on_gpu, "png", 2)) == FACTS | {"drawn_on": "cuda, bfloat16"}


def _drawn(count: int, channels: int = 1) -> list[Drawn]:
    images = np.random.default_rng(count).integers(0, 256, (count, SIDE, SIDE, channels), dtype=np.uint8)
    return [
        Drawn(number % 2, number // 2, ("Größe", "b")[number // 2 % 2], image) for number, image in enumerate(images)
    ]


def _pixels(data: bytes, wanted: Format, count: int, columns: int) -> np.ndarray:
    """Decode an answer to (N, H, W, C)."""
    if wanted == "zip":
        return zip_images(data)[0]
    if wanted == "npz":
        with np.load(BytesIO(data), allow_pickle=False) as arrays:
            images: np.ndarray = arrays["images"]
            return images
    if wanted == "json":
        return np.stack([picture(base64.b64decode(image["png"])) for image in json.loads(data)["images"]])
    sheet = picture(data)
    return sheet[None] if count == 1 else cut_grid(sheet, count, columns)


@pytest.mark.parametrize("wanted", get_args(Format))
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("count", "columns"), [(1, 1), (4, 2), (5, 3)])
def test_every_format_holds_the_same_pixels(wanted: Format, channels: int, count: int, columns: int) -> None:
    drawn = _drawn(count, channels)
    found = _pixels(encode(drawn, ANSWER, wanted, columns), wanted, count, columns)
    expected = np.stack([one.image for one in drawn])
    if wanted == "webp" and channels == 1:
        found = found[..., :1]  # webp has no grey mode
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("wanted", ["png", "webp", "zip", "npz"])
@pytest.mark.parametrize("count", [1, 4])
def test_equal_requests_give_equal_files(wanted: Format, count: int) -> None:
    chosen = Choice(by="deadline", quality=None, from_="frontier", network_evaluations=20)
    again = ANSWER.model_copy(update={"id": "2", "timings": Timings(1.5, 2.5), "choice": chosen})
    drawn = _drawn(count)
    assert encode(drawn, ANSWER, wanted, 2) == encode(drawn, again, wanted, 2)
    if wanted != "webp":  # holds no facts
        other = ANSWER.model_copy(update={"seed": 5})
        assert encode(drawn, ANSWER, wanted, 2) != encode(drawn, other, wanted, 2)


def test_every_format_has_a_media_type() -> None:
    assert set(MEDIA_TYPES) == set(get_args(Format))


def test_a_single_picture_names_its_image_and_a_grid_its_request() -> None:
    drawn = _drawn(4)
    assert png_facts(encode(drawn, ANSWER, "png", 2)) == FACTS
    assert png_facts(encode(drawn[2:3], ANSWER, "png", 1)) == FACTS | {"index": 0, "class": "b", "class_index": 1}


def test_a_zips_manifest_describes_each_file() -> None:
    data = encode(_drawn(4), ANSWER, "zip", 2)
    _, manifest = zip_images(data)
    assert {name: manifest[name] for name in FACTS} == FACTS
    assert [(image["index"], image["class_index"]) for image in manifest["images"]] == [(0, 0), (1, 0), (0, 1), (1, 1)]
    assert len({image["file"] for image in manifest["images"]}) == 4


def test_arrays_need_no_pickle_and_carry_labels_seeds_and_indices() -> None:
    with np.load(BytesIO(encode(_drawn(4), ANSWER, "npz", 2)), allow_pickle=False) as arrays:
        assert arrays["labels"].tolist() == [0, 0, 1, 1]
        assert arrays["indices"].tolist() == [0, 1, 0, 1]
        assert arrays["seeds"].tolist() == [2**63 - 1] * 4  # the largest seed
        assert json.loads(str(arrays["facts"])) == FACTS


def test_a_grid_has_a_line_for_each_class_unless_it_would_be_very_long() -> None:
    assert default_columns(3, 8) == 8
    assert default_columns(1, 16) == 4
    assert default_columns(1, 17) == 5
    assert default_columns(LONGEST_LINE, LONGEST_LINE) == LONGEST_LINE
    for classes, n in ((2, LONGEST_LINE + 1), (LONGEST_LINE + 1, 2), (1, 1024), (1000, 1)):
        columns = default_columns(classes, n)
        width, height = sheet_size(classes * n, columns, 28)
        assert 0.5 <= width / height <= 2.0


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (2, 2), (5, 3), (6, 3)])
def test_a_sheet_has_the_announced_size(count: int, columns: int) -> None:
    sheet = Image.open(BytesIO(encode(_drawn(count), ANSWER, "png", columns)))
    assert sheet.size == sheet_size(count, columns, SIDE)
