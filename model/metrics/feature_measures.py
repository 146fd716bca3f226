"""Figures in an extractor's features, as generated images stream by."""

from collections.abc import Collection, Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

from darkroom.model.figure import Figure
from darkroom.model.metrics.confidence import ClassConfidence
from darkroom.model.metrics.extractor import FeatureExtractor
from darkroom.model.metrics.fid import FeatureStatistics, frechet_distance
from darkroom.model.metrics.kid import KERNEL, KernelSum, kernel_distance, within
from darkroom.model.metrics.pairs import OfPairs, go_through
from darkroom.model.metrics.precision_recall import NEIGHBOURS, Membership, Radii
from darkroom.model.metrics.reference_images import SAMPLE_IMAGES, ReferenceImages, evenly_spaced, extractor_facts


class FeatureMeasure(Protocol):
    """Takes in all generated images' features once, in order, and then tells figures.

    A figure's protocol is then still without what the drawing adds (`Figure.with_facts`).
    """

    def add(self, positions: Sequence[int], features: Tensor) -> None:
        """Take in a batch. positions: of the images among all generated ones; features: (B, D)."""
        ...

    def figures(self) -> Iterator[Figure]:
        """After the last batch."""
        ...


class Measure(Protocol):
    """Takes in all generated images once, in order, keeps few of them, and then tells figures."""

    def add(self, positions: Sequence[int], images: Tensor) -> None:
        """Take in a batch. positions: of the images among all generated ones; images: (B, C, H, W) uint8."""
        ...

    def figures(self) -> Iterator[Figure]:
        """After the last batch."""
        ...


class InFeatures:
    """The measures that one forward pass of an extractor serves."""

    def __init__(self, extractor: FeatureExtractor, measures: Sequence[FeatureMeasure]) -> None:
        self._extractor, self._measures = extractor, measures

    def add(self, positions: Sequence[int], images: Tensor) -> None:
        """Take in a batch."""
        features = self._extractor.features(images)
        for measure in self._measures:
            measure.add(positions, features)

    def figures(self) -> Iterator[Figure]:
        """Those of all measures, in order."""
        for measure in self._measures:
            yield from measure.figures()


class FrechetMeasure:
    """`fid-EXTRACTOR` of all images."""

    def __init__(self, reference: ReferenceImages) -> None:
        self._reference = reference
        self._kept = reference.frechet()
        self._statistics = FeatureStatistics(reference.extractor.dimension)

    def add(self, positions: Sequence[int], features: Tensor) -> None:
        """Take in a batch."""
        self._statistics.add(features)

    def figures(self) -> Iterator[Figure]:
        """The distance."""
        value = frechet_distance(self._statistics, self._kept)
        yield Figure(f"fid-{self._reference.extractor.name}", value, self._reference.frechet_facts)


class SampleMeasure:
    """`kid-EXTRACTOR`, `precision-EXTRACTOR` and `recall-EXTRACTOR`, of at most SAMPLE_IMAGES evenly spaced images."""

    def __init__(self, reference: ReferenceImages, images: int, *, kernel: bool, manifolds: bool) -> None:
        """images: how many are generated. kernel: tell the first figure. manifolds: tell the other two."""
        self._reference, self._kernel, self._manifolds = reference, kernel, manifolds
        self._kept = reference.sample()
        self._places = {int(position): place for place, position in enumerate(evenly_spaced(images, SAMPLE_IMAGES))}
        extractor = reference.extractor
        self._features = torch.empty(len(self._places), extractor.dimension, device=extractor.device)

    def add(self, positions: Sequence[int], features: Tensor) -> None:
        """Keep the features of those images that are in the sample."""
        for row, position in enumerate(positions):
            place = self._places.get(position)
            if place is not None:
                self._features[place] = features[row]

    def figures(self) -> Iterator[Figure]:
        """The figures asked for."""
        name, real = self._reference.extractor.name, self._kept
        facts = {**self._reference.sample_facts, "sample_images": len(self._features)}
        x, dimension = self._features, self._features.shape[1]
        inside, across, radii = KernelSum(dimension), KernelSum(dimension), Radii()
        of_set: list[OfPairs] = [inside] if self._kernel else []
        of_both: list[OfPairs] = [across] if self._kernel else []
        go_through(x, x, *of_set, *([radii] if self._manifolds else []))
        manifolds = Membership(radii.squared, real.squared_radii) if self._manifolds else None
        go_through(x, real.features, *of_both, *([manifolds] if manifolds else []))
        if self._kernel:
            sums = within(x, inside.value), real.kernel_within, across.value
            value = kernel_distance(len(x), len(real.features), *sums)
            yield Figure(f"kid-{name}", value, {**facts, "kernel": KERNEL, "estimator": "unbiased, all pairs"})
        if manifolds is not None:
            facts["neighbours"] = NEIGHBOURS
            yield Figure(f"precision-{name}", manifolds.precision, facts)
            yield Figure(f"recall-{name}", manifolds.recall, facts)


class ConfidenceMeasure:
    """`confidence-EXTRACTOR`: the extractor's own classifier on all images."""

    def __init__(self, extractor: FeatureExtractor) -> None:
        self._extractor, self._confidence = extractor, ClassConfidence()

    def add(self, positions: Sequence[int], features: Tensor) -> None:
        """Take in a batch."""
        self._confidence.add(self._extractor.logits(features))

    def figures(self) -> Iterator[Figure]:
        """The figure."""
        facts = {**extractor_facts(self._extractor), "splits": 1}
        yield Figure(f"confidence-{self._extractor.name}", self._confidence.value, facts)


def frechet_measure(reference: ReferenceImages, images: int, asked: Collection[str]) -> FeatureMeasure:
    """The metric `fid`."""
    return FrechetMeasure(reference)


def sample_measure(reference: ReferenceImages, images: int, asked: Collection[str]) -> FeatureMeasure:
    """The metrics `kid` and `precision_recall`, which share a sample and the pass over its pairs."""
    return SampleMeasure(reference, images, kernel="kid" in asked, manifolds="precision_recall" in asked)


def confidence_measure(reference: ReferenceImages, images: int, asked: Collection[str]) -> FeatureMeasure:
    """The metric `confidence`."""
    return ConfidenceMeasure(reference.extractor)
