import gzip
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from darkroom.model.config import DatasetConfig
from darkroom.model.datasets import DatasetError, load_dataset

IMAGES = "train-images-idx3-ubyte"
LABELS = "train-labels-idx1-ubyte"


@pytest.fixture
def folder(tmp_path: Path, write_idx: Callable[..., Path], grey: np.ndarray, labels: list[int]) -> Path:
    return write_idx(tmp_path / "idx", grey, labels, zipped=False)


def _config(path: Path, **fields: object) -> DatasetConfig:
    return DatasetConfig.model_validate({"format": "idx", "path": path, **fields})


@pytest.mark.parametrize("zipped", [False, True])
def test_every_pixel_and_label_is_where_it_was(
    zipped: bool, tmp_path: Path, cache: Path, write_idx: Callable[..., Path], grey: np.ndarray
) -> None:
    labels = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3]
    dataset = load_dataset(
        _config(write_idx(tmp_path / "idx", grey, labels, zipped=zipped), class_names=tuple("0123456789")), cache
    )
    np.testing.assert_array_equal(dataset.images, grey)
    assert dataset.images.dtype == np.uint8
    assert dataset.labels.dtype == np.int64
    assert dataset.labels.tolist() == labels
    assert dataset.class_names == tuple("0123456789")
    assert len(dataset) == 10


def test_the_split_chooses_the_files(
    folder: Path, cache: Path, write_idx: Callable[..., Path], grey: np.ndarray
) -> None:
    write_idx(folder, grey[:2], [0, 1], split="test")
    np.testing.assert_array_equal(load_dataset(_config(folder, split="test"), cache).images, grey[:2])
    assert len(load_dataset(_config(folder), cache)) == 10


def test_configured_class_names_are_taken(folder: Path, cache: Path, names: tuple[str, ...]) -> None:
    assert load_dataset(_config(folder, class_names=names), cache).class_names == names


@pytest.mark.parametrize(
    ("file", "content", "fault"),
    [
        (IMAGES, struct.pack(">4I", 0x801, 10, 28, 28) + bytes(7840), "magic"),
        (IMAGES, struct.pack(">4I", 0x803, 10, 28, 28) + bytes(7839), "truncated"),
        (IMAGES, struct.pack(">4I", 0x803, 10, 28, 28) + bytes(7841), "too long"),
        (IMAGES, struct.pack(">2I", 0x803, 10), "truncated in its header"),
        (IMAGES, struct.pack(">4I", 0x803, 2**31, 2**31, 2**31), "at most"),
        (IMAGES, struct.pack(">4I", 0x803, 0, 28, 28), "no images"),
        (IMAGES, struct.pack(">4I", 0x803, 10, 28, 14) + bytes(3920), "not square"),
        (IMAGES, b"", "magic"),
        (LABELS, struct.pack(">2I", 0x803, 10) + bytes(10), "magic"),
        (LABELS, struct.pack(">2I", 0x801, 9) + bytes(9), "9 labels for the 10 images"),
    ],
)
def test_a_faulty_file_is_named_with_its_fault(
    file: str, content: bytes, fault: str, folder: Path, cache: Path
) -> None:
    (folder / file).write_bytes(content)
    with pytest.raises(DatasetError, match=f"{file}.*{fault}"):
        load_dataset(_config(folder), cache)


@pytest.mark.parametrize("damage", [lambda c: c[:-9], lambda c: c[:40] + b"\xff" * 40 + c[80:], lambda c: c[10:]])
def test_damaged_gzip_is_named(damage: Callable[[bytes], bytes], folder: Path, cache: Path) -> None:
    content = (folder / IMAGES).read_bytes()
    (folder / IMAGES).unlink()
    (folder / f"{IMAGES}.gz").write_bytes(damage(gzip.compress(content)))
    with pytest.raises(DatasetError, match=f"{IMAGES}.gz: damaged or truncated"):
        load_dataset(_config(folder), cache)


def test_a_label_beyond_the_configured_classes_is_refused(folder: Path, cache: Path) -> None:
    with pytest.raises(DatasetError, match=rf"{LABELS}: label 2 of image 2 is not in 0\.\.1"):
        load_dataset(_config(folder, class_names=("a", "b")), cache)


def test_a_missing_file_is_named(folder: Path, cache: Path) -> None:
    (folder / LABELS).unlink()
    with pytest.raises(DatasetError, match=LABELS):
        load_dataset(_config(folder), cache)


def test_image_size_resizes_and_crops(tmp_path: Path, cache: Path, write_idx: Callable[..., Path]) -> None:
    wide = np.full((1, 1, 8, 32), 200, dtype=np.uint8)
    wide[..., :4] = wide[..., 28:] = 0  # far outside the centre square, columns 12 to 19
    dataset = load_dataset(_config(write_idx(tmp_path / "wide", wide, [0]), image_size=4), cache)
    np.testing.assert_array_equal(dataset.images, np.full((1, 1, 4, 4), 200))


def test_a_gap_of_the_labels_is_named_unless_the_classes_have_names(
    tmp_path: Path, cache: Path, write_idx: Callable[..., Path], grey: np.ndarray
) -> None:
    folder = write_idx(tmp_path / "idx", grey[:2], [0, 3])
    with pytest.raises(DatasetError, match=r"no image has label 1, 2, but the largest label is 3; .* class_names"):
        load_dataset(_config(folder), cache)
    dataset = load_dataset(_config(folder, class_names=("a", "b", "c", "d")), cache)
    assert (dataset.labels.tolist(), dataset.class_counts) == ([0, 3], (1, 0, 0, 1))


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("archive", [False, True])
def test_names_with_dots_are_found(
    zipped: bool, archive: bool, tmp_path: Path, cache: Path, write_idx: Callable[..., Path], grey: np.ndarray
) -> None:
    path = write_idx(tmp_path / "idx", grey, list(range(10)), zipped=zipped)
    for file in list(path.iterdir()):
        file.rename(path / file.name.replace("-idx", ".idx"))
    if archive:
        path = Path(shutil.make_archive(str(tmp_path / "all"), "zip", path))
    np.testing.assert_array_equal(load_dataset(_config(path), cache).images, grey)


def test_sixteen_bits_are_divided_by_257(tmp_path: Path, cache: Path) -> None:
    values = np.arange(32, dtype=">u2").reshape(2, 4, 4) * 8
    (tmp_path / IMAGES).write_bytes(struct.pack(">4I", 0xB03, 2, 4, 4) + (values * 257).astype(">u2").tobytes())
    (tmp_path / LABELS).write_bytes(struct.pack(">2I", 0xB01, 2) + struct.pack(">2H", 299, 0))
    dataset = load_dataset(_config(tmp_path, class_names=tuple(map(str, range(300)))), cache)
    np.testing.assert_array_equal(dataset.images[:, 0], values)
    assert dataset.labels.tolist() == [299, 0]
    (tmp_path / IMAGES).write_bytes((tmp_path / IMAGES).read_bytes()[:-1])
    with pytest.raises(DatasetError, match="truncated: its header announces 64 bytes"):
        load_dataset(_config(tmp_path, class_names=tuple(map(str, range(300)))), cache)
