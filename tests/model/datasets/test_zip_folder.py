"""Laws of a zip of class folders: it is the same data set as the folder, and unpacks within limits set by its size."""

import io
import struct
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from darkroom.model.config import DatasetConfig
from darkroom.model.datasets import DatasetError, load_dataset
from darkroom.model.datasets.archive_limits import ArchiveLimits
from darkroom.model.datasets.decoded import Decoded
from darkroom.model.datasets.load import decode_dataset
from darkroom.model.datasets.materialise import content_digest

Entry = tuple[str | zipfile.ZipInfo, bytes]


def _picture(value: int = 7, side: int = 4, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (side, side), value).save(buffer, kind)
    return buffer.getvalue()


def _zip(path: Path, entries: Iterable[Entry], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return path


def _decode(path: Path, limits: ArchiveLimits | None = None, **fields: object) -> Decoded:
    return decode_dataset(DatasetConfig.model_validate({"format": "zip", "path": path, **fields}), limits)


def _link(name: str, target: str) -> Entry:
    entry = zipfile.ZipInfo(name)
    entry.create_system = 3
    entry.external_attr = 0o120777 << 16
    return entry, target.encode()


@pytest.mark.parametrize("wrapper", ["", "clothes/", "a/b/"])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_is_the_same_data_set_as_its_folder(
    tmp_path: Path,
    cache: Path,
    write_folder: Callable[..., Path],
    colour: np.ndarray,
    labels: list[int],
    names: tuple[str, ...],
    wrapper: str,
    method: int,
) -> None:
    folder = write_folder(tmp_path / "set", colour, labels, names)
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    path = _zip(
        tmp_path / "set.zip",
        [
            ("__MACOSX/._x", b"junk"),
            (f"{wrapper}.DS_Store", b"junk"),
            (f"{wrapper}{names[0]}/", b""),
            *((f"{wrapper}{file.relative_to(folder)}", file.read_bytes()) for file in reversed(files)),
        ],
        method,
    )
    by_folder = load_dataset(DatasetConfig(format="folder", path=folder), cache)
    assert load_dataset(DatasetConfig(format="zip", path=path), cache).digest == by_folder.digest


def test_split_folders_are_followed(tmp_path: Path) -> None:
    entries: list[Entry] = [("set/train/a/1.png", _picture(1)), ("set/test/a/1.png", _picture(2))]
    path = _zip(tmp_path / "a.zip", entries)
    assert _decode(path).images.max() == 1
    assert _decode(path, split="test").images.max() == 2
    with pytest.raises(DatasetError, match="no folder 'test'"):
        _decode(_zip(tmp_path / "b.zip", entries[:1]), split="test")


def test_every_script_and_mixed_sizes_are_taken(tmp_path: Path) -> None:
    path = _zip(tmp_path / "a.zip", [("Größe/1.png", _picture(side=9)), ("鞋/1.jpg", _picture(9, 30, "JPEG"))])
    decoded = _decode(path, image_size=8)
    assert decoded.class_names == ("Größe", "鞋")
    assert decoded.images.shape == (2, 1, 8, 8)


@pytest.mark.parametrize(
    ("entries", "fault"),
    [
        ([("../a/1.png", _picture())], r"'\.\./a/1\.png': not a plain relative name"),
        ([("a/../../1.png", _picture())], "not a plain relative name"),
        ([("/a/1.png", _picture())], "'/a/1.png': not a plain relative name"),
        ([("C:/a/1.png", _picture())], "not a plain relative name"),
        ([("a\\1.png", _picture())], "not a plain relative name"),
        ([("a/" * 17 + "1.png", _picture())], "more than 16 folders deep"),
        ([("a/1.png", _picture()), _link("a/2.png", "/etc/passwd")], r"'a/2\.png': a link or special file"),
        ([_link("a", "/etc")], "'a': a link or special file"),
        ([("a/1.png", _picture()), ("a/1.png", _picture())], "occurs twice"),
        ([("a/1.png", _picture()), ("a/1.png/2.png", _picture())], "both a file and a folder"),
        ([("a/1.png/2.png", _picture()), ("a/1.png", _picture())], "both a file and a folder"),
        ([("a/1.png", _picture()), ("b/", b"")], "b: a class without images"),
        ([("a/1.png", _picture()), ("b/.keep", b"")], "b: a class without images"),
        ([("a/b/1.png", _picture()), ("c/1.png", _picture())], "a/b: not an image file; class folders are not nested"),
        ([("1.png", _picture()), ("a/1.png", _picture())], r"1\.png: an image outside the class folders"),
        ([("readme.txt", b"hello")], "holds no class folders"),
        ([], "holds no class folders"),
        ([("a/1.png", b"no picture")], r"a\.zip: a/1\.png: not a readable image: its bytes have no known picture"),
        ([("a/1.png", b"")], "a/1.png: not a readable image"),
        ([("a/notes.txt", b"hello")], "a: a class without images"),
        ([("a/1.png", _picture()), ("a/./1.png", _picture())], "occurs twice"),
        ([("a/1.png", _picture()[:-20])], "a/1.png: not a readable image"),
        ([("a/1.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n")], "a/1.eps: not a readable image"),
        ([("a/1.png", _picture()), ("a/2.png", _picture(side=9))], "a/2.png: is 9x9; set image_size"),
        ([("images.npy", b"x")], "use format npz"),
        ([("a\x07/1.png", _picture())], "control characters"),
    ],
)
def test_what_is_refused_is_named(tmp_path: Path, entries: list[Entry], fault: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about a name that occurs twice
        path = _zip(tmp_path / "a.zip", entries)
    with pytest.raises(DatasetError, match=fault):
        _decode(path)
    assert [file.name for file in tmp_path.iterdir()] == ["a.zip"]


def _patched(path: Path, old: bytes, new: bytes) -> Path:
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))
    return path


