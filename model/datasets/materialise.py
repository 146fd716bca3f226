"""Decoded arrays on disk, one folder for each content: `cache/<hex digest>/`, mapped read-only.

Writers use a temporary folder and rename it, so that an incomplete entry never has the final name. Each opening hashes
the entry again and rejects one whose content does not match its name.
"""

import fcntl
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from darkroom.model.datasets.dataset import DatasetError, ImageDataset
from darkroom.model.datasets.decoded import Decoded
from darkroom.model.machine.disk import reach_disk

_IMAGES = "images.npy"
_LABELS = "labels.npy"
_CLASS_NAMES = "class_names.json"
_PREFIX = "sha256:"
_UNFINISHED = ".writing-"


def content_digest(images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64], class_names: tuple[str, ...]) -> str:
    """Return "sha256:..." over shape, class names, labels (little-endian int64) and pixels (C order)."""
    head = json.dumps({"shape": images.shape, "class_names": class_names}, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(head.encode() + b"\n")
    digest.update(np.ascontiguousarray(labels, dtype="<i8").data)
    digest.update(np.ascontiguousarray(images).reshape(-1).data)
    return _PREFIX + digest.hexdigest()


def _entry(cache: Path, digest: str) -> Path:
    return cache / digest.removeprefix(_PREFIX)


def open_materialised(cache: Path, digest: str) -> ImageDataset | None:
    """Map the entry of that digest read-only; None when there is none or its content has another digest."""
    entry = _entry(cache, digest)
    try:
        images = np.lib.format.open_memmap(entry / _IMAGES, mode="r")
        labels = np.lib.format.open_memmap(entry / _LABELS, mode="r")
        names = json.loads((entry / _CLASS_NAMES).read_text(encoding="utf-8"))
    except (OSError, ValueError, EOFError):
        return None
    if images.dtype != np.uint8 or labels.dtype != np.int64 or images.ndim != 4:
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return None
    if content_digest(images, labels, tuple(names)) != digest:
        return None
    return ImageDataset(images, labels, tuple(names), digest)


def _write(decoded: Decoded, folder: Path) -> None:
    np.save(folder / _IMAGES, decoded.images)
    np.save(folder / _LABELS, decoded.labels)
    (folder / _CLASS_NAMES).write_text(json.dumps(decoded.class_names), encoding="utf-8")
    for name in (_IMAGES, _LABELS, _CLASS_NAMES):
        reach_disk(folder / name)


@contextmanager
def _locked(cache: Path) -> Iterator[None]:
    """Let one process or thread write at a time; the kernel releases the lock when a writer dies."""
    with (cache / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _install(decoded: Decoded, cache: Path, digest: str) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(cache):
        if open_materialised(cache, digest) is not None:  # another writer was faster
            return
        for abandoned in cache.glob(f"{_UNFINISHED}*"):  # left by a writer that died, as we hold the lock
            shutil.rmtree(abandoned, ignore_errors=True)
        workspace = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=cache))
        try:
            fresh = workspace / "fresh"
            fresh.mkdir()
            _write(decoded, fresh)
            entry = _entry(cache, digest)
            if entry.exists():  # damaged; renamed and not overwritten, because other processes may have mapped it
                entry.rename(workspace / "damaged")
            fresh.rename(entry)
            reach_disk(cache)
        finally:
            shutil.rmtree(workspace, ignore_errors=True)


def materialise(decoded: Decoded, cache: Path) -> ImageDataset:
    """Write the arrays to `cache` unless it has an intact entry of equal content, and map them read-only.

    Several processes may share a cache. Raises DatasetError when the cache cannot be written or read back.
    """
    digest = content_digest(decoded.images, decoded.labels, decoded.class_names)
    dataset = open_materialised(cache, digest)
    if dataset is None:
        try:
            _install(decoded, cache, digest)
        except OSError as error:
            raise DatasetError(f"{cache}: cannot write the decoded images: {error}") from error
        dataset = open_materialised(cache, digest)
    if dataset is None:
        raise DatasetError(f"{_entry(cache, digest)}: does not read back as it was written; check the disk")
    return dataset
