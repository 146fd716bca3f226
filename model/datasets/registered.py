"""Data sets that were registered: opened on a worker, and never other content than what was registered."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from darkroom.model.config import DatasetConfig
from darkroom.model.datasets.dataset import DatasetError, ImageDataset
from darkroom.model.datasets.encoded import decode
from darkroom.model.datasets.load import load_dataset
from darkroom.model.datasets.materialise import materialise, open_materialised


def load_encoded(digest: str, fetch: Callable[[BinaryIO], None], cache: Path) -> ImageDataset:
    """The uploaded data set of that digest, from the folder `cache`, or fetched into it.

    fetch: writes the encoded file (`model/datasets/encoded.py`); called only when the cache has no intact entry. Its
    errors are passed on. Raises DatasetError when what was fetched is damaged or the cache cannot be written.
    """
    dataset = open_materialised(cache, digest)
    if dataset is not None:
        return dataset
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cache) as file:  # without a name: gone even when this process is killed
            fetch(file)
            file.flush()
            decoded = decode(file, digest, "the uploaded data set")
    except OSError as error:
        raise DatasetError(f"{cache}: cannot hold the uploaded data set: {error}") from error
    return materialise(decoded, cache)


def load_unchanged(config: DatasetConfig, digest: str, cache: Path) -> ImageDataset:
    """The data set at a registered path, which must still have the digest that it was registered with.

    Raises DatasetError when it changed or vanished, and whatever else `load_dataset` finds wrong.
    """
    if config.path is not None and not config.path.exists():
        raise DatasetError(f"the data at {config.path} vanished since it was registered")
    dataset = load_dataset(config, cache)
    if dataset.digest != digest:
        raise DatasetError(
            f"the data at {config.path or config.format} changed since it was registered: it was {digest} and is "
            f"{dataset.digest}"
        )
    return dataset
