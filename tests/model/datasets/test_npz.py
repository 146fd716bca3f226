import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from darkroom.model.config import DatasetConfig
from darkroom.model.datasets import DatasetError, load_dataset


def _config(path: Path, **fields: object) -> DatasetConfig:
    return DatasetConfig.model_validate({"format": "npz", "path": path, **fields})


def _save(path: Path, **arrays: Any) -> Path:
    np.savez_compressed(path, **arrays)
    return path


def _grey(count: int = 2, side: int = 8) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, 1, side, side), dtype=np.uint8)


def test_every_layout_gives_the_same_images(tmp_path: Path, cache: Path, colour: np.ndarray) -> None:
    labels = np.arange(10, dtype=np.uint16)
    first = _save(tmp_path / "first.npz", images=colour, labels=labels)
    last = _save(tmp_path / "last.npz", images=colour.transpose(0, 2, 3, 1), labels=labels)
    for path in (first, last):
        dataset = load_dataset(_config(path), cache)
        np.testing.assert_array_equal(dataset.images, colour)
        assert dataset.labels.dtype == np.int64
        assert dataset.labels.tolist() == list(range(10))
    grey = _grey()
    for images in (grey, grey[:, 0], grey.transpose(0, 2, 3, 1), np.asfortranarray(grey)):
        dataset = load_dataset(_config(_save(tmp_path / "grey.npz", images=images, labels=[0, 1])), cache)
        np.testing.assert_array_equal(dataset.images, grey)


@pytest.mark.parametrize("kind", ["U", "S"])
def test_class_names_are_read(kind: str, tmp_path: Path, cache: Path) -> None:
    path = _save(tmp_path / "a.npz", images=_grey(), labels=[0, 1], class_names=np.array(["cat", "dog", "owl"], kind))
    assert load_dataset(_config(path), cache).class_names == ("cat", "dog", "owl")


def test_a_folder_holds_the_splits_and_one_archive_is_the_train_split(tmp_path: Path, cache: Path) -> None:
    _save(tmp_path / "train.npz", images=_grey(3), labels=[0, 1, 0])
    _save(tmp_path / "test.npz", images=_grey(1), labels=[0])
    assert len(load_dataset(_config(tmp_path), cache)) == 3
    assert len(load_dataset(_config(tmp_path, split="test"), cache)) == 1
    with pytest.raises(DatasetError, match=r"train\.npz: one archive is the train split"):
        load_dataset(_config(tmp_path / "train.npz", split="test"), cache)


@pytest.mark.parametrize(
    ("arrays", "fault"),
    [
        ({"labels": [0, 1]}, "no array called 'images'"),
        ({"images": _grey()}, "no array called 'labels'"),
        ({"images": _grey().astype(np.float32), "labels": [0, 1]}, "images: float32"),
        ({"images": _grey()[0, 0], "labels": [0, 1]}, "images: uint8 of shape"),
        ({"images": np.zeros((2, 8, 8, 4), np.uint8), "labels": [0, 1]}, "no axis of 1 or 3 channels"),
        ({"images": np.zeros((2, 3, 3, 3), np.uint8), "labels": [0, 1]}, "could be channels first or last"),
        ({"images": np.zeros((2, 8, 9), np.uint8), "labels": [0, 1]}, "not square"),
        ({"images": np.zeros((0, 8, 8), np.uint8), "labels": np.zeros(0, np.int64)}, "no images"),
        ({"images": _grey(), "labels": [0]}, r"labels: int64 of shape \(1,\)"),
        ({"images": _grey(), "labels": [0.0, 1.0]}, "labels: float64"),
        ({"images": _grey(), "labels": [0, -1]}, "label -1 of image 1"),
        ({"images": _grey(), "labels": np.array([0, 2**64 - 1], np.uint64)}, "label 18446744073709551615"),
        ({"images": _grey(), "labels": [0, 2], "class_names": ["a", "b"]}, "label 2 of image 1"),
        ({"images": _grey(), "labels": [0, 1], "class_names": ["a", "a"]}, "'a' is given twice"),
        ({"images": _grey(), "labels": [0, 1], "class_names": ["a", " "]}, "class name is empty"),
        ({"images": _grey(), "labels": [0, 1], "class_names": [1, 2]}, "class_names: int64"),
        ({"images": np.array([None, None]), "labels": [0, 1]}, "images: an array of Python objects is refused"),
        ({"images": _grey(), "labels": np.array([0, 1], object)}, "labels: an array of Python objects is refused"),
    ],
)
def test_a_faulty_archive_is_named_with_its_fault(
    arrays: dict[str, Any], fault: str, tmp_path: Path, cache: Path
) -> None:
    with pytest.raises(DatasetError, match=rf"a\.npz: .*{fault}"):
        load_dataset(_config(_save(tmp_path / "a.npz", **arrays)), cache)


