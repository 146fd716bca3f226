"""Where statistics of data sets are kept between evaluations."""

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Protocol

from darkroom.model.digest import digest_of


class ReferenceCache(Protocol):
    """Bytes by key. A lost entry costs time and nothing else: it is computed again."""

    def get(self, key: str) -> bytes | None:
        """The bytes that were put last, or None."""
        ...

    def put(self, key: str, data: bytes) -> None:
        """Keep the bytes."""
        ...


class FolderReferences:
    """Files below a folder, named by the key's and by the content's SHA-256; several processes may share it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _stem(self, key: str) -> str:
        return hashlib.sha256(key.encode()).hexdigest()[:32]

    def get(self, key: str) -> bytes | None:
        """The bytes kept under the key, or None; a file that does not hold what its name says counts as missing."""
        for path in sorted(self.folder.glob(f"{self._stem(key)}-*.safetensors")):
            try:
                data = path.read_bytes()
            except FileNotFoundError:  # another process replaced it just now
                continue
            if path.name == self._name(key, data):
                return data
        return None

    def put(self, key: str, data: bytes) -> None:
        """Write a file that appears whole or not at all, then drop what the key held before."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / self._name(key, data)
        descriptor, part = tempfile.mkstemp(dir=self.folder, suffix=".part")  # a name of its own: others write too
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
