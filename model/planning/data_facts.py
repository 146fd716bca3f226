"""Looks at a data set: the facts from which a plan is made."""

import hashlib
from dataclasses import dataclass

import numpy as np

from darkroom.model.datasets.dataset import ImageDataset
from darkroom.model.images.compare import distances, thumbnails

SAMPLE = 400
"""Images that the comparison with mirrored images looks at, and as many others."""
MIRRORED_AS_NEAR = 1.1
"""Largest ratio of distances at which mirrored images count as images of the same data."""


@dataclass(frozen=True)
class DataFacts:
    """The facts of a data set. side: in pixels. distinct: images without exact repeats.

    mirrors: True when mirrored images look like other images of their class, so that training may flip.
    """

    channels: int
    side: int
    class_counts: tuple[int, ...]
    distinct: int
    mirrors: bool

    @property
    def images(self) -> int:
        """The number of images."""
        return sum(self.class_counts)


def look_at(dataset: ImageDataset) -> DataFacts:
    """Return the facts of a data set."""
    _, channels, side, _ = dataset.images.shape
    distinct = len({hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in dataset.images})
    return DataFacts(channels, side, dataset.class_counts, distinct, _mirrors(dataset))


def _mirrors(dataset: ImageDataset) -> bool:
    """Compare how near mirrored images, and the images themselves, lie to other images of their class.

    Letters and digits lie much farther away when they are mirrored; photographs of animals do not.
    """
    order = np.random.default_rng(0).permutation(len(dataset))
    ours, others = np.sort(order[:SAMPLE]), np.sort(order[SAMPLE : 2 * SAMPLE])
    if len(others) < SAMPLE // 4:
        return False  # too few images to tell
    pictures, rest = thumbnails(dataset.images[ours]), thumbnails(dataset.images[others])
    same_class = dataset.labels[ours][:, None] == dataset.labels[others][None, :]
    compared = same_class.any(axis=1)
    if not compared.any():
        return False
    plain, mirrored = (
        np.where(same_class, distances(images.reshape(len(ours), -1), rest.reshape(len(others), -1)), np.inf)
        .min(axis=1)[compared]
        .mean()
        for images in (pictures, pictures[..., ::-1])
    )
    return bool(mirrored <= MIRRORED_AS_NEAR * plain)
