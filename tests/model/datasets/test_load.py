"""Laws of every format: equal content gives one entry, which is made once and never used when damaged."""

import os
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from darkroom.model.config import DatasetConfig
from darkroom.model.datasets import DatasetError, load_dataset
from darkroom.model.datasets.archive_limits import ArchiveLimits
from darkroom.model.datasets.decoded import Decoded
from darkroom.model.datasets.idx import decode_idx
from darkroom.model.datasets.materialise import content_digest, materialise
from darkroom.model.progress import OnProgress

Members = dict[str, bytes]


def _entries(cache: Path) -> list[Path]:
    return sorted(path for path in cache.iterdir() if path.name not in ("sources", ".lock"))


@pytest.fixture
def config(tmp_path: Path, write_idx: Callable[..., Path], grey: np.ndarray, labels: list[int]) -> DatasetConfig:
    return DatasetConfig(format="idx", path=write_idx(tmp_path / "idx", grey, labels))


@pytest.fixture
def decodings(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """A list to which each decoding of an IDX data set adds its path."""
    seen: list[Path] = []

    def counted(config: DatasetConfig, path: Path, limits: ArchiveLimits, on_progress: OnProgress) -> Decoded:
        seen.append(path)
        return decode_idx(config, path, limits, on_progress)

    monkeypatch.setattr("darkroom.model.datasets.idx.decode_idx", counted)
    return seen


def test_equal_content_has_one_digest_and_one_entry_in_every_format(
    tmp_path: Path,
    cache: Path,
    write_members: Callable[[Path, Mapping[str, bytes]], Path],
    cifar10_binary_members: Callable[..., Members],
    write_folder: Callable[..., Path],
    colour: np.ndarray,
    labels: list[int],
    names: tuple[str, ...],
) -> None:
    archive = write_members(tmp_path / "binary.tar.gz", cifar10_binary_members(colour, labels, names))
    unpacked = write_members(tmp_path / "binary", cifar10_binary_members(colour, labels, names))
    folder = write_folder(tmp_path / "folder", colour, labels, names)
    np.savez(tmp_path / "a.npz", images=colour.transpose(0, 2, 3, 1), labels=labels, class_names=names)
    digests = {
        load_dataset(config, cache).digest
        for config in (
            DatasetConfig(format="cifar10", path=archive),
            DatasetConfig(format="cifar10", path=unpacked),
            DatasetConfig(format="folder", path=folder),
            DatasetConfig(format="npz", path=tmp_path / "a.npz"),
        )
    }
    assert len(digests) == 1
    assert [entry.name for entry in _entries(cache)] == [digests.pop().removeprefix("sha256:")]


def test_grey_content_has_one_digest_too(
    tmp_path: Path,
    cache: Path,
    config: DatasetConfig,
    write_folder: Callable[..., Path],
    grey: np.ndarray,
    labels: list[int],
    names: tuple[str, ...],
) -> None:
    folder = write_folder(tmp_path / "folder", grey, labels, names)
    named = config.model_copy(update={"class_names": names})
    same = load_dataset(DatasetConfig(format="folder", path=folder), cache)
    assert load_dataset(named, cache).digest == same.digest


def test_the_digest_depends_on_every_part(grey: np.ndarray) -> None:
    labels = np.arange(10)
    names = tuple("abcdefghij")
    pixel = grey.copy()
    pixel[9, 0, 27, 27] ^= 1
    digests = {
        content_digest(grey, labels, names),
        content_digest(pixel, labels, names),
        content_digest(grey.reshape(10, 1, 14, 56), labels, names),
        content_digest(grey, labels[::-1], names),
        content_digest(grey, labels, names[::-1]),
        content_digest(grey, labels, ("ab", "", *names[2:])),
    }
    assert len(digests) == 6


def test_the_images_are_a_read_only_map(config: DatasetConfig, cache: Path) -> None:
    dataset = load_dataset(config, cache)
    assert isinstance(dataset.images, np.memmap)
    for array in (dataset.images, dataset.labels):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_an_unchanged_source_is_decoded_once(config: DatasetConfig, cache: Path, decodings: list[Path]) -> None:
    first = load_dataset(config, cache)
    second = load_dataset(config, cache)
    assert len(decodings) == 1
    assert first.digest == second.digest
    np.testing.assert_array_equal(first.images, second.images)


def test_a_changed_source_or_option_is_decoded_anew(
    config: DatasetConfig, cache: Path, decodings: list[Path], write_idx: Callable[..., Path], grey: np.ndarray
) -> None:
    first = load_dataset(config, cache)
    smaller = load_dataset(config.model_copy(update={"image_size": 14}), cache)
    assert smaller.images.shape == (10, 1, 14, 14)
    assert config.path is not None
    write_idx(config.path, 255 - grey, list(range(10)))
    for file in config.path.iterdir():
        os.utime(file, ns=(0, 10**18))
    inverted = load_dataset(config, cache)
    np.testing.assert_array_equal(inverted.images, 255 - grey)
    assert len({first.digest, smaller.digest, inverted.digest}) == len(decodings) == 3


def _flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        lambda entry: _flip(entry / "images.npy"),
        lambda entry: _flip(entry / "labels.npy"),
        lambda entry: (entry / "images.npy").write_bytes(b""),
        lambda entry: (entry / "images.npy").write_bytes((entry / "images.npy").read_bytes()[:-1]),
        lambda entry: (entry / "labels.npy").unlink(),
        lambda entry: (entry / "class_names.json").write_text('["other"]'),
        lambda entry: (entry / "class_names.json").write_text("{"),
        lambda entry: (entry / "class_names.json").write_bytes(b"\xff"),
        lambda entry: shutil.rmtree(entry),
    ],
)
def test_a_damaged_entry_is_noticed_and_rebuilt(
    damage: Callable[[Path], object], config: DatasetConfig, cache: Path, grey: np.ndarray, decodings: list[Path]
) -> None:
    digest = load_dataset(config, cache).digest
    (entry,) = _entries(cache)
    damage(entry)
    rebuilt = load_dataset(config, cache)
    np.testing.assert_array_equal(rebuilt.images, grey)
    assert rebuilt.digest == digest
    assert _entries(cache) == [entry]
    load_dataset(config, cache)
    assert len(decodings) == 2  # the rebuilt entry is intact


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b'{"digest": "../../etc"}', b'{"digest": 3}'])
def test_a_damaged_note_costs_a_decoding_and_nothing_else(
    content: bytes, config: DatasetConfig, cache: Path, decodings: list[Path]
) -> None:
    first = load_dataset(config, cache)
    for note in (cache / "sources").iterdir():
        note.write_bytes(content)
    assert load_dataset(config, cache).digest == first.digest
    assert len(decodings) == 2


