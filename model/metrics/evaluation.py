"""Evaluates a denoiser: draws images as the service does, and compares them with a data set's."""

import time
from collections.abc import Callable

import torch

from darkroom.model.config import EvaluationConfig, SamplingConfig
from darkroom.model.datasets.dataset import ImageDataset
from darkroom.model.datasets.resize import reduced
from darkroom.model.diffusion.denoiser import Denoiser, SamplingStopped
from darkroom.model.extension_points import METRICS, load, of_kind
from darkroom.model.figure import Figure
from darkroom.model.machine.shared_cores import leave_cores, sharing_cores
from darkroom.model.metric_names import BITS_PER_DIMENSION, decision_order
from darkroom.model.metrics.bound import bits_per_dimension
from darkroom.model.metrics.extractors import load_extractor, load_perceptual
from darkroom.model.metrics.feature_measures import FeatureMeasure, InFeatures, Measure
from darkroom.model.metrics.generation import Drawing, NotFinite, class_counts, draw, plan_drawing
from darkroom.model.metrics.perceptual import NearestImages, PerceptualMeasure
from darkroom.model.metrics.reference_images import ReferenceImages
from darkroom.model.metrics.references import FolderReferences, ReferenceCache
from darkroom.model.metrics.requirements import evaluation_misfits
from darkroom.model.progress import OnProgress, silent
from darkroom.model.user_error import UserError

__all__ = [
    "EvaluationError",
    "FolderReferences",
    "ReferenceCache",
    "SamplingStopped",
    "class_counts",
    "evaluate",
    "require_metrics",
]


class EvaluationError(UserError, ValueError):
    """The model cannot be evaluated on the data set; the message names both."""


def require_metrics(config: EvaluationConfig) -> None:
    """Raise MetricsUnavailable when something that `config` needs is not installed."""
    if of_kind("features", config.metrics):
        load_extractor(config.extractor)
    for name in of_kind("pairs", config.metrics):
        load_perceptual(name)


@sharing_cores()
def evaluate(
    denoiser: Denoiser,
    weights_digest: str,
    dataset: ImageDataset,
    config: EvaluationConfig,
    sampling: SamplingConfig,
    references: ReferenceCache,
    should_stop: Callable[[], bool] = lambda: False,
    split: str = "train",
    on_progress: OnProgress = silent,
) -> tuple[Figure, ...]:
    """Measure the metrics of `config.metrics`; the first figure decides which checkpoint is best.

    Image k of a class has the seed `config.seed` and the index k, as in POST /generate, and is rounded to pixels as the
    service rounds. All metrics see the same images in one pass, which keeps none of them. `references` caches
    statistics of the data set, whose larger images are scaled down to the model's. Equal arguments give equal values,
    to the last digit, on one machine with an equal number of threads (`machine/shared_cores.py`).

    denoiser: with a checkpoint's EMA weights. weights_digest: for messages.
    split: part of its source that the data set is, for the protocol. on_progress: told how far the measurement is.
    Raises EvaluationError when model and data set do not fit or an image is not finite; ValueError for more steps than
    the model has; MetricsUnavailable when a metric's package or weights are missing; SamplingStopped.
    """
    dataset = reduced(dataset, denoiser.image_shape[-1], on_progress)
    _check(denoiser, weights_digest, dataset, config, sampling)
    found: list[Figure] = []
    alone = of_kind("denoiser", config.metrics)
    if len(alone) < len(config.metrics):
        began = time.perf_counter()
        drawing = plan_drawing(dataset, len(denoiser.class_names), config, sampling)
        drawing.check(denoiser)
        measures = _measures(denoiser.device, dataset, drawing, config, references, should_stop, on_progress)
        on_progress("drawing images", 0, len(drawing.rows))
        try:
            for positions, images in draw(denoiser, drawing, should_stop):
                for measure in measures:
                    measure.add(positions, images)
                on_progress("drawing images", positions[-1] + 1, len(drawing.rows))
                leave_cores()
        except NotFinite as error:
            raise EvaluationError(f"the model {weights_digest} cannot be evaluated: {error}") from error
        figures = [figure for measure in measures for figure in measure.figures()]
        seconds = time.perf_counter() - began
        # The data set belongs to every figure's protocol: its labels decide how many images of each class are drawn.
        facts = {
            **drawing.facts,
            **denoiser.device_facts,
            "reference_dataset_digest": dataset.digest,
            "reference_split": split,
        }
        found += [figure.with_facts(facts, seconds) for figure in figures]
    for name in alone:
        found.append(
            load(METRICS[name].measure)(denoiser, weights_digest, dataset, config, split, should_stop, on_progress)
        )
    return tuple(sorted(found, key=lambda one: decision_order(one.metric)[0]))


