"""Laws of the pages' pictures: each is small, is shown, and was made from the shipped weights and measurements."""

import json
import re
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from bench.pictures.origin import faults, origin_of, pictures, write_picture
from darkroom.model.digest import digest_of

ROOT = Path(__file__).parents[2]
PICTURES = pictures(ROOT)
OF_MEASUREMENTS = {"ablations.png", "fashion-mnist-loss.png", "emoji-loss.png", "performance.png"}
"""Pictures that do not depend on the shipped weights."""
MOST_BYTES = 400_000
LINK = re.compile(r"\]\(([^)\s]+\.png)\)")


def _png(**chunks: str) -> bytes:
    information = PngInfo()
    for name, text in chunks.items():
        information.add_text(name, text)
    file = BytesIO()
    Image.new("RGB", (4, 4), (200, 10, 30)).save(file, "png", pnginfo=information)
    return file.getvalue()


@pytest.mark.parametrize("picture", PICTURES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_picture_was_made_from_what_is_shipped(picture: Path) -> None:
    assert faults(picture) == []
    of_weights = any(source.endswith(".safetensors") for source in origin_of(picture))
    assert of_weights == (picture.name not in OF_MEASUREMENTS)
    assert picture.stat().st_size <= MOST_BYTES


def test_every_picture_is_shown_by_a_page_and_every_page_finds_its_pictures() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "weights").glob("*.md")]
    shown = {
        (page.parent / link).resolve() for page in pages for link in LINK.findall(page.read_text(encoding="utf-8"))
    }
    assert shown == set(PICTURES)


@pytest.mark.parametrize("page", ["README.md", "docs/generate.md"])
def test_the_example_is_what_the_page_asks_for(page: str) -> None:
    asked = re.search(r"-d '({.*})' -o picture\.png", (ROOT / page).read_text(encoding="utf-8"))
    assert asked is not None
    with Image.open(ROOT / "docs" / "example.png") as image:
        facts = json.loads(image.info["darkroom"])
    assert json.loads(asked[1]) == {"class": facts["classes"], "n": facts["n"], "seed": facts["seed"]}


def test_a_picture_names_its_sources_and_keeps_its_own_text(tmp_path: Path) -> None:
    source, path = tmp_path / "measured.json", tmp_path / "docs" / "a" / "picture.png"
    source.write_text("[1]")
    write_picture(path, _png(darkroom="{}"), [source])
    assert origin_of(path) == {"../../measured.json": digest_of(b"[1]")}
    with Image.open(path) as image:
        assert image.info["darkroom"] == "{}"
        assert image.convert("RGB").getpixel((1, 2)) == (200, 10, 30)
    assert faults(path) == []


def test_a_picture_of_another_source_or_of_none_is_outdated(tmp_path: Path) -> None:
    source, path = tmp_path / "measured.json", tmp_path / "picture.png"
    source.write_text("[1]")
    write_picture(path, _png(), [source])
    source.write_text("[2]")
    assert faults(path) == [f"{path} was made from another measured.json: run `make pictures`"]
    path.write_bytes(_png())
    assert faults(path) == [f"{path} does not name what it was made from: run `make pictures`"]
