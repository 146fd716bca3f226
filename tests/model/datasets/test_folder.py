from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from darkroom.model.config import DatasetConfig
from darkroom.model.datasets import DatasetError, class_folders, load_dataset
from darkroom.model.datasets.class_folders import DamagedPictures
from darkroom.model.datasets.decoded import SizesDiffer
from darkroom.model.datasets.load import decode_dataset
from darkroom.model.datasets.resize import proposed_side


def _config(path: Path, **fields: object) -> DatasetConfig:
    return DatasetConfig.model_validate({"format": "folder", "path": path, **fields})


def _save(file: Path, picture: Image.Image, **options: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    picture.save(file, **options)


@pytest.mark.parametrize("suffix", [".png", ".bmp"])
def test_lossless_colour_files_keep_every_pixel(
    suffix: str,
    tmp_path: Path,
    cache: Path,
    write_folder: Callable[..., Path],
    colour: np.ndarray,
    labels: list[int],
    names: tuple[str, ...],
) -> None:
    dataset = load_dataset(_config(write_folder(tmp_path / "set", colour, labels, names, suffix)), cache)
    np.testing.assert_array_equal(dataset.images, colour)
    assert dataset.labels.tolist() == labels
    assert dataset.class_names == names


def test_classes_are_the_sorted_folders_and_images_the_sorted_files(tmp_path: Path, cache: Path) -> None:
    for value, place in enumerate(["b/2.png", "a/1.png", "b/1.png"]):
        _save(tmp_path / "set" / place, Image.new("L", (4, 4), value))
    (tmp_path / "set" / ".DS_Store").write_bytes(b"x")
    (tmp_path / "set" / "a" / ".DS_Store").write_bytes(b"x")
    dataset = load_dataset(_config(tmp_path / "set"), cache)
    assert dataset.class_names == ("a", "b")
    assert dataset.labels.tolist() == [0, 1, 1]
    assert dataset.images[:, 0, 0, 0].tolist() == [1, 2, 0]


def test_decoding_tells_how_many_pictures_are_done(tmp_path: Path, cache: Path) -> None:
    for number in range(40):
        _save(tmp_path / "set" / "a" / f"{number}.png", Image.new("L", (4, 4), number))
    told: list[tuple[str, int, int | None]] = []
    load_dataset(_config(tmp_path / "set"), cache, lambda *news: told.append(news))
    decoding = [(done, total) for what, done, total in told if what == "decoding pictures"]
    assert decoding == [(0, 40), (16, 40), (32, 40), (40, 40)]
    assert [what for what, _, _ in told][-1] == "storing the decoded images"
    told.clear()
    load_dataset(_config(tmp_path / "set"), cache, lambda *news: told.append(news))
    assert told == [("looking for files", 0, None)]


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".gif", ".tiff", ".JPEG"])
def test_lossy_and_rarer_formats_are_read(suffix: str, tmp_path: Path, cache: Path) -> None:
    _save(tmp_path / "set" / "a" / f"1{suffix}", Image.new("RGB", (8, 8), (200, 100, 50)))
    image = load_dataset(_config(tmp_path / "set"), cache).images[0].astype(int)
    assert image.shape == (3, 8, 8)
    assert np.abs(image - np.array([200, 100, 50])[:, None, None]).max() <= 8


def test_all_grey_files_give_one_channel_and_one_colour_file_makes_it_three(tmp_path: Path, cache: Path) -> None:
    _save(tmp_path / "set" / "a" / "1.png", Image.new("L", (4, 4), 7))
    _save(tmp_path / "set" / "a" / "2.png", Image.fromarray(np.full((4, 4), 257 * 9, np.uint16)))
    assert load_dataset(_config(tmp_path / "set"), cache).images[:, :, 0, 0].tolist() == [[7], [9]]
    _save(tmp_path / "set" / "a" / "3.png", Image.new("RGB", (4, 4), (1, 2, 3)))
    images = load_dataset(_config(tmp_path / "set"), cache).images
    assert images[:, :, 0, 0].tolist() == [[7, 7, 7], [9, 9, 9], [1, 2, 3]]


def test_transparency_is_laid_over_white(tmp_path: Path, cache: Path) -> None:
    _save(tmp_path / "set" / "a" / "1.png", Image.new("RGBA", (4, 4), (0, 0, 0, 0)))
    _save(tmp_path / "set" / "a" / "2.png", Image.new("LA", (4, 4), (10, 255)))
    assert load_dataset(_config(tmp_path / "set"), cache).images[:, :, 0, 0].tolist() == [[255] * 3, [10] * 3]


