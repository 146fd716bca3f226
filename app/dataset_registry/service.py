"""Decodes and stores a data set completely, or stores nothing."""

import io
import os
from dataclasses import asdict
from tempfile import TemporaryFile
from typing import Any, BinaryIO

from darkroom.app.access.caller import Caller
from darkroom.app.dataset_registry.decoding import decode, unreadable
from darkroom.app.dataset_registry.decoding_child import Found
from darkroom.app.dataset_registry.progress_board import ProgressBoard
from darkroom.app.dataset_registry.request_body import (
    Registration,
    allowed,
    allowed_roots,
)
from darkroom.app.dependencies.callers import require_stored_bytes
from darkroom.app.http.upload import storage_full_as_problem
from darkroom.app.settings import Settings
from darkroom.model.config import DatasetConfig
from darkroom.model.datasets import DatasetError
from darkroom.model.datasets.load import dataset_files
from darkroom.store.audit_repository import record
from darkroom.store.database import Database
from darkroom.store.dataset_repository import (
    DatasetFacts,
    Registered,
    get_dataset_by_id,
    register_dataset,
)
from darkroom.store.idempotency import DATASETS, remember, settle


class _Watched(io.FileIO):
    """A file of which the board shows how much is read, in megabytes. It shares the descriptor."""

    def __init__(self, file: BinaryIO, board: ProgressBoard) -> None:
        super().__init__(file.fileno(), closefd=False)
        self._size, self._board = os.fstat(file.fileno()).st_size, board

    def read(self, size: int | None = -1, /) -> bytes:
        content = super().read(-1 if size is None else size)
        self._board.write("storing megabytes", self.tell() // 10**6, self._size // 10**6)
        return content


def _reading(found: Found) -> dict[str, Any]:
    return {
        "junk": found.junk,
        "damaged": found.damaged,
        "damaged_pictures": found.damaged_pictures,
        "splits": [asdict(split) for split in found.splits],
    }


def _facts(found: Found) -> DatasetFacts:
    return DatasetFacts(
        format=found.config.format,
        digest=found.digest,
        class_names=found.class_names,
        class_counts=found.class_counts,
        image_channels=found.image_channels,
        image_size=found.image_size,
        distinct_count=found.distinct_count,
        mirrors=found.mirrors,
        flat_grounds=found.flat_grounds,
        reading=_reading(found),
    )


def _require_below_roots(config: DatasetConfig, settings: Settings) -> None:
    """Raise Problem for a folder with links that lead out of the folders that the operator allows."""
    roots = allowed_roots(settings)
    try:
        for file in dataset_files(config):
            allowed(file, roots)
    except DatasetError as error:
        raise unreadable(str(error)) from error


def decode_and_register(
    database: Database, settings: Settings, wanted: Registration, caller: Caller, key: str | None, board: ProgressBoard
) -> Registered:
    """Decode the data set and store it in one transaction. Closes the uploaded file. board: shows how far it is."""
    with storage_full_as_problem():
        if wanted.file is None:
            _require_below_roots(wanted.config, settings)
            found = decode(wanted, settings, board=board)
            return _store(database, settings, wanted, caller, key, found, found.config)
        with TemporaryFile() as encoded:
            with wanted.file:
                found = decode(wanted, settings, encoded, board)
            with _Watched(encoded, board) as source:
                return _store(database, settings, wanted, caller, key, found, source)


def _store(
    database: Database,
    settings: Settings,
    wanted: Registration,
    caller: Caller,
    key: str | None,
    found: Found,
    source: BinaryIO | DatasetConfig,
) -> Registered:
    with database.session() as session:
        if key is not None:
            known = remember(session, DATASETS, key, wanted.digest)
            if known is not None:
                return Registered(get_dataset_by_id(session, known), created=False)
        if not isinstance(source, DatasetConfig):
            require_stored_bytes(session, settings, caller, source.seek(0, os.SEEK_END))
            source.seek(0)
        registered = register_dataset(
            session,
            wanted.name,
            _facts(found),
            source,
            found.sheet,
            replace=wanted.replace,
            api_key_id=caller.key_id,
            owner=caller.owner,
        )
        if key is not None:
            settle(session, DATASETS, key, registered.dataset.id)
        if registered.created:
            data = {"format": found.config.format, "digest": found.digest, "images": registered.dataset.image_count}
            version = registered.dataset.version
            data |= {"version": version} if version > 1 else {}
            record(session, caller.actor, "dataset.registered", f"datasets/{wanted.name}", data)
        return registered