def test_a_name_with_a_zero_byte_is_refused(tmp_path: Path) -> None:
    path = _patched(_zip(tmp_path / "a.zip", [("a/1.png#.txt", _picture())]), b"#", b"\0")
    with pytest.raises(DatasetError, match="not a plain relative name"):
        _decode(path)


@pytest.mark.parametrize("spoil", ["cut", "flipped", "not-zip", "empty", "half"])
def test_damaged_archives_are_refused(tmp_path: Path, spoil: str) -> None:
    noise = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8)).save(noise, "PNG")
    path = _zip(tmp_path / "a.zip", [("a/1.png", noise.getvalue())], zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    if spoil == "flipped":
        content[200] ^= 0xFF  # in the picture's data
    parts = {"cut": content[:-10], "flipped": content, "not-zip": b"PNG" * 100, "empty": b"", "half": content[:400]}
    path.write_bytes(parts[spoil])
    with pytest.raises(DatasetError, match=r"a\.zip: (a/1\.png: damaged|not a readable zip archive)"):
        _decode(path)


def test_an_encrypted_entry_is_refused(tmp_path: Path) -> None:
    path = _zip(tmp_path / "a.zip", [("a/1.png", _picture())], zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    content[6] |= 1  # the flag of the entry, and of the directory's entry
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=r"'a/1\.png': encrypted"):
        _decode(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_unpack_without_a_bound_are_refused(tmp_path: Path, method: int) -> None:
    with pytest.raises(DatasetError, match="compressed by method"):
        _decode(_zip(tmp_path / "a.zip", [("a/1.png", _picture())], method))


def _peak_bytes(path: Path, fault: str, limits: ArchiveLimits) -> int:
    """Return the peak memory of a refusal, in bytes."""
    tracemalloc.start()
    try:
        with pytest.raises(DatasetError, match=fault):
            _decode(path, limits)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


LIMITS = ArchiveLimits(entries=1000, ratio=10, free_bytes=1 << 20)


def test_an_archive_that_unpacks_to_too_much_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = _zip(tmp_path / "a.zip", [("a/1.png", bytes(20 << 20))])
    assert path.stat().st_size < 30_000
    assert _peak_bytes(path, "unpacks to 20971520 bytes; at most 1048576", LIMITS) < 1 << 20
    allowed = _zip(tmp_path / "b.zip", [("a/1.png", _picture())])
    assert len(_decode(allowed, LIMITS).images) == 1


def test_a_directory_that_lies_about_sizes_unpacks_no_more_than_it_says(tmp_path: Path) -> None:
    path = _zip(tmp_path / "a.zip", [("a/1.png", bytes(20 << 20))])
    _patched(path, struct.pack("<I", 20 << 20), struct.pack("<I", 100))
    assert _peak_bytes(path, "a/1.png: damaged or truncated", LIMITS) < 4 << 20


def test_entries_that_share_their_bytes_count_each(tmp_path: Path) -> None:
    """The archive is an overlapping zip bomb: a thousand directory entries for one compressed file."""
    path = _zip(tmp_path / "a.zip", [("a/000.png", bytes(500_000))])
    content = path.read_bytes()
    start = content.index(b"PK\x01\x02")
    end = content.index(b"PK\x05\x06")
    entry = content[start:end]
    directory = b"".join(entry.replace(b"a/000.png", b"a/%03d.png" % number) for number in range(900))
    tail = bytearray(content[end:])
    struct.pack_into("<HHII", tail, 8, 900, 900, len(directory), start)
    path.write_bytes(content[:start] + directory + tail)
    assert _peak_bytes(path, "unpacks to 450000000 bytes", LIMITS) < 4 << 20


def test_too_many_entries_are_refused_before_they_are_listed(tmp_path: Path) -> None:
    path = _zip(tmp_path / "a.zip", ((f"a/{number}.png", b"") for number in range(20_000)), zipfile.ZIP_STORED)
    directory_bytes = path.stat().st_size // 2
    assert _peak_bytes(path, "more than 1000 entries|at most 1000 entries", LIMITS) < 2 * directory_bytes
    short = _zip(tmp_path / "b.zip", [("a/", b""), *((f"a/{n}.png", _picture()) for n in range(1000))])
    with pytest.raises(DatasetError, match="more than 1000 entries"):
        _decode(short, LIMITS)
    just = _zip(tmp_path / "c.zip", [(f"a/{n}.png", _picture()) for n in range(1000)])
    assert len(_decode(just, LIMITS).images) == 1000


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_pictures_of_too_many_pixels_are_refused(tmp_path: Path) -> None:
    path = _zip(tmp_path / "a.zip", [(f"a/{number}.png", _picture(side=100)) for number in range(11)])
    with pytest.raises(DatasetError, match="have 110000 pixels; at most 100000"):
        _decode(path, ArchiveLimits(pixels=100_000))
    assert len(_decode(path, ArchiveLimits(pixels=110_000)).images) == 11
    huge = _zip(tmp_path / "b.zip", [("a/1.png", _picture(side=10_001))])
    with pytest.raises(DatasetError, match="10001x10001 pixels"):
        _decode(huge, image_size=8)


def test_the_digest_does_not_depend_on_the_archive(tmp_path: Path) -> None:
    entries: list[Entry] = [("a/1.png", _picture(1)), ("a/2.png", _picture(2)), ("b/1.png", _picture(3))]
    digests = set()
    for number, order in enumerate((entries, entries[::-1])):
        decoded = _decode(_zip(tmp_path / f"{number}.zip", order))
        digests.add(content_digest(decoded.images, decoded.labels, decoded.class_names))
    assert len(digests) == 1


def test_names_in_utf8_without_the_flag_are_read_as_utf8(tmp_path: Path) -> None:
    path = _zip(tmp_path / "a.zip", [("Gr##e/1.png", _picture()), ("b/1.png", _picture())])
    _patched(path, b"##", "ö".encode())
    assert _decode(path).class_names == ("Gröe", "b")


def test_names_in_the_old_code_page_are_kept(tmp_path: Path) -> None:
    path = _patched(_zip(tmp_path / "a.zip", [("Gr#e/1.png", _picture())]), b"#", "ö".encode("cp437"))
    assert _decode(path).class_names == ("Gröe",)


def test_junk_in_an_archive_is_left_out_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    junk = ["Thumbs.db", "set/desktop.ini", "set/a/.DS_Store", "set/a/Icon\r", "__MACOSX/._a", "set/a/notes.txt"]
    path = _zip(tmp_path / "a.zip", [("set/a/1.png", _picture()), *((name, b"junk") for name in junk)])
    assert len(_decode(path).images) == 1
    assert "left out 6 files" in caplog.text


def test_a_flat_bitmap_above_the_ratio_passes(tmp_path: Path) -> None:
    path = _zip(tmp_path / "a.zip", [("a/1.bmp", _picture(7, 9000, "BMP"))])
    assert ArchiveLimits().ratio * path.stat().st_size < 81_000_000
    assert _decode(path, image_size=4).images.tolist() == [[[[7] * 4] * 4]]