def test_the_centre_is_kept_and_exif_orientation_followed(tmp_path: Path, cache: Path) -> None:
    tall = Image.new("L", (8, 16), 0)
    tall.paste(200, (0, 4, 8, 12))
    _save(tmp_path / "set" / "a" / "1.png", tall)
    turned = Image.new("L", (8, 8), 0)
    turned.paste(255, (0, 0, 8, 4))  # the upper half is white; orientation 3 turns the picture by 180 degrees
    exif = Image.Exif()
    exif[0x0112] = 3
    _save(tmp_path / "set" / "a" / "2.png", turned, exif=exif)
    images = load_dataset(_config(tmp_path / "set", image_size=8), cache).images
    np.testing.assert_array_equal(images[0, 0], np.full((8, 8), 200))
    np.testing.assert_array_equal(images[1, 0], np.repeat([0, 255], 4)[:, None] * np.ones((1, 8), int))


def test_differing_sizes_need_image_size(tmp_path: Path, cache: Path) -> None:
    _save(tmp_path / "set" / "a" / "1.png", Image.new("L", (8, 8)))
    _save(tmp_path / "set" / "a" / "2.png", Image.new("L", (9, 9)))
    with pytest.raises(DatasetError, match=r"2\.png: is 9x9; set image_size"):
        load_dataset(_config(tmp_path / "set"), cache)
    assert load_dataset(_config(tmp_path / "set", image_size=4), cache).images.shape == (2, 1, 4, 4)


def test_split_folders_are_followed(tmp_path: Path, cache: Path) -> None:
    _save(tmp_path / "set" / "train" / "a" / "1.png", Image.new("L", (4, 4), 1))
    with pytest.raises(DatasetError, match="no folder 'test'"):
        load_dataset(_config(tmp_path / "set", split="test"), cache)
    _save(tmp_path / "set" / "test" / "a" / "1.png", Image.new("L", (4, 4), 2))
    assert load_dataset(_config(tmp_path / "set"), cache).images.max() == 1
    assert load_dataset(_config(tmp_path / "set", split="test"), cache).images.max() == 2


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-40])


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (lambda a: (a / "2.png").write_bytes(b""), r"2\.png: not a readable image"),
        (lambda a: _cut(a / "1.png"), r"1\.png: not a readable image"),
        (lambda a: (a / "2.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n"), r"2\.png: not a readable image"),
        (lambda a: (a / "inner").mkdir(), "inner: not an image file; class folders are not nested"),
        (lambda a: (a.parent / "b").mkdir(), "b: a class without images"),
        (lambda a: Image.new("L", (4, 4)).save(a.parent / "0.png"), r"0\.png: an image outside the class folders"),
        (lambda a: Image.new("F", (4, 4)).save(a / "2.tiff"), r"2\.tiff: pixels of mode 'F'"),
    ],
)
def test_what_is_not_an_image_in_a_class_folder_is_named(
    spoil: Callable[[Path], object], fault: str, tmp_path: Path, cache: Path
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (16, 16), dtype=np.uint8)
    _save(tmp_path / "set" / "a" / "1.png", Image.fromarray(noise))
    spoil(tmp_path / "set" / "a")
    with pytest.raises(DatasetError, match=fault):
        load_dataset(_config(tmp_path / "set"), cache)


def test_pictures_without_class_folders_are_one_class(tmp_path: Path, cache: Path) -> None:
    for number in range(2):
        _save(tmp_path / "cats" / f"{number}.png", Image.new("L", (4, 4), number))
    (tmp_path / "cats" / "notes.txt").write_text("about them")
    dataset = load_dataset(_config(tmp_path / "cats"), cache)
    assert (dataset.class_names, dataset.class_counts) == (("cats",), (2,))


