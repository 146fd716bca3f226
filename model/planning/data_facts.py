"""Looks at a data set: the facts from which a plan is made."""

import hashlib
from dataclasses import dataclass
from math import inf

import numpy as np
import numpy.typing as npt

from darkroom.model.datasets.dataset import ImageDataset
from darkroom.model.images.compare import distances, thumbnails
from darkroom.model.images.ground import on_flat_ground
from darkroom.model.words import several

SAMPLE = 300
"""Images of a class that are compared with their mirror images."""
FEWEST_TO_MIRROR = 20
"""Different images from which a class tells whether its mirror images look like it."""
FARTHER = 1.3
"""Ratio of distances from which an image lies farther away."""
FARTHER_SHARE = 0.1
"""A class is not mirrored if so many more of its images lie farther from the others when mirrored than lie nearer."""
GROUNDS = 2000
"""Images whose ground is looked at."""


@dataclass(frozen=True)
class DataFacts:
    """The facts of a data set. side: in pixels. distinct: images without exact repeats.

    mirrors: for each class, True when its mirrored images look like its others, so that training may flip them.
    flat_grounds: share of the images on a ground of one colour. Both are None where nobody has looked.
    """

    channels: int
    side: int
    class_names: tuple[str, ...]
    class_counts: tuple[int, ...]
    distinct: int
    mirrors: tuple[bool, ...] | None
    flat_grounds: float | None

    @property
    def images(self) -> int:
        """The number of images."""
        return sum(self.class_counts)

    def told(self) -> str:
        """Return the facts for people."""
        ground = "" if self.flat_grounds is None else f", {self.flat_grounds:.0%} on a flat ground"
        pictures, classes = several(self.images, "picture"), several(len(self.class_counts), "class")
        return f"{pictures} of {classes}, {self.distinct:,} of them different{ground}"


def look_at(dataset: ImageDataset) -> DataFacts:
    """Return the facts of a data set."""
    _, channels, side, _ = dataset.images.shape
    distinct = len({hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in dataset.images})
    order = np.random.default_rng(0).permutation(len(dataset))
    flat = on_flat_ground(dataset.images[np.sort(order[:GROUNDS])])
    labels = dataset.labels[order]
    mirrors = tuple(_mirrors(dataset.images, order[labels == label]) for label in range(len(dataset.class_names)))
    return DataFacts(
        channels, side, tuple(dataset.class_names), dataset.class_counts, distinct, mirrors, float(flat.mean())
    )


def _mirrors(images: npt.NDArray[np.uint8], of_class: npt.NDArray[np.int64]) -> bool:
    """Compare how near each mirrored image of a class, and the image itself, lies to the nearest other image of it.

    Letters and digits lie much farther away when they are mirrored; photographs of animals do not. Where mirroring
    changes nothing, as many images come nearer as go farther. In a class of many kinds, a tenth of them decides.
    of_class: the numbers of its images in a random order.
    """
    pictures = np.unique(thumbnails(images[np.sort(of_class[:SAMPLE])]), axis=0)
    if len(pictures) < FEWEST_TO_MIRROR:
        return False
    plain, mirrored = (one.reshape(len(pictures), -1) for one in (pictures, pictures[..., ::-1]))
    own, turned = distances(plain, plain), distances(mirrored, plain)
    for one in (own, turned):
        np.fill_diagonal(one, inf)
    before, after = own.min(axis=1), turned.min(axis=1)
    farther, nearer = (after > FARTHER * before).mean(), (before > FARTHER * after).mean()
    return bool(farther - nearer <= FARTHER_SHARE)
