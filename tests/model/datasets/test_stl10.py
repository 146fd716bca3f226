from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from darkroom.model.config import DatasetConfig
from darkroom.model.datasets import DatasetError, load_dataset

Members = dict[str, bytes]


def _config(path: Path, **fields: object) -> DatasetConfig:
    return DatasetConfig.model_validate({"format": "stl10", "path": path, **fields})


@pytest.fixture
def pictures() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, 3, 96, 96), dtype=np.uint8)


@pytest.fixture
def members(stl10_members: Callable[..., Members], pictures: np.ndarray, names: tuple[str, ...]) -> Members:
    return stl10_members(pictures, [9, 0], names)


@pytest.mark.parametrize("place", ["archive.tar.gz", "folder"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_columns_become_rows_and_labels_start_at_zero(
    place: str,
    split: str,
    tmp_path: Path,
    cache: Path,
    write_members: Callable[..., Path],
    members: Members,
    pictures: np.ndarray,
    names: tuple[str, ...],
) -> None:
    path = write_members(tmp_path / place, members)
    dataset = load_dataset(_config(path, image_size=96, split=split), cache)
    np.testing.assert_array_equal(dataset.images, pictures)
    assert dataset.labels.tolist() == [9, 0]
    assert dataset.class_names == names


def test_the_default_side_is_32_by_the_lanczos_filter(
    tmp_path: Path, cache: Path, write_members: Callable[..., Path], members: Members, pictures: np.ndarray
) -> None:
    dataset = load_dataset(_config(write_members(tmp_path / "folder", members)), cache)
    for image, picture in zip(dataset.images, pictures, strict=True):
        small = Image.fromarray(np.ascontiguousarray(picture.transpose(1, 2, 0))).resize(
            (32, 32), Image.Resampling.LANCZOS
        )
        np.testing.assert_array_equal(image, np.asarray(small).transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("member", "content", "fault"),
    [
        ("train_X.bin", bytes(2 * 27648 - 1), "truncated"),
        ("train_X.bin", b"", "truncated"),
        ("train_y.bin", b"\x00\x01", r"labels 0\.\.1 are not in 1\.\.10"),
        ("train_y.bin", b"\x0b\x01", r"labels 1\.\.11 are not in 1\.\.10"),
        ("train_y.bin", b"\x01", "1 labels for 2 images"),
        ("train_y.bin", b"", "0 labels for 2 images"),
        ("class_names.txt", b"cat", "1 class names, not 10"),
    ],
)
def test_a_faulty_member_is_named_with_its_fault(
    member: str,
    content: bytes,
    fault: str,
    tmp_path: Path,
    cache: Path,
    write_members: Callable[..., Path],
    members: Members,
) -> None:
    members[member] = content
    with pytest.raises(DatasetError, match=f"{member}: .*{fault}"):
        load_dataset(_config(write_members(tmp_path / "folder", members)), cache)
