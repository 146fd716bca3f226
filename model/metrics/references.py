"""Caches for statistics of data sets, which evaluations share."""

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Protocol

from darkroom.model.digest import digest_of


class ReferenceCache(Protocol):
    """Stores bytes by key. A lost entry costs only the time to compute it again."""

    def get(self, key: str) -> bytes | None:
        """Return the bytes that were put last, or None."""
        ...

    def put(self, key: str, data: bytes) -> None:
        """Store the bytes."""
        ...


class FolderReferences:
    """Stores files in a folder, named by the SHA-256 of key and content; several processes may share it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _stem(self, key: str) -> str:
        return hashlib.sha256(key.encode()).hexdigest()[:32]

    def get(self, key: str) -> bytes | None:
        """Return the bytes stored under the key, or None; a file whose content does not match its name is ignored."""
        for path in sorted(self.folder.glob(f"{self._stem(key)}-*.safetensors")):
            try:
                data = path.read_bytes()
            except FileNotFoundError:  # another process has just replaced it
                continue
            if path.name == self._name(key, data):
                return data
        return None

    def put(self, key: str, data: bytes) -> None:
        """Write a file atomically, then remove the key's older files."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / self._name(key, data)
        descriptor, part = tempfile.mkstemp(dir=self.folder, suffix=".part")  # a unique name: others write too
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(part).replace(path)
        finally:
            Path(part).unlink(missing_ok=True)
        for other in self.folder.glob(f"{self._stem(key)}-*.safetensors"):
            if other != path:
                other.unlink(missing_ok=True)

    def _name(self, key: str, data: bytes) -> str:
        return f"{self._stem(key)}-{digest_of(data).removeprefix('sha256:')}.safetensors"
