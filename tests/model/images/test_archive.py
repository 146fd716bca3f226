"""Laws of image archives: independent readers can read them, their bytes are reproducible, memory is constant."""

import io
import json
import tracemalloc
import zipfile
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from darkroom.model.images.archive import ArchiveFacts, ArchiveFormat, image_archive
from darkroom.model.images.pictures import Pixels

FACTS = ArchiveFacts({"model": "a", "seed": 2**63 - 1}, {"classes": ["Größe", "b"]}, {0: "Größe", 1: "b"})


def pictures(count: int, channels: int = 3, side: int = 8) -> Pixels:
    drawn: Pixels = np.random.default_rng(count).integers(0, 256, (count, side, side, channels), dtype=np.uint8)
    return drawn


def written(wanted: ArchiveFormat, images: Pixels, at_once: int) -> bytes:
    file = io.BytesIO()
    numbers = np.arange(len(images))
    _, height, width, channels = images.shape
    with image_archive(wanted, file, FACTS, images=len(images), image_shape=(height, width, channels)) as archive:
        for first in range(0, len(images), at_once):
            these = slice(first, first + at_once)
            archive.add(images[these], numbers[these] % 2, numbers[these] // 2)
        archive.finish()
    return file.getvalue()


@pytest.mark.parametrize("wanted", get_args(ArchiveFormat))
def test_the_bytes_do_not_depend_on_the_pieces_they_came_in(wanted: ArchiveFormat) -> None:
    images = pictures(10)
    assert written(wanted, images, 10) == written(wanted, images, 3) == written(wanted, images, 1)


@pytest.mark.parametrize("channels", [1, 3])
def test_numpy_reads_what_it_would_have_written(channels: int) -> None:
    images = pictures(10, channels)
    with np.load(io.BytesIO(written("npz", images, 4)), allow_pickle=False) as found:
        expected = {
            "images": images,
            "labels": np.arange(10) % 2,
            "seeds": np.full(10, 2**63 - 1),
            "indices": np.arange(10) // 2,
        }
        assert set(found.files) == {*expected, "facts"}
        for name, array in expected.items():
            assert found[name].dtype == array.dtype
            np.testing.assert_array_equal(found[name], array)
        assert json.loads(str(found["facts"])) == FACTS.all


def test_a_zip_has_a_picture_an_image_with_what_makes_it_again() -> None:
    images = pictures(11)
    with zipfile.ZipFile(io.BytesIO(written("zip", images, 4))) as archive:
        assert archive.testzip() is None
        manifest = json.loads(archive.read("manifest.json"))
        assert {name: manifest[name] for name in FACTS.all} == FACTS.all
        assert len(archive.namelist()) == 12
        for number, entry in enumerate(manifest["images"]):
            shown = {"index": number // 2, "class": ("Größe", "b")[number % 2], "class_index": number % 2}
            assert entry == {"file": entry["file"]} | shown
            picture = Image.open(io.BytesIO(archive.read(entry["file"])))
            np.testing.assert_array_equal(np.asarray(picture), images[number])
            assert json.loads(picture.info["darkroom"]) == dict(FACTS.shared) | shown


def test_a_wrong_number_of_images_is_an_error() -> None:
    with image_archive("npz", io.BytesIO(), FACTS, images=3, image_shape=(8, 8, 3)) as archive:
        archive.add(pictures(2), np.zeros(2, dtype=np.int64), np.arange(2))
        with pytest.raises(ValueError, match="2 images instead of 3"):
            archive.finish()


class _Nowhere(io.RawIOBase):
    """A file that discards what is written."""

    def __init__(self) -> None:
        self._position = self._size = 0

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = 0) -> int:
        self._position = offset + (0, self._position, self._size)[whence]
        return self._position

    def write(self, data: object) -> int:
        length = memoryview(data).nbytes
        self._position += length
        self._size = max(self._size, self._position)
        return length


@pytest.mark.parametrize(("wanted", "count"), [("npz", 20_000), ("zip", 2_000)])
def test_images_are_not_held_in_memory(wanted: ArchiveFormat, count: int) -> None:
    part = pictures(50, side=32)
    tracemalloc.start()
    try:
        with image_archive(wanted, _Nowhere(), FACTS, images=count, image_shape=(32, 32, 3)) as archive:
            for first in range(0, count, 50):
                archive.add(part, np.zeros(50, dtype=np.int64), np.arange(first, first + 50))
            archive.finish()
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 0.4 * count * part[0].nbytes
