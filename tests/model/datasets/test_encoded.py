"""Laws of the encoded file: decoding returns the encoded data, any safetensors reader reads it, and damage is found."""

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load

from darkroom.model.config import DatasetConfig
from darkroom.model.datasets import DatasetError, load_dataset
from darkroom.model.datasets.contact_sheet import contact_sheet
from darkroom.model.datasets.decoded import Decoded
from darkroom.model.datasets.encoded import decode, encode
from darkroom.model.datasets.materialise import content_digest
from darkroom.model.datasets.registered import load_encoded, load_unchanged


@pytest.fixture
def decoded(colour: np.ndarray, labels: list[int], names: tuple[str, ...]) -> Decoded:
    return Decoded(colour, np.array(labels[::-1]), (*names[:9], "Größe"))


@pytest.fixture
def encoded(tmp_path: Path, decoded: Decoded) -> Path:
    with (tmp_path / "a.safetensors").open("wb") as file:
        encode(decoded, file)
    return tmp_path / "a.safetensors"


def _digest(decoded: Decoded) -> str:
    return content_digest(decoded.images, decoded.labels, decoded.class_names)


def test_what_was_encoded_is_decoded(encoded: Path, decoded: Decoded) -> None:
    with encoded.open("rb") as file:
        found = decode(file, _digest(decoded), "here")
    np.testing.assert_array_equal(found.images, decoded.images)
    np.testing.assert_array_equal(found.labels, decoded.labels)
    assert found.class_names == decoded.class_names
    assert (found.images.dtype, found.labels.dtype) == (np.uint8, np.int64)


def test_it_is_a_safetensors_file(encoded: Path, decoded: Decoded) -> None:
    tensors = load(encoded.read_bytes())
    assert set(tensors) == {"images", "labels"}
    np.testing.assert_array_equal(tensors["images"], decoded.images)
    np.testing.assert_array_equal(tensors["labels"], decoded.labels)


def test_equal_content_gives_equal_bytes(encoded: Path, decoded: Decoded) -> None:
    copy = io.BytesIO()
    transposed = (
        decoded.images.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2)
    )  # equal values in another memory layout
    assert encode(Decoded(transposed, decoded.labels.copy(), decoded.class_names), copy) == _digest(decoded)
    assert copy.getvalue() == encoded.read_bytes()


@pytest.mark.parametrize("position", [0, 3, 9, 60, 400, -1, -31_000])
def test_one_flipped_bit_is_found(encoded: Path, decoded: Decoded, position: int) -> None:
    content = bytearray(encoded.read_bytes())
    content[position] ^= 0b100
    encoded.write_bytes(content)
    with encoded.open("rb") as file, pytest.raises(DatasetError, match=r"^here: "):
        decode(file, _digest(decoded), "here")


@pytest.mark.parametrize("length", [0, 5, 8, 100, 1000, -1])
def test_a_truncated_file_is_found(encoded: Path, decoded: Decoded, length: int) -> None:
    encoded.write_bytes(encoded.read_bytes()[:length])
    with encoded.open("rb") as file, pytest.raises(DatasetError, match=r"^here: "):
        decode(file, _digest(decoded), "here")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"U8"', b'"I8"'),
        (b"[10,3,32,32]", b"[99,3,32,32]"),
        (b"[10,3,32,32]", b"[-9,3,32,32]"),
        (b"[10,3,32,32]", b'["a",3,32,2]'),
        (b"[10,3,32,32]", b"[1e999,3,9,9]"),
        (b'"images"', b'"imagen"'),
        (b'"data_offsets"', b'"data_offsetz"'),
        (b'"__metadata__"', b'"__metadatas_"'),
    ],
)
def test_a_header_that_is_not_ours_is_refused(encoded: Path, decoded: Decoded, old: bytes, new: bytes) -> None:
    content = encoded.read_bytes()
    assert content.count(old) >= 1
    encoded.write_bytes(content.replace(old, new))
    with encoded.open("rb") as file, pytest.raises(DatasetError, match=r"^here: "):
        decode(file, _digest(decoded), "here")


