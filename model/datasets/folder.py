"""Class folders on disk (`model/datasets/class_folders.py`)."""

from pathlib import Path

from darkroom.model.config import DatasetConfig
from darkroom.model.datasets.archive_limits import ArchiveLimits
from darkroom.model.datasets.class_folders import ClassFiles, class_files, decode_classes
from darkroom.model.datasets.dataset import DatasetError
from darkroom.model.datasets.decoded import Decoded
from darkroom.model.progress import OnProgress, silent


def _classes(config: DatasetConfig, path: Path) -> ClassFiles[Path]:
    if not path.is_dir():
        raise DatasetError(f"{path}: no such folder")
    return class_files(config, path)


def folder_files(config: DatasetConfig, path: Path) -> list[Path]:
    """Return the image files of the split, by class and name; raises DatasetError for another layout."""
    return [file for files in _classes(config, path).classes.values() for file in files]


def decode_folder(
    config: DatasetConfig, path: Path, limits: ArchiveLimits, on_progress: OnProgress = silent
) -> Decoded:
    """Decode images (N, C, S, S) of a folder with `decode_classes`; raises DatasetError naming the file."""
    return decode_classes(config, _classes(config, path), str(path), on_progress=on_progress)
