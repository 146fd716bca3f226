import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.config import DatasetConfig
from model.datasets import DatasetError, load_dataset

Members = dict[str, bytes]


def _config(path: Path, **fields: object) -> DatasetConfig:
    return DatasetConfig.model_validate({"format": "cifar10", "path": path, **fields})


@pytest.fixture
def python(
    cifar10_python_members: Callable[..., Members], colour: np.ndarray, labels: list[int], names: tuple[str, ...]
) -> Members:
    return cifar10_python_members(colour, labels, names)


@pytest.fixture
def binary(
    cifar10_binary_members: Callable[..., Members], colour: np.ndarray, labels: list[int], names: tuple[str, ...]
) -> Members:
    return cifar10_binary_members(colour, labels, names)


@pytest.mark.parametrize("place", ["archive.tar.gz", "folder"])
@pytest.mark.parametrize("version", ["python", "binary"])
def test_every_pixel_and_label_is_where_it_was(
    place: str,
    version: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    cache: Path,
    write_members: Callable[..., Path],
    colour: np.ndarray,
    labels: list[int],
    names: tuple[str, ...],
) -> None:
    path = write_members(tmp_path / place, request.getfixturevalue(version))
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


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("bytes_keys", [False, True])
def test_every_pickle_protocol_gives_the_same_content(
    protocol: int,
    bytes_keys: bool,
    tmp_path: Path,
    cache: Path,
    write_members: Callable[..., Path],
    cifar10_python_members: Callable[..., Members],
    colour: np.ndarray,
    labels: list[int],
    names: tuple[str, ...],
) -> None:
    members = cifar10_python_members(colour, labels, names, protocol=protocol, bytes_keys=bytes_keys)
    dataset = load_dataset(_config(write_members(tmp_path / "folder", members)), cache)
    np.testing.assert_array_equal(dataset.images, colour)
    assert dataset.class_names == names


def test_a_pickle_that_would_run_code_is_refused_and_not_run(
    tmp_path: Path, cache: Path, write_members: Callable[..., Path], python: Members
) -> None:
    ran = tmp_path / "ran"

    class Malicious:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (ran,)

    python["data_batch_3"] = pickle.dumps({"data": Malicious(), "labels": []}, protocol=2)
    path = write_members(tmp_path / "archive.tar.gz", python)
    with pytest.raises(DatasetError, match="data_batch_3: refused at pickle opcode GLOBAL"):
        load_dataset(_config(path), cache)
    assert not ran.exists()
    called, operands = Malicious().__reduce__()  # what unpickling would have done
    called(*operands)
    assert ran.exists()


@pytest.mark.parametrize(
    ("member", "content", "fault"),
    [
        ("data_batch_2", {"labels": [0, 1]}, "no array of bytes called 'data'"),
        ("data_batch_2", {"data": np.zeros((2, 3072), np.uint8)}, "no list called 'labels'"),
        ("data_batch_2", {"data": np.zeros((2, 3072), np.uint8), "labels": [0]}, "1 labels for 2 images"),
        ("data_batch_2", {"data": np.zeros((2, 3072), np.uint8), "labels": [0, 10]}, r"0\.\.9"),
        ("data_batch_2", {"data": np.zeros((2, 3072), np.uint8), "labels": [0, -1]}, r"0\.\.9"),
        ("data_batch_2", {"data": np.zeros((2, 3072), np.uint8), "labels": [0, "1"]}, r"0\.\.9"),
        ("data_batch_2", {"data": np.zeros((2, 3071), np.uint8), "labels": [0, 1]}, "3071 bytes"),
        ("data_batch_2", {"data": np.zeros((2, 3072), np.int32), "labels": [0, 1]}, "no array of bytes"),
        ("data_batch_2", {"data": np.zeros((1, 3072), np.uint8), "labels": [0]}, "announces 2"),
        ("batches.meta", {"label_names": ["a"] * 9}, "9 class names, not 10"),
        ("batches.meta", {"label_names": "abcdefghij"}, "no list called 'label_names'"),
        ("batches.meta", {"label_names": [0] * 10}, "not text"),
        ("batches.meta", {"label_names": [b"\xff"] * 10}, "not text"),
        ("batches.meta", ["not a dict"], "not a dict"),
    ],
)
def test_a_faulty_python_member_is_named_with_its_fault(
    member: str,
    content: object,
    fault: str,
    tmp_path: Path,
    cache: Path,
    write_members: Callable[..., Path],
    python: Members,
) -> None:
    python[member] = pickle.dumps(content, protocol=2)
    with pytest.raises(DatasetError, match=f"{member}: .*{fault}"):
        load_dataset(_config(write_members(tmp_path / "folder", python)), cache)


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
    with pytest.raises(DatasetError, match=r"lacks data_batch_4\.bin$"):
        load_dataset(_config(write_members(tmp_path / place, binary)), cache)


@pytest.mark.parametrize("kept", [0, 1, 100, 0.5, 0.9])
def test_a_truncated_archive_is_an_error(
    kept: float, tmp_path: Path, cache: Path, write_members: Callable[..., Path], python: Members
) -> None:
    path = write_members(tmp_path / "archive.tar.gz", python)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if kept < 1 else int(kept)])
    with pytest.raises(DatasetError, match=r"archive\.tar\.gz"):
        load_dataset(_config(path), cache)


def test_the_folder_that_holds_the_unpacked_folder_will_do(
    tmp_path: Path, cache: Path, write_members: Callable[..., Path], python: Members, colour: np.ndarray
) -> None:
    write_members(tmp_path / "cifar-10-batches-py", python)
    np.testing.assert_array_equal(load_dataset(_config(tmp_path), cache).images, colour)


def test_configured_names_that_contradict_the_archive_are_refused(
    tmp_path: Path, cache: Path, write_members: Callable[..., Path], python: Members, names: tuple[str, ...]
) -> None:
    path = write_members(tmp_path / "folder", python)
    with pytest.raises(DatasetError, match="class_names"):
        load_dataset(_config(path, class_names=names[::-1]), cache)
    assert load_dataset(_config(path, class_names=names), cache).class_names == names
