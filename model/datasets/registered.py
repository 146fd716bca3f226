"""Opens registered data sets on a worker, and refuses any content other than what was registered."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from darkroom.model.config import DatasetConfig
from darkroom.model.datasets.dataset import DatasetError, ImageDataset
from darkroom.model.datasets.encoded import decode
from darkroom.model.datasets.load import load_dataset
from darkroom.model.datasets.materialise import materialise, open_materialised
from darkroom.model.progress import OnProgress, silent


def load_encoded(digest: str, fetch: Callable[[BinaryIO], None], cache: Path) -> ImageDataset:
    """Open the uploaded data set of that digest from the folder `cache`; fetch it first where the cache lacks it.

    fetch: writes the encoded file (`model/datasets/encoded.py`); its errors are passed on. Raises DatasetError when the
    fetched file is damaged or the cache cannot be written.
    """
    dataset = open_materialised(cache, digest)
    if dataset is not None:
        return dataset
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cache) as file:  # nameless: removed even when this process is killed
            fetch(file)
            file.flush()
            decoded = decode(file, digest, "the uploaded data set")
    except OSError as error:
        raise DatasetError(f"{cache}: cannot hold the uploaded data set: {error}") from error
    return materialise(decoded, cache)


def load_unchanged(config: DatasetConfig, digest: str, cache: Path, on_progress: OnProgress = silent) -> ImageDataset:
    """Load the data set at a registered path.

    Raises DatasetError when the data changed or vanished since registration, and for all faults that `load_dataset`
    finds.
    """
    if config.path is not None and not config.path.exists():
        raise DatasetError(f"the data at {config.path} vanished since it was registered")
    dataset = load_dataset(config, cache, on_progress)
    if dataset.digest != digest:
        raise DatasetError(
            f"the data at {config.path or config.format} changed since it was registered: it was {digest} and is "
            f"{dataset.digest}"
        )
    return dataset
