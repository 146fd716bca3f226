from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from darkroom.model.config import DatasetConfig
from darkroom.model.datasets import DatasetError, load_dataset

Members = dict[str, bytes]


def _config(path: Path, **fields: object) -> DatasetConfig:
    return DatasetConfig.model_validate({"format": "cifar10", "path": path, **fields})


@pytest.fixture
def binary(
    cifar10_binary_members: Callable[..., Members], colour: np.ndarray, labels: list[int], names: tuple[str, ...]
) -> Members:
    return cifar10_binary_members(colour, labels, names)


@pytest.mark.parametrize("place", ["archive.tar.gz", "folder"])
def test_every_pixel_and_label_is_where_it_was(
    place: str,
    tmp_path: Path,
    cache: Path,
    write_members: Callable[..., Path],
    binary: Members,
    colour: np.ndarray,
    labels: list[int],
    names: tuple[str, ...],
) -> None:
    path = write_members(tmp_path / place, binary)
    dataset = load_dataset(_config(path), cache)
    np.testing.assert_array_equal(dataset.images, colour)
    assert dataset.labels.tolist() == labels
    assert dataset.class_names == names
    test = load_dataset(_config(path, split="test"), cache)
    np.testing.assert_array_equal(test.images, colour[:2])


def test_a_red_pixel_of_the_second_row_is_red_and_in_the_second_row(
    tmp_path: Path, cache: Path, write_members: Callable[..., Path], binary: Members
) -> None:
    record = bytearray(3073)
    record[1 + 32 + 5] = 255  # label, then the red plane: row 1, column 5
    binary["test_batch.bin"] = bytes(record)
    dataset = load_dataset(_config(write_members(tmp_path / "folder", binary), split="test"), cache)
    assert np.argwhere(dataset.images).tolist() == [[0, 0, 1, 5]]


def test_the_version_of_pickles_is_not_read_and_the_other_one_named(
    tmp_path: Path, cache: Path, write_members: Callable[..., Path]
) -> None:
    members = dict.fromkeys(("batches.meta", "test_batch", *(f"data_batch_{n}" for n in range(1, 6))), b"\x80\x02}.")
    for place in ("archive.tar.gz", "folder"):
        with pytest.raises(DatasetError, match=r"lacks .*data_batch_1\.bin.*cifar-10-binary\.tar\.gz"):
            load_dataset(_config(write_members(tmp_path / place, members)), cache)


@pytest.mark.parametrize(
    ("member", "content", "fault"),
    [
        ("data_batch_4.bin", bytes(2 * 3073 - 1), "truncated"),
        ("data_batch_4.bin", b"", "truncated"),
        ("data_batch_4.bin", bytes(3073) + b"\x0a" + bytes(3072), "label 10"),
        ("data_batch_4", bytes(3073), "has 1 images, other batches 2"),
        ("batches.meta.txt", b"cat\ndog\n", "2 class names, not 10"),
        ("batches.meta.txt", b"\xff\n" * 10, "not text"),
    ],
)
def test_a_faulty_binary_member_is_named_with_its_fault(
    member: str,
    content: bytes,
    fault: str,
    tmp_path: Path,
    cache: Path,
    write_members: Callable[..., Path],
    binary: Members,
) -> None:
    binary[member if "." in member else f"{member}.bin"] = content
    with pytest.raises(DatasetError, match=f"{member}.*{fault}"):
        load_dataset(_config(write_members(tmp_path / "folder", binary)), cache)


@pytest.mark.parametrize("place", ["archive.tar.gz", "folder"])
def test_missing_members_are_named(
    place: str, tmp_path: Path, cache: Path, write_members: Callable[..., Path], binary: Members
) -> None:
    del binary["data_batch_4.bin"]
    with pytest.raises(DatasetError, match=r"lacks data_batch_4\.bin;"):
        load_dataset(_config(write_members(tmp_path / place, binary)), cache)


@pytest.mark.parametrize("kept", [0, 1, 100, 0.5, 0.9])
def test_a_truncated_archive_is_an_error(
    kept: float, tmp_path: Path, cache: Path, write_members: Callable[..., Path], binary: Members
) -> None:
    path = write_members(tmp_path / "archive.tar.gz", binary)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if kept < 1 else int(kept)])
    with pytest.raises(DatasetError, match=r"archive\.tar\.gz"):
        load_dataset(_config(path), cache)


def test_the_folder_that_holds_the_unpacked_folder_will_do(
    tmp_path: Path, cache: Path, write_members: Callable[..., Path], binary: Members, colour: np.ndarray
) -> None:
    write_members(tmp_path / "cifar-10-batches-bin", binary)
    np.testing.assert_array_equal(load_dataset(_config(tmp_path), cache).images, colour)


def test_configured_names_that_contradict_the_archive_are_refused(
    tmp_path: Path, cache: Path, write_members: Callable[..., Path], binary: Members, names: tuple[str, ...]
) -> None:
    path = write_members(tmp_path / "folder", binary)
    with pytest.raises(DatasetError, match="class_names"):
        load_dataset(_config(path, class_names=names[::-1]), cache)
    assert load_dataset(_config(path, class_names=names), cache).class_names == names
