"""A cache of statistics returns the stored bytes or nothing."""

import threading
from pathlib import Path

import pytest

from darkroom.model.metrics.references import FolderReferences


def test_what_was_put_last_comes_back(tmp_path: Path) -> None:
    references = FolderReferences(tmp_path / "deep" / "below")
    assert references.get("a") is None
    references.put("a", b"one")
    references.put("b", b"other")
    references.put("a", b"two")
    assert references.get("a") == b"two"
    assert references.get("b") == b"other"
    assert FolderReferences(tmp_path / "deep" / "below").get("a") == b"two"


def test_keys_cannot_leave_the_folder(tmp_path: Path) -> None:
    references = FolderReferences(tmp_path / "kept")
    for key in ("../outside", "/etc/passwd", "*", "", "a" * 5000):
        references.put(key, key.encode())
        assert references.get(key) == key.encode()
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


@pytest.mark.parametrize("damage", [b"", b"tw", b"twp", b"two "])
def test_a_damaged_file_counts_as_missing_and_can_be_put_again(tmp_path: Path, damage: bytes) -> None:
    references = FolderReferences(tmp_path)
    references.put("a", b"two")
    (path,) = tmp_path.iterdir()
    path.write_bytes(damage)
    assert references.get("a") is None
    references.put("a", b"two")
    assert references.get("a") == b"two"


def test_a_writer_that_dies_leaves_the_old_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    references = FolderReferences(tmp_path)
    references.put("a", b"old")

    def die(descriptor: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("os.fsync", die)
    with pytest.raises(OSError, match="no space left"):
        references.put("a", b"new")
    assert references.get("a") == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_writers_side_by_side_leave_the_bytes_of_one_of_them(tmp_path: Path) -> None:
    folder, contents = FolderReferences(tmp_path), [bytes([number]) * 100_000 for number in range(4)]
    found: list[bytes | None] = []

    def work(data: bytes) -> None:
        for _ in range(20):
            folder.put("a", data)
            found.append(folder.get("a"))

    threads = [threading.Thread(target=work, args=(data,)) for data in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 80
    assert all(data is None or data in contents for data in found)
    folder.put("a", contents[0])
    assert folder.get("a") == contents[0]
    assert len(list(tmp_path.iterdir())) == 1
