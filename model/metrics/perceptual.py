"""Figures of perceptual distances: between generated images of a class, and from them to the data set's images."""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from darkroom.model.datasets.dataset import ImageDataset
from darkroom.model.figure import Figure
from darkroom.model.metrics.generation import Row
from darkroom.model.metrics.perceptual_distance import PerceptualNetwork, network_facts
from darkroom.model.metrics.reference_images import REFERENCE_IMAGES, cached, evenly_spaced, image_batches
from darkroom.model.metrics.references import ReferenceCache
from darkroom.model.metrics.stored import decode_statistics, encode_statistics
from darkroom.model.progress import OnProgress, silent
from darkroom.model.protocol import Facts

PAIRS = 200
"""Number of pairs that the diversity is a mean of; its relative error is then a few hundredths."""

NEAREST_IMAGES = 100
"""Number of generated images whose nearest training image is searched for."""

CANDIDATES = 8
"""Training images, nearest by their sketches, that are compared with one generated image."""

SKETCH = 256
"""Size of a sketch, which represents an image in the search for candidates. Squared distances err by about a tenth."""

_PAIRS_AT_ONCE = 32
_SOUGHT_AT_ONCE = 8


def sketch(points: Tensor) -> Tensor:
    """(N, E) -> (N, SKETCH): sums of coordinates with random signs; each sum has a fixed random part of them.

    Squared distances keep their expectation (Weinberger et al. 2009, section 2). It costs one addition for each
    coordinate and needs no matrix with E columns.
    """
    order, signs = _sketch_plan(points.shape[1])
    padded = torch.nn.functional.pad(points, (0, len(order) - points.shape[1]))
    mixed = padded[:, order.to(points.device)] * signs.to(points.device)
    return mixed.reshape(len(points), SKETCH, -1).sum(2)


@lru_cache(maxsize=4)
def _sketch_plan(size: int) -> tuple[Tensor, Tensor]:
    draw = np.random.default_rng(0)
    padded = -(-size // SKETCH) * SKETCH
    order = torch.from_numpy(draw.permutation(padded))
    return order, torch.from_numpy(draw.choice(np.array([-1.0, 1.0], np.float32), padded))


def same_class_pairs(rows: Sequence[Row]) -> list[tuple[int, int]]:
    """Return pairs of consecutive positions of one class; each position is in at most one pair."""
    pairs, first = [], 0
    while first + 1 < len(rows):
        if rows[first].label == rows[first + 1].label:
            pairs.append((first, first + 1))
            first += 2
        else:
            first += 1
    return pairs


class NearestImages:
    """Finds a data set's nearest images to given ones: candidates by their sketches, then by the distance itself.

    It computes sketches of at most REFERENCE_IMAGES evenly spaced images once and caches them.
    """

    def __init__(
        self,
        network: PerceptualNetwork,
        dataset: ImageDataset,
        cache: ReferenceCache,
        should_stop: Callable[[], bool] = lambda: False,
        on_progress: OnProgress = silent,
    ) -> None:
        self._network, self._dataset = network, dataset
        self._indices = evenly_spaced(len(dataset), REFERENCE_IMAGES)
        facts = {
            **network_facts(network),
            "reference_dataset_digest": dataset.digest,
            "reference_images": len(self._indices),
            "sketch": SKETCH,
        }
        layout = {"sketches": ((len(self._indices), SKETCH), torch.float16)}

        def compute() -> Tensor:
            batches = image_batches(dataset, REFERENCE_IMAGES, should_stop, on_progress)
            return torch.cat([sketch(network.embed(images)).half() for images in batches])

        self._sketches = cached(
            cache,
            facts,
            lambda data, facts: decode_statistics(data, facts, layout)["sketches"],
            compute,
            lambda sketches, facts: encode_statistics({"sketches": sketches}, facts),
        ).to(network.device)

    def facts(self, images: int) -> Facts:
        """Return the search's part of a figure's protocol. images: number of images whose nearest ones were found."""
        return {
            "reference_dataset_digest": self._dataset.digest,
            "reference_images": len(self._indices),
            "nearest_images": images,
            "candidates": min(CANDIDATES, len(self._indices)),
            "candidates_by": f"sketch of {SKETCH}",
        }

    def distances(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return (distance to the nearest image, its index in the data set), (N,) each. images: (N, C, H, W) uint8."""
        distances, nearest = [], []
        sketches = self._sketches.float()
        squares = sketches.square().sum(1)
        for first in range(0, len(images), _SOUGHT_AT_ONCE):
            points = self._network.embed(images[first : first + _SOUGHT_AT_ONCE])
            around = squares - 2.0 * (sketch(points) @ sketches.T)  # squared distances up to a constant for each image
            places = around.topk(min(CANDIDATES, len(self._indices)), dim=1, largest=False).indices.cpu().numpy()
            indices = self._indices[places]
            theirs = self._network.embed(torch.from_numpy(self._dataset.images[indices.reshape(-1)]))
            best = (theirs.reshape(*indices.shape, -1) - points[:, None]).square().sum(2).min(1)
            distances.append(best.values.double().cpu())
            nearest.append(torch.from_numpy(indices).gather(1, best.indices.cpu()[:, None])[:, 0])
        return torch.cat(distances), torch.cat(nearest)


class PerceptualMeasure:
    """Measures `METRIC-diversity` and `METRIC-nearest`.

    The first is the mean distance of pairs of generated images of one class. The second is the mean distance of
    generated images to their nearest images in the data set. Raises ValueError when no class has two images.
    """

    def __init__(self, network: PerceptualNetwork, rows: Sequence[Row], nearest: NearestImages) -> None:
        self._network, self._nearest = network, nearest
        pairs = same_class_pairs(rows)
        if not pairs:
            raise ValueError("the diversity within a class needs two generated images of one")
        chosen = [pairs[number] for number in evenly_spaced(len(pairs), PAIRS)]
        self._second_of = dict(chosen)
        self._first_of = {second: first for first, second in chosen}
        self._sought = set(evenly_spaced(len(rows), NEAREST_IMAGES).tolist())
        self._conditional = rows[0].label is not None
        self._waiting: dict[int, Tensor] = {}
        self._open: list[tuple[Tensor, Tensor]] = []
        self._seekers: list[Tensor] = []
        self._sum = 0.0

    def add(self, positions: Sequence[int], images: Tensor) -> None:
        """Add a batch. positions: of the images among all generated ones; images: (B, C, H, W) uint8."""
        for position, image in zip(positions, images, strict=True):
            if position in self._sought:
                self._seekers.append(image.clone())
            if position in self._second_of:
                self._waiting[position] = image.clone()
            elif position in self._first_of:
                self._open.append((self._waiting.pop(self._first_of[position]), image.clone()))
        if len(self._open) >= _PAIRS_AT_ONCE:
            self._close()

    def figures(self) -> Iterator[Figure]:
        """Return both figures."""
        self._close()
        facts = network_facts(self._network)
        pairs = len(self._second_of)
        among = "pairs of one class" if self._conditional else "pairs"
        yield Figure(
            f"{self._network.metric}-diversity", self._sum / pairs, {**facts, "pairs": pairs, "diversity_of": among}
        )
        distances, _ = self._nearest.distances(torch.stack(self._seekers))
        yield Figure(
            f"{self._network.metric}-nearest", float(distances.mean()), {**facts, **self._nearest.facts(len(distances))}
        )

    def _close(self) -> None:
        if self._open:
            points = self._network.embed(torch.stack([image for pair in self._open for image in pair]))
            self._sum += float((points[::2] - points[1::2]).square().sum(1).double().sum())
            self._open.clear()
