"""A job's data set, in this worker's cache."""

import tempfile
from pathlib import Path

from model.config import DatasetConfig
from model.datasets import DatasetError, ImageDataset, load_dataset
from model.datasets.encoded import decode_file
from model.datasets.materialise import materialise, open_materialised
from model.distributed import first_then_others
from store.artifacts import ArtifactCorrupted, ArtifactMissing, Artifacts
from store.database import Database
from store.tables import Dataset, Job


def registered_dataset(database: Database, job: Job, cache: Path) -> ImageDataset:
    """The data set that a job names, from the cache, else from the store or its path; its content is what it was.

    Raises DatasetError when it has vanished, is damaged, or has changed since it was registered.
    """
    with database.session() as session:
        row = session.get(Dataset, job.dataset_id) if job.dataset_id is not None else None
    if row is None:
        raise DatasetError("the job's data set is no longer registered")
    return first_then_others(lambda: _dataset(database, row, cache))


def _dataset(database: Database, row: Dataset, cache: Path) -> ImageDataset:
    if row.configuration is not None:
        dataset = load_dataset(DatasetConfig.model_validate(row.configuration), cache)
        if dataset.digest != row.digest:
            raise DatasetError(f"the data set {row.name!r} has changed since it was registered")
        return dataset
    known = open_materialised(cache, row.digest)
    if known is not None:
        return known
    assert row.artifact_digest is not None  # the table's constraint
    with tempfile.TemporaryFile() as file:
        try:
            with database.session() as session:
                Artifacts(session).copy_to(row.artifact_digest, file)
        except (ArtifactCorrupted, ArtifactMissing) as error:
            raise DatasetError(f"the data set {row.name!r} cannot be read: {error}") from error
        dataset = materialise(decode_file(file, source=f"data set {row.name!r}"), cache)
    if dataset.digest != row.digest:
        raise DatasetError(f"the stored bytes of data set {row.name!r} hold another one")
    return dataset
