"""Loads the data set of a configuration: finds the source, decodes it once, and maps the result."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from darkroom.model.config import DatasetConfig
from darkroom.model.datasets.archive_limits import ArchiveLimits
from darkroom.model.datasets.dataset import DatasetError, ImageDataset
from darkroom.model.datasets.decoded import Decoded, joined
from darkroom.model.datasets.materialise import materialise, open_materialised
from darkroom.model.datasets.source_index import fingerprint, recall, remember
from darkroom.model.extension_points import FORMATS, load
from darkroom.model.progress import OnProgress, silent


@dataclass(frozen=True)
class _Source:
    """A data set's source. files: returns the files that are read, to notice changes; decode: returns the arrays."""

    files: Callable[[], list[Path]]
    decode: Callable[[OnProgress], Decoded]


def _source(config: DatasetConfig, limits: ArchiveLimits) -> _Source:
    path = config.path
    if config.split == "all":
        train, test = (_source(config.model_copy(update={"split": half}), limits) for half in ("train", "test"))
        return _Source(
            lambda: list(dict.fromkeys([*train.files(), *test.files()])),  # one archive may hold both
            lambda on_progress: joined(train.decode(on_progress), test.decode(on_progress), str(path)),
        )
    entry = FORMATS[config.format]
    if path is None and not entry.bundled:
        raise DatasetError(f"{config.format}: a data set of this format needs a path")
    files, decode = load(entry.files), load(entry.decode)
    return _Source(lambda: files(config, path), lambda on_progress: decode(config, path, limits, on_progress))


def dataset_files(config: DatasetConfig) -> list[Path]:
    """Return the files that hold the data set of `config`; raises DatasetError when one is missing."""
    return _source(config, ArchiveLimits()).files()


def decode_dataset(
    config: DatasetConfig, limits: ArchiveLimits | None = None, on_progress: OnProgress = silent
) -> Decoded:
    """Decode the data set of `config` in memory, without a cache; raises DatasetError naming the file and its fault."""
    return _source(config, limits or ArchiveLimits()).decode(on_progress)


def load_dataset(config: DatasetConfig, cache: Path, on_progress: OnProgress = silent) -> ImageDataset:
    """Decode the data set of `config` once into the folder `cache`, and map it read-only from there.

    An unchanged source is decoded again only when its entry in the cache is missing or damaged. on_progress: told how
    many pictures are decoded.
    Raises DatasetError naming the file and its fault.
    """
    source = _source(config, ArchiveLimits())
    on_progress("looking for files", 0, None)
    before = fingerprint(config, source.files())
    digest = recall(cache, before)
    dataset = open_materialised(cache, digest) if digest is not None else None
    if dataset is not None:
        return dataset
    decoded = source.decode(on_progress)
    on_progress("storing the decoded images", 0, None)
    dataset = materialise(decoded, cache)
    if fingerprint(config, source.files()) == before:  # else the source changed during decoding
        remember(cache, before, dataset.digest)
    return dataset
