"""Figures of perceptual distances: how much images of a class differ, and how far they lie from the data set's."""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from darkroom.model.datasets.dataset import ImageDataset
from darkroom.model.figure import Figure
from darkroom.model.metrics.generation import Row
from darkroom.model.metrics.perceptual_distance import PerceptualNetwork, network_facts
from darkroom.model.metrics.reference_images import REFERENCE_IMAGES, evenly_spaced, image_batches, kept
from darkroom.model.metrics.references import ReferenceCache
from darkroom.model.metrics.stored import decode_statistics, encode_statistics
from darkroom.model.protocol import Facts

PAIRS = 200
"""Pairs of one class of which the diversity is taken: its error is then a few hundredths of it."""

NEAREST_IMAGES = 100
"""Generated images whose nearest training image is looked for."""

CANDIDATES = 8
"""Training images that are looked at for one generated image: the nearest ones by their sketches."""

SKETCH = 256
"""Numbers that stand for an image in the search for candidates; its squared distances are off by about a tenth."""

_PAIRS_AT_ONCE = 32
_SOUGHT_AT_ONCE = 8


def sketch(points: Tensor) -> Tensor:
    """(N, E) -> (N, SKETCH): sums of coordinates with random signs, a fixed random share of them in each sum.

    Squared distances keep their expectation (Weinberger et al. 2009, section 2), at the cost of one addition a
    coordinate and without a matrix of E columns.
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
    """Positions of neighbours of one class, each position in one pair at the most."""
    pairs, first = [], 0
    while first + 1 < len(rows):
        if rows[first].label == rows[first + 1].label:
            pairs.append((first, first + 1))
            first += 2
        else:
            first += 1
    return pairs


class NearestImages:
    """The images of a data set that lie nearest to given ones: candidates by their sketches, then the distance itself.

    Sketches of at most REFERENCE_IMAGES evenly spaced images are computed once and kept.
    """

    def __init__(
        self,
        network: PerceptualNetwork,
        dataset: ImageDataset,
        cache: ReferenceCache,
        should_stop: Callable[[], bool] = lambda: False,
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
            batches = image_batches(dataset, REFERENCE_IMAGES, should_stop)
            return torch.cat([sketch(network.embed(images)).half() for images in batches])

        self._sketches = kept(
            cache,
            facts,
            lambda data, facts: decode_statistics(data, facts, layout)["sketches"],
            compute,
            lambda sketches, facts: encode_statistics({"sketches": sketches}, facts),
        ).to(network.device)

    def facts(self, images: int) -> Facts:
        """What of a figure's protocol the search is. images: how many were sought for."""
        return {
            "reference_dataset_digest": self._dataset.digest,
            "reference_images": len(self._indices),
            "nearest_images": images,
            "candidates": min(CANDIDATES, len(self._indices)),
            "candidates_by": f"sketch of {SKETCH}",
        }

    def distances(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(distance to the nearest image, its index in the data set), each (N,), of images (N, C, H, W) uint8."""
        distances, nearest = [], []
        sketches = self._sketches.float()
        squares = sketches.square().sum(1)
        for first in range(0, len(images), _SOUGHT_AT_ONCE):
            points = self._network.embed(images[first : first + _SOUGHT_AT_ONCE])
            around = squares - 2.0 * (sketch(points) @ sketches.T)  # squared distances, less what all of a row share
            places = around.topk(min(CANDIDATES, len(self._indices)), dim=1, largest=False).indices.cpu().numpy()
            indices = self._indices[places]
            theirs = self._network.embed(torch.from_numpy(self._dataset.images[indices.reshape(-1)]))
            best = (theirs.reshape(*indices.shape, -1) - points[:, None]).square().sum(2).min(1)
            distances.append(best.values.double().cpu())
            nearest.append(torch.from_numpy(indices).gather(1, best.indices.cpu()[:, None])[:, 0])
        return torch.cat(distances), torch.cat(nearest)


class PerceptualMeasure:
    """`METRIC-diversity`, the mean distance of pairs of generated images of one class, and `METRIC-nearest`, the mean
    distance of generated images to their nearest ones in the data set.

    Raises ValueError when no class has two images.
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
        """Take in a batch. positions: of the images among all generated ones; images: (B, C, H, W) uint8."""
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
        """Both figures."""
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
