"""Laws of bench/datasets: the same bytes each time, pictures that differ, clip art without pages that show nothing."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.datasets.__main__ import main
from bench.datasets.clipart import MOST_PIXELS, clipart, largest, topics
from bench.datasets.letters import FONTS, letters
from bench.datasets.photos import photos
from bench.datasets.textures import FIELDS, textures


def _tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_data_set_has_the_same_bytes_each_time_and_a_tenth_of_each_class_is_for_tests(tmp_path: Path) -> None:
    for out in ("one", "two"):
        assert main([str(tmp_path / out), "digits"]) == 0
    files = _tree(tmp_path / "one")
    assert files == _tree(tmp_path / "two")
    assert "scikit-learn" in files["digits/LICENSE.txt"].decode()
    pictures = [Path(name) for name in files if name.endswith(".png")]
    assert len(pictures) == 1_797
    assert len({path.name for path in pictures}) == 1_797
    for digit in "0123456789":
        test, both = (sum(path.match(f"{split}/{digit}/*") for path in pictures) for split in ("test", "*"))
        assert test == both // 10


def test_an_unknown_name_is_refused_with_the_known_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([str(tmp_path), "letter"])
    assert "no data set is called letter; choose from clipart-a, clipart-b" in capsys.readouterr().err


def test_letters_differ_between_fonts_and_variants_and_are_black_on_white() -> None:
    drawn = list(letters(variants=2))
    assert len(drawn) == len({picture.image.tobytes() for picture in drawn}) == 26 * 2 * len(FONTS)
    assert len({picture.concept for picture in drawn}) == 26 * len(FONTS)
    for picture in drawn:
        pixels = np.asarray(picture.image)
        assert pixels.shape == (24, 24)
        assert pixels.min() < 128
        assert np.median(pixels) > 200


@pytest.mark.parametrize("name", FIELDS)
def test_a_texture_mixes_two_colours_by_shares(name: str) -> None:
    v, u = np.mgrid[0:4:65j, 0:4:65j]
    share = np.asarray(FIELDS[name](u, v, np.random.default_rng(0)), dtype=float)
    assert (share.min(), share.max()) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("name", "period"), [("bricks", (2, 2)), ("checks", (2, 2)), ("dots", (1, 1)), ("stripes", (1, 0.3))]
)
def test_a_texture_repeats(name: str, period: tuple[float, float]) -> None:
    v, u = np.mgrid[0.01:4:64j, 0.01:4:64j]
    one, other = (
        np.asarray(FIELDS[name](u + times * period[0], v + times * period[1], np.random.default_rng(0)))
        for times in (0, 1)
    )
    np.testing.assert_array_equal(one, other)


def test_textures_of_all_classes_are_distinct_colour_pictures() -> None:
    drawn = list(textures(each=5))
    assert [picture.class_name for picture in drawn] == [name for name in FIELDS for _ in range(5)]
    assert len({picture.image.tobytes() for picture in drawn}) == len(drawn)
    assert {(picture.image.mode, picture.image.size) for picture in drawn} == {("RGB", (32, 32))}


def _clipart_folder(folder: Path) -> Path:
    page = Image.new("RGBA", (60, 40), (0, 0, 0, 0))
    for name, box in (("cat_01", (10, 10, 30, 20)), ("cat_02", (5, 5, 15, 25)), ("dog", (0, 0, 60, 40))):
        picture = page.copy()
        picture.paste("red", box)
        (folder / "pets").mkdir(parents=True, exist_ok=True)
        picture.save(folder / "pets" / f"{name}.png")
    (folder / "pets" / "wild").mkdir()
    Image.new("L", (8, 8), 0).save(folder / "pets" / "wild" / "raven.png")
    page.save(folder / "pets" / "empty.png")
    Image.new("1", (2_001, MOST_PIXELS // 2_000)).save(folder / "pets" / "vast.png")
    (folder / "pets" / "link.png").symlink_to("cat_01.png")
    return folder


def test_clip_art_is_cut_to_its_drawing_and_leaves_out_what_is_no_new_picture(tmp_path: Path) -> None:
    found = list(clipart(topics("pets", folder=_clipart_folder(tmp_path)), side=20))
    assert [picture.file_name for picture in found] == ["cat_01.png", "cat_02.png", "dog.png", "wild-raven.png"]
    cat, tall, _, raven = found
    assert cat.concept == tall.concept
    assert len({picture.concept for picture in found}) == 3
    reds = [np.asarray(picture.image)[..., 1] == 0 for picture in (cat, tall)]
    assert [(red.any(1).sum(), red.any(0).sum()) for red in reds] == [(10, 20), (20, 10)]
    assert np.asarray(raven.image).shape == (20, 20, 3)


def test_the_largest_folders_below_a_topic_are_classes(tmp_path: Path) -> None:
    for name, pictures in (("signs", 1), ("signs/roads", 3), ("signs/old/roads", 4), ("signs/old/maps", 2)):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
        for number in range(pictures):
            Image.new("L", (4, 4)).save(tmp_path / name / f"{number}.png")
    found = largest("signs", least=2, folder=tmp_path)
    assert found == {"maps": tmp_path / "signs/old/maps", "roads": tmp_path / "signs/old/roads"}
    assert list(largest("signs", least=2, most=1, folder=tmp_path)) == ["roads"]
    assert largest("signs", least=5, folder=tmp_path) == {}


def test_letters_of_two_colours_keep_their_shape() -> None:
    grey, coloured = ([np.asarray(one.image) for one in letters("A", 1, coloured=colour)] for colour in (False, True))
    for shape, image in zip(grey, coloured, strict=True):
        ink, ground = image[shape < 10], image[shape > 245]
        assert (np.ptp(ink, axis=0) < 20).all()
        assert (np.ptp(ground, axis=0) < 20).all()
        assert (np.abs(ink.mean(0) - ground.mean(0)) > 60).all()
    assert len({image[0, 0].tobytes() for image in coloured}) > len(coloured) // 2


def test_cuts_of_photographs_are_distinct_colour_pictures() -> None:
    drawn = list(photos(each=4))
    assert [picture.class_name for picture in drawn[::4]] == ["palace", "flower", "portrait"]
    assert len({picture.image.tobytes() for picture in drawn}) == len(drawn)
    assert {(picture.image.mode, picture.image.size) for picture in drawn} == {("RGB", (32, 32))}


def test_missing_clip_art_names_the_package(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="animals: no such folder; install Debian's package openclipart-png"):
        topics("animals", folder=tmp_path)


def test_pictures_of_one_class_have_names_of_their_own() -> None:
    for drawn in (letters(variants=1), textures(each=3)):
        for _, members in itertools.groupby(drawn, key=lambda picture: picture.class_name):
            names = [picture.file_name for picture in members]
            assert len(names) == len(set(names))
