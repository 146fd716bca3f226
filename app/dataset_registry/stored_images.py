"""Reads single images of registered data sets."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from darkroom.app.http.problems import Problem
from darkroom.app.settings import Settings
from darkroom.model.config import DatasetConfig
from darkroom.model.datasets.dataset import DatasetError, ImageDataset
from darkroom.model.datasets.encoded import EncodedPieces
from darkroom.model.datasets.registered import load_unchanged
from darkroom.model.progress import OnProgress, silent
from darkroom.store.artifacts import Artifacts
from darkroom.store.database import Database
from darkroom.store.tables import Dataset


class StoredImages(Protocol):
    """A data set's images."""

    labels: npt.NDArray[np.int64]

    def images(self, indices: Sequence[int], /) -> npt.NDArray[np.uint8]:
        """Return images (N, C, S, S)."""
        ...


class _Mapped:
    def __init__(self, dataset: ImageDataset) -> None:
        self.labels = dataset.labels
        self._dataset = dataset

    def images(self, indices: Sequence[int], /) -> npt.NDArray[np.uint8]:
        return self._dataset.images[np.asarray(indices, dtype=np.int64)]


def open_images(
    database: Database, settings: Settings, dataset: Dataset, on_progress: OnProgress = silent
) -> StoredImages:
    """Open a data set: an upload in the store, or a path, which is decoded into the state folder once.

    Raises Problem when a path has changed or vanished.
    """
    if dataset.configuration is not None:
        config = DatasetConfig.model_validate(dataset.configuration)
        try:
            return _Mapped(load_unchanged(config, dataset.digest, settings.state_folder / "datasets", on_progress))
        except DatasetError as error:
            raise Problem(409, "dataset-unreadable", str(error)) from error
    digest = dataset.artifact_digest
    assert digest is not None

    def read(start: int, size: int) -> bytes:
        with database.session() as session:
            return Artifacts(session).piece(digest, start, size)

    return EncodedPieces(read, dataset.name)
