"""Remembers which digest a source decoded to, so that an unchanged source is not decoded again.

It only saves time: an entry that is missing, unreadable or without its data costs one decoding.
"""

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from darkroom.model.config import DatasetConfig
from darkroom.model.datasets.dataset import DatasetError

DECODING_VERSION = 2
"""Raise this number when a decoder changes its result for the same file."""


def fingerprint(config: DatasetConfig, files: Sequence[Path]) -> str:
    """Return the hexadecimal SHA-256 of the configuration and of each file's path, size and modification time.

    A file rewritten with equal size and modification time goes unnoticed. Raises DatasetError when a file is missing.
    """
    digest = hashlib.sha256(f"{DECODING_VERSION} {config.model_dump_json(exclude={'path'})}\n".encode())
    for file in files:
        try:
            status = file.stat()
        except OSError as error:
            raise DatasetError(f"{file}: {error.strerror}") from error
        digest.update(os.fsencode(file.resolve()) + f"\0{status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _note(cache: Path, source: str) -> Path:
    return cache / "sources" / f"{source}.json"


def recall(cache: Path, source: str) -> str | None:
    """Return the digest noted for that fingerprint, None when there is none."""
    try:
        noted = json.loads(_note(cache, source).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    digest = noted.get("digest") if isinstance(noted, dict) else None
    return digest if isinstance(digest, str) and re.fullmatch(r"sha256:[0-9a-f]{64}", digest) else None


def remember(cache: Path, source: str, digest: str) -> None:
    """Note the digest for that fingerprint, atomically; raises DatasetError when the cache cannot be written."""
    note = _note(cache, source)
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=note.parent, prefix=".writing-", delete=False) as file:
            json.dump({"digest": digest}, file)
        os.replace(file.name, note)
    except OSError as error:
        raise DatasetError(f"{note}: {error.strerror}") from error
