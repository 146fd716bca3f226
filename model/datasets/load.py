"""From a configuration to the data set: find the source, decode it once, map the result."""

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


@dataclass(frozen=True)
class _Source:
    """files: what is read, to notice changes; decode: the arrays."""

    files: Callable[[], list[Path]]
    decode: Callable[[], Decoded]


def _source(config: DatasetConfig, limits: ArchiveLimits) -> _Source:
    path = config.path
    if config.split == "all":
        train, test = (_source(config.model_copy(update={"split": half}), limits) for half in ("train", "test"))
        return _Source(
            lambda: list(dict.fromkeys([*train.files(), *test.files()])),  # one archive may hold both
            lambda: joined(train.decode(), test.decode(), str(path)),
        )
    entry = FORMATS[config.format]
    if path is None and not entry.bundled:
        raise DatasetError(f"{config.format}: a data set of this format needs a path")
    files, decode = load(entry.files), load(entry.decode)
    return _Source(lambda: files(config, path), lambda: decode(config, path, limits))


def dataset_files(config: DatasetConfig) -> list[Path]:
    """The files that the data set of `config` is read from; raises DatasetError when one is missing."""
    return _source(config, ArchiveLimits()).files()


def decode_dataset(config: DatasetConfig, limits: ArchiveLimits | None = None) -> Decoded:
    """The data set of `config` in memory, not cached anywhere; raises DatasetError naming the file and its fault."""
    return _source(config, limits or ArchiveLimits()).decode()


def load_dataset(config: DatasetConfig, cache: Path) -> ImageDataset:
    """The data set of `config`, decoded once into the folder `cache` and mapped read-only from there.

    Returns images (N, C, H, W) uint8, labels (N,) int64, class names and digest. A source that has not changed since
    it was decoded is not decoded again, unless its entry in the cache is missing or damaged.
    Raises DatasetError naming the file and its fault.
    """
    source = _source(config, ArchiveLimits())
    before = fingerprint(config, source.files())
    digest = recall(cache, before)
    dataset = open_materialised(cache, digest) if digest is not None else None
    if dataset is not None:
        return dataset
    dataset = materialise(source.decode(), cache)
    if fingerprint(config, source.files()) == before:  # else the source changed under the decoder: not to be trusted
        remember(cache, before, dataset.digest)
    return dataset
