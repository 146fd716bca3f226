"""Decodes and stores a data set completely, or stores nothing."""

import os
import re
from dataclasses import asdict
from tempfile import TemporaryFile
from typing import Any, BinaryIO

from darkroom.app.access.caller import Caller
from darkroom.app.dataset_registry.request_body import (
    Registration,
    allowed,
    allowed_roots,
)
from darkroom.app.dependencies.callers import require_stored_bytes
from darkroom.app.http.problems import Problem
from darkroom.app.http.upload import storage_full_as_problem
from darkroom.app.settings import Settings
from darkroom.model.config import DatasetConfig
from darkroom.model.datasets import DatasetError
from darkroom.model.datasets.archive_limits import ArchiveLimits
from darkroom.model.datasets.class_folders import DamagedPictures
from darkroom.model.datasets.contact_sheet import contact_sheet
from darkroom.model.datasets.dataset import ImageDataset
from darkroom.model.datasets.decoded import Decoded, Reading, SizesDiffer
from darkroom.model.datasets.encoded import encode
from darkroom.model.datasets.load import dataset_files, decode_dataset
from darkroom.model.datasets.materialise import content_digest
from darkroom.model.datasets.resize import proposed_side
from darkroom.model.planning.data_facts import look_at
from darkroom.store.audit_repository import record
from darkroom.store.database import Database
from darkroom.store.dataset_repository import (
    DatasetFacts,
    Registered,
    get_dataset_by_id,
    register_dataset,
)
from darkroom.store.idempotency import DATASETS, remember, settle

MOST_DAMAGED = 100
"""How many damaged pictures an answer lists."""
MESSAGE = 300
"""Most characters of a message, because names from the archive may be long."""
_OBJECT = re.compile("<[^<>]{1,100} object at 0x[0-9a-f]+>")


def _decoded(wanted: Registration, settings: Settings) -> tuple[DatasetConfig, Decoded]:
    """Return how the data set was read, and its images; chooses the side of pictures of several sizes."""
    limits = ArchiveLimits(entries=settings.dataset_entries)
    try:
        if wanted.file is None:
            roots = allowed_roots(settings)
            for file in dataset_files(wanted.config):
                allowed(file, roots)  # the folder may contain links that lead out of it
        try:
            return wanted.config, decode_dataset(wanted.config, limits)
        except SizesDiffer as error:
            config = wanted.config.model_copy(update={"image_size": proposed_side(error.shorter_side)})
            return config, decode_dataset(config, limits)
    except DamagedPictures as error:
        listed = [_without_path(fault, wanted) for fault in error.faults[:MOST_DAMAGED]]
        text = _without_path(str(error), wanted)
        raise Problem(422, "dataset-unreadable", text, damaged=len(error.faults), damaged_pictures=listed) from error
    except DatasetError as error:
        raise Problem(422, "dataset-unreadable", _without_path(str(error), wanted)) from error


def _without_path(text: str, wanted: Registration) -> str:
    """Return the text of an error, cut to MESSAGE characters, without this process's temporary file and objects."""
    if wanted.file is not None:
        text = text.replace(str(wanted.config.path), wanted.called)
    text = _OBJECT.sub("the file", text)
    if len(text) <= MESSAGE:
        return text
    end = MESSAGE // 3  # says what to do now
    return f"{text[: MESSAGE - end - 5]} ... {text[-end:]}"


def _reading(wanted: Registration, reading: Reading) -> dict[str, Any]:
    return {
        "junk": len(reading.junk),
        "damaged": len(reading.damaged),
        "damaged_pictures": [_without_path(fault, wanted) for fault in reading.damaged[:MOST_DAMAGED]],
        "splits": [asdict(split) for split in reading.splits],
    }


def _facts(wanted: Registration, decoded: Decoded, digest: str) -> DatasetFacts:
    found = look_at(ImageDataset(decoded.images, decoded.labels, decoded.class_names, digest))
    return DatasetFacts(
        format=wanted.config.format,
        digest=digest,
        class_names=decoded.class_names,
        class_counts=found.class_counts,
        image_channels=found.channels,
        image_size=found.side,
        distinct_count=found.distinct,
        mirrors=found.mirrors,
        reading=_reading(wanted, decoded.reading),
    )


def decode_and_register(
    database: Database, settings: Settings, wanted: Registration, caller: Caller, key: str | None
) -> Registered:
    """Decode the data set and store it in one transaction. Closes the uploaded file."""
    with storage_full_as_problem():
        if wanted.file is None:
            config, decoded = _decoded(wanted, settings)
            digest = content_digest(decoded.images, decoded.labels, decoded.class_names)
            return _store(database, settings, wanted, caller, key, _facts(wanted, decoded, digest), config, decoded)
        with TemporaryFile() as encoded:
            with wanted.file:
                _, decoded = _decoded(wanted, settings)
            digest = encode(decoded, encoded)
            return _store(database, settings, wanted, caller, key, _facts(wanted, decoded, digest), encoded, decoded)


def _store(
    database: Database,
    settings: Settings,
    wanted: Registration,
    caller: Caller,
    key: str | None,
    facts: DatasetFacts,
    source: BinaryIO | DatasetConfig,
    decoded: Decoded,
) -> Registered:
    sheet = contact_sheet(decoded)
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
            facts,
            source,
            sheet,
            replace=wanted.replace,
            api_key_id=caller.key_id,
            owner=caller.owner,
        )
        if key is not None:
            settle(session, DATASETS, key, registered.dataset.id)
        if registered.created:
            data = {"format": facts.format, "digest": facts.digest, "images": registered.dataset.image_count}
            version = registered.dataset.version
            data |= {"version": version} if version > 1 else {}
            record(session, caller.actor, "dataset.registered", f"datasets/{wanted.name}", data)
        return registered