def _npy_header(shape: tuple[int, ...]) -> bytes:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return header.getvalue()


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (_npy_header((2**20, 2**10, 2**10)), "at most"),
        (_npy_header((2, 8, 8)) + bytes(127), "its header announces 128"),
        (_npy_header((2, 8, 8)) + bytes(129), "its header announces 128"),
        (b"not an array", "not a readable npz"),
        (b"", "not a readable npz"),
    ],
)
def test_sizes_are_checked_before_they_are_believed(content: bytes, fault: str, tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", content)
        archive.writestr("labels.npy", b"")
    with pytest.raises(DatasetError, match=rf"a\.npz: .*{fault}"):
        load_dataset(_config(path), cache)


def test_every_truncation_of_the_archive_is_an_error(tmp_path: Path, cache: Path) -> None:
    path = _save(tmp_path / "a.npz", images=_grey(), labels=[0, 1])
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(DatasetError, match=r"a\.npz"):
            load_dataset(_config(path), cache)


def test_a_flipped_byte_of_pixels_is_noticed(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, images=np.full((1, 8, 8), 77, np.uint8), labels=[0])
    path.write_bytes(path.read_bytes().replace(bytes([77] * 64), bytes([78] + [77] * 63)))
    with pytest.raises(DatasetError, match="CRC"):
        load_dataset(_config(path), cache)


@pytest.mark.parametrize(
    "labels",
    [np.array([[1], [0]]), np.array([[0, 1], [1, 0]]), np.array([[0.0, 1.0], [1.0, 0.0]]), np.eye(2)[::-1] > 0],
)
def test_labels_in_one_column_or_one_hot_are_read(labels: np.ndarray, tmp_path: Path, cache: Path) -> None:
    path = _save(tmp_path / "a.npz", images=_grey(), labels=labels)
    assert load_dataset(_config(path), cache).labels.tolist() == [1, 0]


@pytest.mark.parametrize("line", [[1, 1], [0, 0], [2, 0], [1.0, np.nan]])
def test_lines_that_are_not_one_hot_are_named(line: list[float], tmp_path: Path, cache: Path) -> None:
    path = _save(tmp_path / "a.npz", images=_grey(), labels=np.array([[0, 1], line]))
    with pytest.raises(DatasetError, match=r"a\.npz: labels: line 1 is not one-hot"):
        load_dataset(_config(path), cache)


@pytest.mark.parametrize("kind", ["<u2", ">u2"])
def test_sixteen_bits_are_divided_by_257(kind: str, tmp_path: Path, cache: Path) -> None:
    grey = _grey()
    path = _save(tmp_path / "a.npz", images=(grey.astype(np.uint16) * 257).astype(kind), labels=[0, 1])
    np.testing.assert_array_equal(load_dataset(_config(path), cache).images, grey)


def test_a_gap_of_the_labels_is_named(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(DatasetError, match="labels: no image has label 1, but the largest label is 2"):
        load_dataset(_config(_save(tmp_path / "a.npz", images=_grey(), labels=[0, 2])), cache)