def bound_evaluation(
    denoiser: Denoiser,
    weights_digest: str,
    dataset: ImageDataset,
    config: EvaluationConfig,
    split: str,
    should_stop: Callable[[], bool],
    on_progress: OnProgress,
) -> Figure:
    """Measure the metric `bits_per_dimension`, in float32 on every device."""
    began, denoiser = time.perf_counter(), denoiser.in_float32()
    images, times, variance = min(config.bound_images, len(dataset)), config.bound_times, config.bound_variance
    try:
        value = bits_per_dimension(
            denoiser,
            dataset,
            images=images,
            times=times,
            variance=variance,
            seed=config.seed,
            batch_images=config.batch_images,
            should_stop=should_stop,
            on_progress=on_progress,
        )
    except ValueError as error:
        raise EvaluationError(f"the bound of the model {weights_digest}: {error}") from error
    facts: dict[str, str | int | float | None] = {
        "reference_dataset_digest": dataset.digest,
        "reference_split": split,
        "weights": "ema",
        "images": images,
        "times": "all" if times is None else times,
        "variance": variance,
        "decoder_variance": "learned" if variance == "learned" else "beta_tilde_2",
        "estimate": "clipped to -1..1",
        "classes": "the images' own",
        "seed": config.seed,
        "batch_images": config.batch_images,
        **denoiser.device_facts,
    }
    return Figure(BITS_PER_DIMENSION, value, {}).with_facts(facts, time.perf_counter() - began)


def _check(
    denoiser: Denoiser, weights_digest: str, dataset: ImageDataset, config: EvaluationConfig, sampling: SamplingConfig
) -> None:
    shape, classes = tuple(dataset.images.shape[1:]), len(dataset.class_names)
    if shape != denoiser.image_shape or classes != len(denoiser.class_names):
        raise EvaluationError(
            f"the model {weights_digest} draws {denoiser.image_shape} (C, H, W) of {len(denoiser.class_names)} "
            f"classes, but the data set {dataset.digest} holds {shape} of {classes}"
        )
    faults = evaluation_misfits(config, sampling, denoiser.config.schedule, dataset.class_counts)
    for fault in faults:
        raise EvaluationError(str(fault))


def _measures(
    device: torch.device,
    dataset: ImageDataset,
    drawing: Drawing,
    config: EvaluationConfig,
    references: ReferenceCache,
    should_stop: Callable[[], bool],
    on_progress: OnProgress,
) -> tuple[Measure, ...]:
    measures: list[Measure] = []
    if asked := of_kind("features", config.metrics):
        extractor = load_extractor(config.extractor, device)
        reference = ReferenceImages(dataset, extractor, references, should_stop, on_progress)
        functions = [load(where) for where in dict.fromkeys(METRICS[name].measure for name in asked)]
        in_features: list[FeatureMeasure] = [one(reference, len(drawing.rows), asked) for one in functions]
        measures.append(InFeatures(extractor, in_features))
    for name in sorted(of_kind("pairs", config.metrics)):
        network = load_perceptual(name, device)
        nearest = NearestImages(network, dataset, references, should_stop, on_progress)
        measures.append(PerceptualMeasure(network, drawing.rows, nearest))
    return tuple(measures)
