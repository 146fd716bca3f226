"""Measures of generated images in an extractor's features; the images arrive in batches."""

from collections.abc import Collection, Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

from darkroom.model.figure import Figure
from darkroom.model.metrics.confidence import ClassConfidence
from darkroom.model.metrics.extractor import FeatureExtractor
from darkroom.model.metrics.fid import FeatureStatistics, frechet_distance
from darkroom.model.metrics.kid import KERNEL, KernelSum, kernel_distance, within
from darkroom.model.metrics.pairs import PairMeasure, add_pairs
from darkroom.model.metrics.precision_recall import NEIGHBOURS, Membership, Radii
from darkroom.model.metrics.reference_images import SAMPLE_IMAGES, ReferenceImages, evenly_spaced, extractor_facts


class FeatureMeasure(Protocol):
    """Gets the features of all generated images once, in order, and then returns figures.

    Their protocols have the measure's own facts; `Figure.with_facts` adds those of the drawing.
    """

    def add(self, positions: Sequence[int], features: Tensor) -> None:
        """Add a batch. positions: of the images among all generated ones; features: (B, D)."""
        ...

    def figures(self) -> Iterator[Figure]:
        """Return the figures, after the last batch."""
        ...


class Measure(Protocol):
    """Gets all generated images once, in order, keeps few of them, and then returns figures."""

    def add(self, positions: Sequence[int], images: Tensor) -> None:
        """Add a batch. positions: of the images among all generated ones; images: (B, C, H, W) uint8."""
        ...

    def figures(self) -> Iterator[Figure]:
        """Return the figures, after the last batch."""
        ...


class InFeatures:
    """Several feature measures that share one forward pass of an extractor."""

    def __init__(self, extractor: FeatureExtractor, measures: Sequence[FeatureMeasure]) -> None:
        self._extractor, self._measures = extractor, measures

    def add(self, positions: Sequence[int], images: Tensor) -> None:
        """Add a batch."""
        features = self._extractor.features(images)
        for measure in self._measures:
            measure.add(positions, features)

    def figures(self) -> Iterator[Figure]:
        """Return the figures of all measures, in order."""
        for measure in self._measures:
            yield from measure.figures()


class FrechetMeasure:
    """Measures `fid-EXTRACTOR` of all images."""

    def __init__(self, reference: ReferenceImages) -> None:
        self._reference = reference
        self._kept = reference.frechet()
        self._statistics = FeatureStatistics(reference.extractor.dimension)

    def add(self, positions: Sequence[int], features: Tensor) -> None:
        """Add a batch."""
        self._statistics.add(features)

    def figures(self) -> Iterator[Figure]:
        """Return the distance."""
        value = frechet_distance(self._statistics, self._kept)
        yield Figure(f"fid-{self._reference.extractor.name}", value, self._reference.frechet_facts)


class SampleMeasure:
    """Measures `kid-`, `precision-` and `recall-EXTRACTOR` on at most SAMPLE_IMAGES evenly spaced images."""

    def __init__(self, reference: ReferenceImages, images: int, *, kernel: bool, manifolds: bool) -> None:
        """images: number of generated images. kernel: measure the first figure; manifolds: measure the other two."""
        self._reference, self._kernel, self._manifolds = reference, kernel, manifolds
        self._kept = reference.sample()
        self._places = {int(position): place for place, position in enumerate(evenly_spaced(images, SAMPLE_IMAGES))}
        extractor = reference.extractor
        self._features = torch.empty(len(self._places), extractor.dimension, device=extractor.device)

    def add(self, positions: Sequence[int], features: Tensor) -> None:
        """Add a batch: keep the features of the sample's images."""
        for row, position in enumerate(positions):
            place = self._places.get(position)
            if place is not None:
                self._features[place] = features[row]

    def figures(self) -> Iterator[Figure]:
        """Return the chosen figures."""
        name, real = self._reference.extractor.name, self._kept
        facts = {**self._reference.sample_facts, "sample_images": len(self._features)}
        x, dimension = self._features, self._features.shape[1]
        inside, across, radii = KernelSum(dimension), KernelSum(dimension), Radii()
        of_set: list[PairMeasure] = [inside] if self._kernel else []
        of_both: list[PairMeasure] = [across] if self._kernel else []
        add_pairs(x, x, *of_set, *([radii] if self._manifolds else []))
        manifolds = Membership(radii.squared, real.squared_radii) if self._manifolds else None
        add_pairs(x, real.features, *of_both, *([manifolds] if manifolds else []))
        if self._kernel:
            sums = within(x, inside.value), real.kernel_within, across.value
            value = kernel_distance(len(x), len(real.features), *sums)
            yield Figure(f"kid-{name}", value, {**facts, "kernel": KERNEL, "estimator": "unbiased, all pairs"})
        if manifolds is not None:
            facts["neighbours"] = NEIGHBOURS
            yield Figure(f"precision-{name}", manifolds.precision, facts)
            yield Figure(f"recall-{name}", manifolds.recall, facts)


class ConfidenceMeasure:
    """Measures `confidence-EXTRACTOR` by the extractor's own classifier on all images."""

    def __init__(self, extractor: FeatureExtractor) -> None:
        self._extractor, self._confidence = extractor, ClassConfidence()

    def add(self, positions: Sequence[int], features: Tensor) -> None:
        """Add a batch."""
        self._confidence.add(self._extractor.logits(features))

    def figures(self) -> Iterator[Figure]:
        """Return the class confidence."""
        facts = {**extractor_facts(self._extractor), "splits": 1}
        yield Figure(f"confidence-{self._extractor.name}", self._confidence.value, facts)


def frechet_measure(reference: ReferenceImages, images: int, asked: Collection[str]) -> FeatureMeasure:
    """Make the measure of the metric `fid`."""
    return FrechetMeasure(reference)


def sample_measure(reference: ReferenceImages, images: int, asked: Collection[str]) -> FeatureMeasure:
    """Make the measure of the metrics `kid` and `precision_recall`, which share a sample and its pairs."""
    return SampleMeasure(reference, images, kernel="kid" in asked, manifolds="precision_recall" in asked)


def confidence_measure(reference: ReferenceImages, images: int, asked: Collection[str]) -> FeatureMeasure:
    """Make the measure of the metric `confidence`."""
    return ConfidenceMeasure(reference.extractor)
