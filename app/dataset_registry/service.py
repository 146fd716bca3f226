"""Decodes and stores a data set completely, or stores nothing."""

from tempfile import TemporaryFile
from typing import BinaryIO

from darkroom.app.dataset_registry.request_body import (
    Registration,
    allowed,
    allowed_roots,
)
from darkroom.app.http.problems import Problem
from darkroom.app.http.upload import storage_full_as_problem
from darkroom.app.settings import Settings
from darkroom.model.config import DatasetConfig
from darkroom.model.datasets import DatasetError
from darkroom.model.datasets.archive_limits import ArchiveLimits
from darkroom.model.datasets.contact_sheet import contact_sheet
from darkroom.model.datasets.dataset import ImageDataset
from darkroom.model.datasets.decoded import Decoded
from darkroom.model.datasets.encoded import encode
from darkroom.model.datasets.load import dataset_files, decode_dataset
from darkroom.model.datasets.materialise import content_digest
from darkroom.model.planning.data_facts import look_at
from darkroom.store.audit_repository import Actor, record
from darkroom.store.database import Database
from darkroom.store.dataset_repository import (
    DatasetFacts,
    Registered,
    get_dataset_by_id,
    register_dataset,
)
from darkroom.store.idempotency import DATASETS, remember, settle


def _decoded(wanted: Registration, settings: Settings) -> Decoded:
    try:
        if wanted.file is None:
            roots = allowed_roots(settings)
            for file in dataset_files(wanted.config):
                allowed(file, roots)  # the folder may contain links that lead out of it
        return decode_dataset(wanted.config, ArchiveLimits(entries=settings.dataset_entries))
    except DatasetError as error:
        text = str(error)
        if wanted.file is not None:
            text = text.replace(str(wanted.config.path), "the archive")
        raise Problem(422, "dataset-unreadable", text) from error


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
    )


def decode_and_register(
    database: Database, settings: Settings, wanted: Registration, actor: Actor, key: str | None
) -> Registered:
    """Decode the data set and store it in one transaction. Closes the uploaded file."""
    with storage_full_as_problem():
        if wanted.file is None:
            decoded = _decoded(wanted, settings)
            digest = content_digest(decoded.images, decoded.labels, decoded.class_names)
            return _store(database, wanted, actor, key, _facts(wanted, decoded, digest), wanted.config, decoded)
        with TemporaryFile() as encoded:
            with wanted.file:
                decoded = _decoded(wanted, settings)
            digest = encode(decoded, encoded)
            return _store(database, wanted, actor, key, _facts(wanted, decoded, digest), encoded, decoded)


def _store(
    database: Database,
    wanted: Registration,
    actor: Actor,
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
        registered = register_dataset(session, wanted.name, facts, source, sheet)
        if key is not None:
            settle(session, DATASETS, key, registered.dataset.id)
        if registered.created:
            data = {"format": facts.format, "digest": facts.digest, "images": registered.dataset.image_count}
            record(session, actor, "dataset.registered", f"datasets/{wanted.name}", data)
        return registered