def test_another_data_set_is_refused(encoded: Path) -> None:
    with encoded.open("rb") as file, pytest.raises(DatasetError, match="holds the data set sha256:"):
        decode(file, "sha256:" + hashlib.sha256(b"").hexdigest(), "here")


def test_an_uploaded_data_set_is_fetched_once(encoded: Path, decoded: Decoded, cache: Path) -> None:
    fetched = 0

    def fetch(file: BinaryIO) -> None:
        nonlocal fetched
        fetched += 1
        file.write(encoded.read_bytes())

    for _ in range(2):
        dataset = load_encoded(_digest(decoded), fetch, cache)
        assert dataset.digest == _digest(decoded)
        np.testing.assert_array_equal(dataset.images, decoded.images)
    assert fetched == 1
    images = cache / _digest(decoded).removeprefix("sha256:") / "images.npy"
    images.write_bytes(images.read_bytes()[:-1])  # a damaged entry is fetched again
    np.testing.assert_array_equal(load_encoded(_digest(decoded), fetch, cache).images, decoded.images)
    assert fetched == 2
    assert {path.name for path in cache.iterdir()} == {".lock", images.parent.name}


def test_a_failed_fetch_leaves_nothing(decoded: Decoded, cache: Path) -> None:
    def fetch(file: BinaryIO) -> None:
        file.write(b"half")
        raise ConnectionError("gone")

    def damaged(file: BinaryIO) -> None:
        file.write(bytes(1000))

    for bad, fault in ((fetch, "gone"), (damaged, "not an encoded data set")):
        with pytest.raises(DatasetError, match=fault):
            load_encoded(_digest(decoded), bad, cache)
        assert list(cache.iterdir()) == []


def test_a_path_must_hold_what_was_registered(
    tmp_path: Path, cache: Path, write_idx: Callable[..., Path], grey: np.ndarray, labels: list[int]
) -> None:
    config = DatasetConfig(format="idx", path=write_idx(tmp_path / "idx", grey, labels))
    digest = load_dataset(config, cache).digest
    assert load_unchanged(config, digest, cache).digest == digest
    write_idx(tmp_path / "idx", grey[:9], labels[:9])
    with pytest.raises(DatasetError, match=r"the data at .*idx changed since it was registered"):
        load_unchanged(config, digest, cache)
    (tmp_path / "idx").rename(tmp_path / "elsewhere")
    with pytest.raises(DatasetError, match=r"the data at .*idx vanished since it was registered"):
        load_unchanged(config, digest, cache)


def _cells(sheet: bytes, side: int, rows: int, columns: int) -> np.ndarray:
    """Cut a sheet with gaps of two pixels into (lines, columns, side, side, ...)."""
    pixels = np.asarray(Image.open(io.BytesIO(sheet)))
    assert pixels.shape[:2] == (rows * (side + 2) + 2, columns * (side + 2) + 2)
    starts = [[(2 + r * (side + 2), 2 + c * (side + 2)) for c in range(columns)] for r in range(rows)]
    return np.array([[pixels[top : top + side, left : left + side] for top, left in row] for row in starts])


def test_a_contact_sheet_shows_the_first_ten_of_each_class() -> None:
    images = np.arange(30, dtype=np.uint8)[:, None, None, None] * np.ones((1, 1, 4, 4), np.uint8)
    labels = np.array([0] * 25 + [2] * 5)
    cells = _cells(contact_sheet(Decoded(images, labels, ("a", "b", "c"))), 4, 3, 10)
    assert (cells == cells[:, :, :1, :1]).all()
    assert cells[0, :, 0, 0].tolist() == list(range(10))
    assert cells[1, :, 0, 0].tolist() == [255] * 10
    assert cells[2, :, 0, 0].tolist() == [25, 26, 27, 28, 29] + [255] * 5


def test_a_contact_sheet_stays_small() -> None:
    images = np.zeros((120, 3, 200, 200), np.uint8)
    images[:, 0] = 200
    sheet = contact_sheet(Decoded(images, np.arange(120) % 60, tuple(map(str, range(60)))))
    cells = _cells(sheet, 96, 50, 2)
    assert (cells[..., 0] == 200).all()
    assert (cells[..., 1:] == 0).all()
