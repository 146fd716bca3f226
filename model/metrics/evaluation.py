"""Judging a denoiser: draw images as the service would, and measure how far they lie from the data set's."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from model.checkpoint import digest_of
from model.config import EvaluationConfig, SamplingConfig
from model.datasets.dataset import ImageDataset
from model.denoiser import Denoiser, SamplingStopped
from model.metrics.efficientnet import EfficientNetLite0
from model.metrics.extractor import FeatureExtractor
from model.metrics.fid import (
    Facts,
    FeatureStatistics,
    FrechetReference,
    StatisticsError,
    decode_reference,
    encode_reference,
    frechet_distance,
)
from model.metrics.references import FolderReferences, ReferenceCache
from model.sampling import plan_row, sample, to_pixels

__all__ = [
    "Evaluation",
    "EvaluationError",
    "FolderReferences",
    "ReferenceCache",
    "class_counts",
    "evaluate",
    "protocol_digest",
]

REFERENCE_IMAGES = 100_000
"""Of a larger data set this many images are taken, evenly spaced, so that a first evaluation takes minutes."""

REFERENCE_BATCH_IMAGES = 64


class EvaluationError(ValueError):
    """A model that cannot be judged against the data set; the message names both."""


@dataclass(frozen=True)
class Evaluation:
    """One measured value.

    metric: "fid-efficientnet-lite0"; never plain FID, which is measured in the features of Inception.
    protocol: everything besides the model's weights that fixes the value; values compare where it is equal.
    seconds: the wall-clock time that it took, the reference statistics with it where they were not kept yet.
    """

    metric: str
    value: float
    protocol: Facts
    seconds: float


def protocol_digest(protocol: Facts) -> str:
    """ "sha256:..." of the protocol as canonical JSON: sorted keys, no blanks, ASCII."""
    return digest_of(json.dumps(dict(protocol), sort_keys=True, separators=(",", ":"), allow_nan=False).encode())


def class_counts(labels: npt.NDArray[np.int64], classes: int, images: int) -> list[int]:
    """`images` divided among the classes in the labels' proportions, by largest remainder (the lower class at a tie).

    Whole numbers throughout, so the result is the same everywhere.
    """
    shares = [images * int(count) for count in np.bincount(labels, minlength=classes)]
    counts = [share // len(labels) for share in shares]
    by_remainder = sorted(range(classes), key=lambda label: (-(shares[label] % len(labels)), label))
    for label in by_remainder[: images - sum(counts)]:
        counts[label] += 1
    return counts


def evaluate(
    denoiser: Denoiser,
    weights_digest: str,
    dataset: ImageDataset,
    config: EvaluationConfig,
    sampling: SamplingConfig,
    references: ReferenceCache,
    should_stop: Callable[[], bool] = lambda: False,
) -> tuple[Evaluation, ...]:
    """Draw `config.images` images with the denoiser and return their distances to the data set.

    Image k of a class has the seed `config.seed` and the index k, as POST /generate numbers it, and is rounded to
    pixels as it is served. The data set's statistics are taken from `references` or computed and put there.
    weights_digest: the denoiser's, for messages. The same arguments give the same value to the last digit on the same
    machine with the same number of threads.
    Raises EvaluationError when model and data set do not fit or an image is not finite, ValueError for more steps than
    the model has, MetricsUnavailable without the extra `metrics`, and SamplingStopped.
    """
    began = time.perf_counter()
    _check(denoiser, weights_digest, dataset)
    settings = sampling.model_copy(
        update={
            "steps": sampling.steps if config.steps is None else config.steps,
            "guidance": sampling.guidance if config.guidance is None else config.guidance,
        }
    )
    rows = _rows(dataset, denoiser, config.images, settings)
    plan_row(denoiser, settings, label=rows[0][0], seed=config.seed)  # a fault shows before the long part
    extractor = EfficientNetLite0(denoiser.device)
    reference_facts = _reference_facts(dataset, extractor)
    reference = _reference(dataset, extractor, reference_facts, references, should_stop)

    statistics = FeatureStatistics(extractor.dimension)
    for first in range(0, len(rows), config.batch_images):
        if should_stop():
            raise SamplingStopped
        batch = rows[first : first + config.batch_images]
        plans = [plan_row(denoiser, settings, label=label, seed=config.seed, index=index) for label, index in batch]
        images = sample(denoiser, plans, batch_rows=config.batch_images)
        if not images.isfinite().all():
            raise EvaluationError(f"the model {weights_digest} draws images that are not finite numbers")
        statistics.add(extractor.features(torch.from_numpy(to_pixels(images)).permute(0, 3, 1, 2)))
    metric = f"fid-{extractor.name}"
    protocol = {"metric": metric, **reference_facts, **_generation_facts(config, settings)}
    value = frechet_distance(statistics, reference)
    return (Evaluation(metric, value, protocol, time.perf_counter() - began),)


def _check(denoiser: Denoiser, weights_digest: str, dataset: ImageDataset) -> None:
    shape, classes = tuple(dataset.images.shape[1:]), len(dataset.class_names)
    if shape != denoiser.image_shape or classes != len(denoiser.class_names):
        raise EvaluationError(
            f"the model {weights_digest} draws {denoiser.image_shape} (C, H, W) of {len(denoiser.class_names)} "
            f"classes, but the data set {dataset.digest} holds {shape} of {classes}"
        )
    if len(dataset) < 2:
        raise EvaluationError(f"the data set {dataset.digest} holds {len(dataset)} images; two are the least")


def _rows(
    dataset: ImageDataset, denoiser: Denoiser, images: int, settings: SamplingConfig
) -> list[tuple[int | None, int]]:
    """(label, index) of the images to draw."""
    if settings.guidance == 0.0:  # the class has no say, so equal indices of two classes would be one image twice
        return [(None, index) for index in range(images)]
    counts = class_counts(dataset.labels, len(denoiser.class_names), images)
    return [(label, index) for label, count in enumerate(counts) for index in range(count)]


def _reference_facts(dataset: ImageDataset, extractor: FeatureExtractor) -> dict[str, str | int | float | None]:
    """Everything that fixes the reference statistics."""
    return {
        "extractor": extractor.name,
        "extractor_weights_digest": extractor.weights_digest,
        **{f"extractor_{name}": value for name, value in extractor.protocol.items()},
        "reference_dataset_digest": dataset.digest,
        "reference_images": min(len(dataset), REFERENCE_IMAGES),
    }


def _generation_facts(config: EvaluationConfig, settings: SamplingConfig) -> dict[str, str | int | float | None]:
    """Everything besides the weights that fixes the generated images; what has no effect is None."""
    return {
        "images": config.images,
        "classes": None if settings.guidance == 0.0 else "data-set-proportions",
        "seed": config.seed,
        "batch_images": config.batch_images,  # decides the order of sums, and so the last digits
        "sampler": settings.sampler,
        "steps": settings.steps,
        "guidance": settings.guidance,
        "threshold": settings.threshold,
        "percentile": settings.percentile if settings.threshold == "dynamic" else None,
        "eta": settings.eta if settings.sampler == "ddim" else None,
        "variance": settings.variance if settings.sampler == "ddpm" else None,
    }


def _reference(
    dataset: ImageDataset,
    extractor: FeatureExtractor,
    facts: Facts,
    references: ReferenceCache,
    should_stop: Callable[[], bool],
) -> FrechetReference:
    key = protocol_digest(facts)
    kept = references.get(key)
    if kept is not None:
        try:
            return decode_reference(kept, facts, extractor.dimension)
        except StatisticsError:
            pass  # damaged or foreign: computed again and replaced
    statistics = FeatureStatistics(extractor.dimension)
    for indices in _reference_batches(len(dataset)):
        if should_stop():
            raise SamplingStopped
        statistics.add(extractor.features(torch.from_numpy(dataset.images[indices])))
    reference = FrechetReference.of(statistics)
    references.put(key, encode_reference(reference, facts))
    return reference


def _reference_batches(count: int) -> Iterator[npt.NDArray[np.int64]]:
    """Indices of the images that are taken of `count`, in batches whose size is always the same one."""
    taken = min(count, REFERENCE_IMAGES)
    for first in range(0, taken, REFERENCE_BATCH_IMAGES):
        positions = np.arange(first, min(first + REFERENCE_BATCH_IMAGES, taken), dtype=np.int64)
        yield positions * count // taken
