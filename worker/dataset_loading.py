"""Loads a job's data set through this worker's cache."""

from pathlib import Path
from typing import BinaryIO

from sqlalchemy.orm import Session

from darkroom.model.config import DatasetConfig
from darkroom.model.datasets import DatasetError, ImageDataset
from darkroom.model.datasets.registered import load_encoded, load_unchanged
from darkroom.model.progress import OnProgress
from darkroom.model.training.distributed import first_then_others
from darkroom.store.artifacts import ArtifactCorrupted, ArtifactMissing
from darkroom.store.database import Database
from darkroom.store.dataset_repository import copy_encoded
from darkroom.store.tables import Dataset, Job
from darkroom.worker.transactions import transact


def registered_dataset(database: Database, job: Job, cache: Path, on_progress: OnProgress) -> ImageDataset:
    """The data set that a job names, from the cache, or else from the store or its path, with its content checked.

    Raises DatasetError when it has vanished, is damaged, or has changed since it was registered.
    """
    wanted = job.dataset_id
    row = None if wanted is None else transact(database, lambda session: session.get(Dataset, wanted))
    if row is None:
        raise DatasetError("the job's data set was deleted; submit a new job that names another")
    return first_then_others(lambda: _load(database, row, cache, on_progress))


def _load(database: Database, row: Dataset, cache: Path, on_progress: OnProgress) -> ImageDataset:
    if row.configuration is not None:
        return load_unchanged(DatasetConfig.model_validate(row.configuration), row.digest, cache, on_progress)

    on_progress("fetching the data set", 0, None)

    def fetch(file: BinaryIO) -> None:
        def copy(session: Session) -> None:
            file.seek(0)
            file.truncate()
            copy_encoded(session, row, file)

        transact(database, copy)

    try:
        return load_encoded(row.digest, fetch, cache)
    except (ArtifactCorrupted, ArtifactMissing) as error:
        raise DatasetError(f"the data set {row.name!r} cannot be read: {error}") from error