def test_squares_that_are_too_many_for_their_side_need_another(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        _save(tmp_path / "set" / "a" / f"{number}.png", Image.new("L", (64, 64), number))
    monkeypatch.setattr(class_folders, "MAX_DECODED_BYTES", 2 * 64 * 64)
    with pytest.raises(SizesDiffer) as raised:
        load_dataset(_config(tmp_path / "set"), cache)
    assert raised.value.shorter_side == 64
    sized = _config(tmp_path / "set").model_copy(update={"image_size": 32})
    assert load_dataset(sized, cache).images.shape == (3, 1, 32, 32)


def test_a_folder_without_classes_is_an_error(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "set").mkdir()
    with pytest.raises(DatasetError, match="no class folders"):
        load_dataset(_config(tmp_path / "set"), cache)
    with pytest.raises(DatasetError, match="no such folder"):
        load_dataset(_config(tmp_path / "none"), cache)


def test_junk_beside_pictures_is_left_out_and_counted(
    tmp_path: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    _save(tmp_path / "set" / "a" / "1.png", Image.new("L", (4, 4), 7))
    for name in ("Thumbs.db", "desktop.ini", ".DS_Store", "Icon\r", "notes.TXT", "labels.csv"):
        (tmp_path / "set" / "a" / name).write_bytes(b"junk")
    _save(tmp_path / "set" / "a" / "@eaDir" / "1.png", Image.new("L", (4, 4)))
    dataset = load_dataset(_config(tmp_path / "set"), cache)
    assert (dataset.class_names, dataset.images.max(), len(dataset)) == (("a",), 7, 1)
    assert "left out 7 files" in caplog.text


def test_one_outer_folder_beside_stray_files_is_unwrapped(tmp_path: Path, cache: Path) -> None:
    for name in ("a", "b"):
        _save(tmp_path / "set" / "outer" / name / "1.png", Image.new("L", (4, 4)))
    (tmp_path / "set" / "README").write_text("pictures")
    assert load_dataset(_config(tmp_path / "set"), cache).class_names == ("a", "b")


@pytest.mark.parametrize("test", ["Test", "val", "VALID", "Validation"])
def test_splits_have_names_in_any_case_and_a_split_may_lack_a_class(test: str, tmp_path: Path, cache: Path) -> None:
    for value, place in enumerate(["Train/a", "Train/c", f"{test}/b", f"{test}/c"]):
        _save(tmp_path / "set" / place / "1.png", Image.new("L", (4, 4), value))
    for split, labels, values in (("train", [0, 2], [0, 1]), ("test", [1, 2], [2, 3]), ("all", [0, 2, 1, 2], range(4))):
        dataset = load_dataset(_config(tmp_path / "set", split=split), cache)
        assert dataset.class_names == ("a", "b", "c")
        assert dataset.labels.tolist() == labels
        assert dataset.images[:, 0, 0, 0].tolist() == list(values)


def test_composed_and_decomposed_names_are_one_class(tmp_path: Path, cache: Path) -> None:
    for value, name in enumerate(["Gr\u00f6n", "Gro\u0308n"]):
        _save(tmp_path / "set" / name / "1.png", Image.new("L", (4, 4), value))
    dataset = load_dataset(_config(tmp_path / "set"), cache)
    assert dataset.class_names == ("Gr\u00f6n",)
    assert sorted(dataset.images[:, 0, 0, 0].tolist()) == [0, 1]


def test_numbers_as_folder_names_are_in_the_order_of_their_values(tmp_path: Path, cache: Path) -> None:
    for name in ("10", "9", "b", "007", "1"):
        _save(tmp_path / "set" / name / "1.png", Image.new("L", (4, 4)))
    assert load_dataset(_config(tmp_path / "set"), cache).class_names == ("1", "007", "9", "10", "b")


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".pgm"])
def test_sixteen_bit_grey_is_divided_by_257_in_every_container(suffix: str, tmp_path: Path, cache: Path) -> None:
    values = np.arange(16, dtype=np.uint16).reshape(4, 4) * 17
    _save(tmp_path / "set" / "a" / f"1{suffix}", Image.fromarray(values * 257))
    np.testing.assert_array_equal(load_dataset(_config(tmp_path / "set"), cache).images[0, 0], values)


