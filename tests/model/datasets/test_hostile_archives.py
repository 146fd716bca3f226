"""Hostile archives are refused in all forms: npz, and the members of tar and zip archives."""

import gzip
import io
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest

from darkroom.model.config import DatasetConfig
from darkroom.model.datasets import DatasetError
from darkroom.model.datasets import decoded as decoded_module
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


def test_what_a_gz_in_an_archive_unpacks_to_counts_for_the_archive(tmp_path: Path) -> None:
    side, count = 64, 512  # 2 MiB of pixels; the archive may unpack to 1 MiB
    images = gzip.compress(b"\0\0\x08\x03" + struct.pack(">3I", count, side, side) + bytes(count * side * side))
    labels = b"\0\0\x08\x01" + struct.pack(">I", count) + bytes(count)
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train-images-idx3-ubyte.gz", images)
        archive.writestr("train-labels-idx1-ubyte.gz", gzip.compress(labels))
    with pytest.raises(DatasetError, match="claims 2097152 bytes; at most"):
        _decode("idx", path)
    assert _decode("idx", path, ArchiveLimits(free_bytes=3 << 20)).images.shape == (count, 1, side, side)


@pytest.mark.parametrize("kind", ["zip", "tar", "folder"])
def test_the_members_together_have_a_bound(
    tmp_path: Path,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
    cifar10_binary_members: Callable[..., Members],
    colour: np.ndarray,
    labels: list[int],
    names: tuple[str, ...],
) -> None:
    members = cifar10_binary_members(colour, labels, names)
    total = sum(map(len, members.values()))
    assert max(map(len, members.values())) < total // 2
    path = tmp_path / "a"
    if kind == "folder":
        path.mkdir()
        for name, content in members.items():
            (path / name).write_bytes(content)
    elif kind == "tar":
        _tar(path, [_file(name, content) for name, content in members.items()])
    else:
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
    read = sum(len(content) for name, content in members.items() if name != "test_batch.bin")
    monkeypatch.setattr(decoded_module, "MAX_DECODED_BYTES", read)
    np.testing.assert_array_equal(_decode("cifar10", path).images, colour)
    monkeypatch.setattr(decoded_module, "MAX_DECODED_BYTES", read - 1)
    with pytest.raises(DatasetError, match=f"claims {read} bytes"):
        _decode("cifar10", path)


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _empty_names(count: int) -> bytes:
    """Return an array of `count` texts of no bytes: only the header costs anything."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|S0", "fortran_order": False, "shape": (count,)})
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("names", "fault"),
    [
        (_empty_names(4_000_000), "texts expected"),
        (_npy(np.array([f"{number}" for number in range(100_001)], "S6")), "texts expected, at most 100000 names"),
        (_npy(np.array(["a", "b" * 201])), "has 201 characters, more than 200"),
        (_npy(np.array([0x61, 0x110000], "<u4").view("<U1")), "class_names: not text"),
        (_npy(np.array([b"a", b"\xff"])), "class_names: not text"),
    ],
)
def test_the_class_names_of_an_npz_are_bounded(tmp_path: Path, names: bytes, fault: str) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", _npy(np.zeros((2, 4, 4), np.uint8)))
        archive.writestr("labels.npy", _npy(np.array([0, 1])))
        archive.writestr("class_names.npy", names)
    with pytest.raises(DatasetError, match=fault):
        _decode("npz", path, ArchiveLimits())


def _cut_idx(folder: Path) -> str:
    (folder / "train-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03" + struct.pack(">3I", 3, 4, 4))
    (folder / "train-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01" + struct.pack(">I", 2) + bytes(2))
    return "idx"


def _cut_npz(folder: Path) -> str:
    with zipfile.ZipFile(folder / "train.npz", "w") as archive:
        archive.writestr("images.npy", _npy(np.zeros((2, 64, 64), np.uint8)))
        archive.writestr("labels.npy", _npy(np.array([0, 7])))
    content = (folder / "train.npz").read_bytes()
    pixel = content.index(bytes(8192)) + 8000
    (folder / "train.npz").write_bytes(content[:pixel] + b"\1" + content[pixel + 1 :])  # its CRC is wrong then
    return "npz"


def _cut_pictures(folder: Path) -> str:
    for name in ("a", "b" * 201):
        (folder / name).mkdir()
        (folder / name / "1.png").write_bytes(b"no picture")
    return "folder"


@pytest.mark.parametrize(
    ("write", "fault"),
    [
        (_cut_idx, "2 labels for the 3 images"),
        (_cut_npz, "no image has label 1"),
        (_cut_pictures, "has 201 characters"),
    ],
)
def test_labels_and_names_are_checked_before_pixels_are_read(
    tmp_path: Path, write: Callable[[Path], str], fault: str
) -> None:
    """Each data set has two faults, and the one that costs less to find is named."""
    with pytest.raises(DatasetError, match=fault):
        _decode(write(tmp_path), tmp_path)


def test_pickles_are_never_read(tmp_path: Path) -> None:
    """The python version of CIFAR-10 holds pickles, and one can grow to terabytes while it is read."""
    bomb = b"(lp0\n" + b"(g0\ng0\nlp0\n" * 40 + b"."
    path = _tar(tmp_path / "a.tar.gz", [_file(f"data_batch_{number}", bomb) for number in range(1, 6)])
    with pytest.raises(DatasetError, match="use the binary version"):
        _decode("cifar10", path)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": (1,)})
        archive.writestr("images.npy", header.getvalue() + bomb)
    with pytest.raises(DatasetError, match="Python objects is refused"):
        _decode("npz", tmp_path / "a.npz")


@pytest.mark.parametrize("header", ["{'descr': (\n", "[" * 3000, "{'descr': '|u1', 'shape': (1e999,)}", "\0", "()"])
def test_a_header_of_an_npz_that_is_no_dictionary_is_refused(tmp_path: Path, header: str) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header.encode())
    with pytest.raises(DatasetError, match="images: not a readable npy header"):
        _decode("npz", path)