def test_a_source_that_changes_while_it_is_decoded_is_not_remembered(
    config: DatasetConfig, cache: Path, monkeypatch: pytest.MonkeyPatch, grey: np.ndarray
) -> None:
    def overtaken(config: DatasetConfig, path: Path, limits: ArchiveLimits, on_progress: OnProgress) -> Decoded:
        decoded = decode_idx(config, path, limits, on_progress)
        for file in path.iterdir():
            os.utime(file, ns=(0, 10**18))
        return decoded

    monkeypatch.setattr("darkroom.model.datasets.idx.decode_idx", overtaken)
    load_dataset(config, cache)
    assert not (cache / "sources").exists()


def test_a_failed_write_leaves_no_entry(config: DatasetConfig, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DatasetError, match="No space left"):
        load_dataset(config, cache)
    assert _entries(cache) == []


@pytest.mark.parametrize("damaged", [False, True])
def test_racing_writers_end_with_one_whole_entry(damaged: bool, cache: Path, grey: np.ndarray) -> None:
    decoded = Decoded(grey, np.arange(10), tuple("abcdefghij"))
    if damaged:
        materialise(decoded, cache)
        _flip(_entries(cache)[0] / "images.npy")
    with ThreadPoolExecutor(8) as pool:
        datasets = list(pool.map(lambda _: materialise(decoded, cache), range(16)))
    for dataset in datasets:
        np.testing.assert_array_equal(dataset.images, grey)
    assert len(_entries(cache)) == 1


def test_what_a_dead_writer_left_is_cleared(config: DatasetConfig, cache: Path) -> None:
    (cache / ".writing-dead" / "fresh").mkdir(parents=True)
    load_dataset(config, cache)
    assert not (cache / ".writing-dead").exists()


def test_a_format_that_needs_a_path_says_so(cache: Path) -> None:
    with pytest.raises(DatasetError, match="idx: a data set of this format needs a path"):
        load_dataset(DatasetConfig(format="idx"), cache)


def test_all_is_the_train_split_and_then_the_test_split(
    tmp_path: Path, cache: Path, write_idx: Callable[..., Path], grey: np.ndarray
) -> None:
    write_idx(tmp_path / "idx", grey[:6], [0, 1, 2, 3, 0, 1])
    folder = write_idx(tmp_path / "idx", grey[6:], [3, 2, 1, 0], split="test")
    dataset = load_dataset(DatasetConfig(format="idx", path=folder, split="all"), cache)
    np.testing.assert_array_equal(dataset.images, grey)
    assert dataset.labels.tolist() == [0, 1, 2, 3, 0, 1, 3, 2, 1, 0]


def test_splits_of_other_classes_are_not_joined(
    tmp_path: Path, cache: Path, write_idx: Callable[..., Path], grey: np.ndarray
) -> None:
    write_idx(tmp_path / "idx", grey[:2], [0, 1])
    folder = write_idx(tmp_path / "idx", grey[2:5], [2, 1, 0], split="test")
    with pytest.raises(DatasetError, match=r"splits' classes differ: one has 0, 1, the other 0, 1, 2$"):
        load_dataset(DatasetConfig(format="idx", path=folder, split="all"), cache)