def test_all_damaged_pictures_are_named_in_one_error_and_can_be_left_out(
    tmp_path: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (16, 16), dtype=np.uint8)
    for name in ("a/1", "a/2", "b/1", "b/2"):
        _save(tmp_path / "set" / f"{name}.png", Image.fromarray(noise))
    _cut(tmp_path / "set" / "a" / "2.png")  # its header can be read, its pixels cannot
    (tmp_path / "set" / "b" / "1.png").write_bytes(b"no picture")
    with pytest.raises(DamagedPictures, match="2 of 4 pictures cannot be read") as refused:
        load_dataset(_config(tmp_path / "set"), cache)
    assert [one.partition("/set/")[2][:7] for one in refused.value.faults] == ["a/2.png", "b/1.png"]
    for fault in refused.value.faults:
        assert fault in str(refused.value)
    assert "skip_damaged" in str(refused.value)

    decoded = decode_dataset(_config(tmp_path / "set", skip_damaged=True))
    assert decoded.labels.tolist() == [0, 1]
    np.testing.assert_array_equal(decoded.images[:, 0], [noise, noise])
    assert decoded.reading.damaged == refused.value.faults
    assert "left out 2 pictures that cannot be read" in caplog.text
    _cut(tmp_path / "set" / "a" / "1.png")
    with pytest.raises(DatasetError, match="no picture of the class 'a' can be read"):
        decode_dataset(_config(tmp_path / "set", skip_damaged=True))


def test_an_error_names_ten_damaged_pictures_and_counts_the_others(tmp_path: Path) -> None:
    for number in range(13):
        (tmp_path / "set" / "a").mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / "a" / f"{number:02}.png").write_bytes(b"no picture")
    with pytest.raises(DamagedPictures) as refused:
        decode_dataset(_config(tmp_path / "set", skip_damaged=True))
    assert len(refused.value.faults) == 13
    assert ("09.png" in str(refused.value), "10.png" in str(refused.value)) == (True, False)
    assert "and 3 more" in str(refused.value)


def test_val_beside_test_is_reported_and_left_out(tmp_path: Path) -> None:
    for value, place in enumerate(["Train/a", "test/a", "val/a", "val/b"]):
        _save(tmp_path / "set" / place / "1.png", Image.new("L", (4, 4), value))
    (tmp_path / "set" / "val" / "a" / "notes.txt").write_text("junk")
    for split, used, values in (("train", {"Train"}, [0]), ("test", {"test"}, [1]), ("all", {"Train", "test"}, [0, 1])):
        decoded = decode_dataset(_config(tmp_path / "set", split=split))
        assert decoded.images[:, 0, 0, 0].tolist() == values
        splits = {one.folder: (one.images, one.used) for one in decoded.reading.splits}
        assert splits == {"Train": (1, "Train" in used), "test": (1, "test" in used), "val": (2, False)}


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_a_picture_is_cropped_padded_or_stretched(fit: str, tmp_path: Path) -> None:
    wide = Image.new("RGB", (8, 4), (100, 100, 100))
    wide.paste((0, 200, 0), (0, 0, 2, 4))
    _save(tmp_path / "set" / "a" / "1.png", wide)
    image = decode_dataset(_config(tmp_path / "set", image_size=4, fit=fit, ground="#ff0000")).images[0]
    if fit == "crop":  # the green quarter is cut away; Lanczos reaches a little beyond the border
        assert abs(image[:, :, 2:].astype(int) - 100).max() <= 1
        assert image[1].min() >= 95
    elif fit == "pad":
        assert [image[:, line, 3].tolist() for line in range(4)] == [[255, 0, 0], [100] * 3, [100] * 3, [255, 0, 0]]
        assert image[1, 1, 0] > 150
    else:
        assert image[1, :, 0].min() > 150
        assert abs(image[:, :, 3].astype(int) - 100).max() <= 2


def test_transparency_is_laid_over_the_ground(tmp_path: Path) -> None:
    _save(tmp_path / "set" / "a" / "1.png", Image.new("RGBA", (4, 4), (0, 0, 0, 0)))
    decoded = decode_dataset(_config(tmp_path / "set", ground="#0a14fF"))
    assert decoded.images[0, :, 0, 0].tolist() == [10, 20, 255]
    with pytest.raises(ValidationError, match="ground"):
        _config(tmp_path / "set", ground="blue")


def test_pictures_of_several_sizes_propose_a_side(tmp_path: Path) -> None:
    for number, size in enumerate([(300, 90), (200, 100), (500, 400)]):
        _save(tmp_path / "set" / "a" / f"{number}.png", Image.new("L", size))
    with pytest.raises(SizesDiffer) as refused:
        decode_dataset(_config(tmp_path / "set"))
    assert refused.value.shorter_side == 100
    assert [proposed_side(shorter) for shorter in (2, 20, 32, 63, 64, 4000)] == [4, 20, 32, 48, 64, 64]
