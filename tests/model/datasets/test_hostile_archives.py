"""Hostile archives are refused in all forms: npz, and the members of tar and zip archives."""

import io
import tarfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest

from darkroom.model.config import DatasetConfig
from darkroom.model.datasets import DatasetError
from darkroom.model.datasets.archive_limits import ArchiveLimits
from darkroom.model.datasets.decoded import Decoded
from darkroom.model.datasets.load import decode_dataset

LIMITS = ArchiveLimits(entries=100, ratio=10, free_bytes=1 << 20)
Members = dict[str, bytes]


def _decode(form: str, path: Path, limits: ArchiveLimits = LIMITS, **fields: object) -> Decoded:
    return decode_dataset(DatasetConfig.model_validate({"format": form, "path": path, **fields}), limits)


def _file(name: str, content: bytes) -> tuple[tarfile.TarInfo, bytes]:
    header = tarfile.TarInfo(name)
    header.size = len(content)
    return header, content


def _special(name: str, kind: bytes, target: str = "") -> tuple[tarfile.TarInfo, bytes]:
    header = tarfile.TarInfo(name)
    header.type, header.linkname = kind, target
    return header, b""


def _tar(path: Path, members: Iterable[tuple[tarfile.TarInfo, bytes]], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:
        for header, content in members:
            archive.addfile(header, io.BytesIO(content))
    return path


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_every_compression_of_tar_is_read(
    tmp_path: Path,
    mode: str,
    cifar10_binary_members: Callable[..., Members],
    colour: np.ndarray,
    labels: list[int],
    names: tuple[str, ...],
) -> None:
    members = cifar10_binary_members(colour, labels, names)
    path = _tar(tmp_path / "a", [_file(f"top/{name}", content) for name, content in members.items()], mode)
    np.testing.assert_array_equal(_decode("cifar10", path).images, colour)


@pytest.mark.parametrize("place", ["zip", "tar"])
@pytest.mark.parametrize("zipped", [True, False])
def test_idx_files_in_an_archive_are_those_in_the_folder(
    tmp_path: Path, write_idx: Callable[..., Path], grey: np.ndarray, labels: list[int], place: str, zipped: bool
) -> None:
    folder = write_idx(tmp_path / "idx", grey, labels, zipped=zipped)
    members = [(f"top/{file.name}", file.read_bytes()) for file in folder.iterdir()]
    path = tmp_path / f"a.{place}"
    if place == "tar":
        _tar(path, [_file(name, content) for name, content in members])
    else:
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members:
                archive.writestr(name, content)
    decoded = _decode("idx", path)
    np.testing.assert_array_equal(decoded.images, grey)
    assert decoded.labels.tolist() == labels
    with pytest.raises(DatasetError, match="lacks t10k-images"):
        _decode("idx", path, split="test")


@pytest.mark.parametrize(
    ("member", "fault"),
    [
        (_file("../data_batch_1", b"x"), "not a plain relative name"),
        (_file("/data_batch_1", b"x"), "not a plain relative name"),
        (_special("data_batch_1", tarfile.SYMTYPE, "/etc/passwd"), "'data_batch_1': a link, sparse or special file"),
        (_special("data_batch_1", tarfile.LNKTYPE, "other"), "a link, sparse or special file"),
        (_special("pipe", tarfile.FIFOTYPE), "a link, sparse or special file"),
        (_file("x", bytes(20 << 20)), "unpacks to more than 1048576 bytes"),
        (_file("data_batch_1", bytes(20 << 20)), "unpacks to more than 1048576 bytes"),
    ],
)
def test_hostile_members_of_tar_are_refused(tmp_path: Path, member: tuple[tarfile.TarInfo, bytes], fault: str) -> None:
    path = _tar(tmp_path / "a.tar.gz", [member, _file("last", b"")])
    with pytest.raises(DatasetError, match=rf"a\.tar\.gz: .*{fault}"):
        _decode("cifar10", path)
    assert [file.name for file in tmp_path.iterdir()] == ["a.tar.gz"]


def test_a_long_name_of_tar_is_not_read_whatever_its_size(tmp_path: Path) -> None:
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 32 << 20
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        archive.addfile(header, io.BytesIO(bytes(32 << 20)))
        archive.addfile(*[part if number == 0 else io.BytesIO(b"") for number, part in enumerate(_file("a", b""))])
    with pytest.raises(DatasetError, match="a header of 33554432 bytes"):
        _decode("cifar10", tmp_path / "a.tar.gz", ArchiveLimits(free_bytes=1 << 30))


def test_a_sparse_member_of_tar_is_refused(tmp_path: Path) -> None:
    """Its holes would be terabytes of zeros, without a byte in the archive."""
    header = tarfile.TarInfo("data_batch_1")
    header.pax_headers = {"GNU.sparse.major": "0", "GNU.sparse.map": "0,1", "GNU.sparse.size": str(2**31)}
    header.size = 1
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(header, io.BytesIO(b"x"))
    with pytest.raises(DatasetError, match="sparse"):
        _decode("cifar10", tmp_path / "a.tar")


def test_too_many_members_of_tar_are_refused(tmp_path: Path) -> None:
    path = _tar(tmp_path / "a.tar.gz", [_file(str(number), b"") for number in range(101)])
    with pytest.raises(DatasetError, match="more than 100 entries"):
        _decode("cifar10", path)


def test_an_npz_is_held_to_the_same_limits(tmp_path: Path, grey: np.ndarray, labels: list[int]) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, images=np.zeros((10_000, 28, 28), np.uint8), labels=np.zeros(10_000, np.int64))
    with pytest.raises(DatasetError, match="unpacks to 79"):
        _decode("npz", path)
    np.savez_compressed(path, images=grey[:, 0], labels=labels, **{f"x{number}": [0] for number in range(100)})
    with pytest.raises(DatasetError, match="more than 100 entries"):
        _decode("npz", path)
    np.savez_compressed(path, images=grey[:, 0], labels=labels)
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(tmp_path / "b.npz", "w", zipfile.ZIP_BZIP2) as other:
        for entry in archive.namelist():
            other.writestr(entry, archive.read(entry))
    assert len(_decode("npz", path).images) == 10
    with pytest.raises(DatasetError, match="compressed by method 12"):
        _decode("npz", tmp_path / "b.npz")


@pytest.mark.parametrize("name", ["a\x00b", "a\nb", "\ud800"])
def test_class_names_that_are_no_text_are_refused(tmp_path: Path, grey: np.ndarray, name: str) -> None:
    """No database could store them, and no answer could contain them."""
    path = tmp_path / "a.npz"
    np.savez(path, images=grey, labels=np.zeros(10, np.int64))
    with pytest.raises(DatasetError, match="not text"):
        _decode("npz", path, class_names=(name,))
