"""Looks for what spoils a data set: repeated pictures, pictures unlike their class, flat pictures, unequal classes."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from darkroom.model.progress import OnProgress, silent

HASH_BITS = 64
HASH_DISTANCE = 10
"""Most different bits of the perceptual hashes of two pictures that look alike."""
LOOKS_ALIKE = 8.0
"""Largest root mean square difference of their thumbnails, of 255."""
THUMBNAIL = 8
NEIGHBOURS = 8
FLAT = 2.0
"""Largest standard deviation of the values of a flat picture."""
OUTLIER = 6.0
"""Number of robust standard deviations by which an outlier is farther from its class than the median."""
STRANGE = 2.0
"""The same for pictures whose nearest neighbours are all of other classes."""
VOTERS = 5
MOST_STRANGE = 0.1
"""Share of a class from which that says nothing, as its thumbnails are like those of other classes."""
REFERENCES = 4000
FEWEST_OF_CLASS = 20
"""Smallest class in which outliers are looked for."""
BATCH = 512
SCALES = 3
TEXTURES = 3 + 3 + SCALES * 4 * 2
LEAST_SIDE = 16
"""Side of the smallest pictures whose texture is looked at."""
FOREIGN = 4.5
"""The same for the logarithm of the distance by texture, which alone makes an outlier."""
UNUSUAL = 1.0
"""The same for a picture that is an outlier by its thumbnail: its texture must not be ordinary."""
CORE = 0.9
"""Share of a class that says how its textures vary. The pictures farthest from the median are left out."""


@dataclass(frozen=True)
class Looks:
    """What a check needs of each picture. hashes: (N,) uint64; thumbnails: (N, D) float32; flat: (N,) bool.

    textures: (N, T) float32, from `textures`. contents: a digest of each picture's pixels.
    """

    hashes: npt.NDArray[np.uint64]
    thumbnails: npt.NDArray[np.float32]
    textures: npt.NDArray[np.float32]
    flat: npt.NDArray[np.bool_]
    contents: tuple[bytes, ...]


def look(
    count: int, images: Callable[[Sequence[int]], npt.NDArray[np.uint8]], on_progress: OnProgress = silent
) -> Looks:
    """Look at `count` pictures. images: returns those of some indices as (N, C, S, S)."""
    hashes = np.empty(count, dtype=np.uint64)
    thumbnails = np.empty((count, 3 * THUMBNAIL**2), dtype=np.float32)
    flat = np.empty(count, dtype=np.bool_)
    contents: list[bytes] = []
    seen = [np.empty((0, TEXTURES), dtype=np.float32)]
    for start in range(0, count, BATCH):
        on_progress("looking at pictures", start, count)
        batch = images(range(start, min(start + BATCH, count)))
        seen.append(textures(batch))
        for place, image in enumerate(batch, start):
            picture = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)).squeeze())
            hashes[place] = perceptual_hash(picture)
            small = picture.convert("RGB").resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
            thumbnails[place] = np.asarray(small, dtype=np.float32).reshape(-1)
            flat[place] = image.std(axis=(1, 2)).max() <= FLAT
            contents.append(hashlib.blake2b(image.tobytes(), digest_size=16).digest())
    return Looks(hashes, thumbnails, np.concatenate(seen), flat, tuple(contents))


def textures(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Return what is independent of where things are: images (N, C, S, S) -> (N, TEXTURES); zeros for tiny images.

    Means and contrasts of the colours, and at three scales the mean and the median difference of neighbours in four
    directions.
    """
    if images.shape[2] < LEAST_SIDE:
        return np.zeros((len(images), TEXTURES), dtype=np.float32)
    values = np.broadcast_to(images, (len(images), 3, *images.shape[2:])).astype(np.float32)
    parts = [values.mean(axis=(2, 3)), np.log1p(values.std(axis=(2, 3)))]
    grey = values.mean(axis=1)
    for _ in range(SCALES):
        for other, one in (
            (grey[:, :, 1:], grey[:, :, :-1]),
            (grey[:, 1:], grey[:, :-1]),
            (grey[:, 1:, 1:], grey[:, :-1, :-1]),
            (grey[:, 1:, :-1], grey[:, :-1, 1:]),
        ):
            steps = np.abs(other - one).reshape(len(grey), -1)
            parts.append(np.log1p(np.stack([steps.mean(axis=1), np.median(steps, axis=1)], axis=1)))
        half = grey.shape[1] // 2
        grey = grey[:, : 2 * half, : 2 * half].reshape(len(grey), half, 2, half, 2).mean(axis=(2, 4))
    return np.concatenate(parts, axis=1).astype(np.float32)


def perceptual_hash(picture: Image.Image) -> int:
    """Return the difference hash (dHash): 64 bits that say which of two neighbouring blocks is the brighter one."""
    grey = np.asarray(picture.convert("L").resize((9, 8), Image.Resampling.BOX), dtype=np.int16)
    return int.from_bytes(np.packbits(grey[:, 1:] > grey[:, :-1]).tobytes(), "big")


def joined_looks(one: Looks, other: Looks) -> Looks:
    """Return the looks of the pictures of two data sets."""
    return Looks(
        np.concatenate([one.hashes, other.hashes]),
        np.concatenate([one.thumbnails, other.thumbnails]),
        np.concatenate([one.textures, other.textures]),
        np.concatenate([one.flat, other.flat]),
        one.contents + other.contents,
    )


def look_alikes(looks: Looks) -> list[list[int]]:
    """Return the groups of pictures that look alike, each in rising order. Flat pictures are in no group.

    It compares each picture with its neighbours in four orders of the hashes, which begin with other bits, so that the
    time grows little faster than the number of pictures. It may miss some pairs, but no identical ones.
    """
    groups = _Groups(len(looks.hashes))
    for one, other in _candidates(looks.hashes):
        differing = np.bitwise_count(looks.hashes[one] ^ looks.hashes[other])
        near = (differing <= HASH_DISTANCE) & ~looks.flat[one] & ~looks.flat[other]
        one, other = one[near], other[near]
        distances = np.sqrt(np.mean((looks.thumbnails[one] - looks.thumbnails[other]) ** 2, axis=1))
        for first, second in zip(one[distances <= LOOKS_ALIKE], other[distances <= LOOKS_ALIKE], strict=True):
            groups.join(int(first), int(second))
    return groups.found()


def _candidates(hashes: npt.NDArray[np.uint64]) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    for turn in range(0, HASH_BITS, HASH_BITS // 4):
        turned = (hashes << np.uint64(turn)) | (hashes >> np.uint64((HASH_BITS - turn) % HASH_BITS))
        order = np.argsort(turned, kind="stable")
        for distance in range(1, min(NEIGHBOURS, len(order) - 1) + 1):
            yield order[:-distance], order[distance:]


class _Groups:
    """Joins numbers into groups (union-find)."""

    def __init__(self, count: int) -> None:
        self._parents = list(range(count))

    def _root(self, number: int) -> int:
        while self._parents[number] != number:
            self._parents[number] = self._parents[self._parents[number]]
            number = self._parents[number]
        return number

    def join(self, one: int, other: int) -> None:
        low, high = sorted((self._root(one), self._root(other)))
        self._parents[high] = low

    def found(self) -> list[list[int]]:
        groups: dict[int, list[int]] = {}
        for number in range(len(self._parents)):
            groups.setdefault(self._root(number), []).append(number)
        return [group for group in groups.values() if len(group) > 1]


def outliers(looks: Looks, labels: npt.NDArray[np.int64], on_progress: OnProgress = silent) -> list[int]:
    """Return the pictures that are unlike the others of their class, the least alike first.

    Such a picture is much farther from the nearest one of its class than others are, by its thumbnail and by its
    texture: in a class of textures, thumbnails alone accuse ordinary pictures and miss foreign ones. Or its nearest
    neighbours are all of other classes. Large data sets are compared with a sample of REFERENCES pictures.
    """
    chosen = np.sort(np.random.default_rng(0).permutation(len(labels))[:REFERENCES])
    references, their_labels = looks.thumbnails[chosen], labels[chosen]
    own, strange = np.full(len(labels), np.nan), np.zeros(len(labels), dtype=np.bool_)
    for start in range(0, len(labels), BATCH):
        on_progress("comparing pictures", start, len(labels))
        here = slice(start, start + BATCH)
        squares = _squared_distances(looks.thumbnails[here], references)
        squares[chosen[None, :] == np.arange(len(labels))[here, None]] = np.inf  # not with itself
        same = labels[here, None] == their_labels[None, :]
        own[here] = np.sqrt(np.where(same, squares, np.inf).min(axis=1, initial=np.inf))
        if len(chosen) > VOTERS:
            strange[here] = ~np.take_along_axis(same, np.argpartition(squares, VOTERS, axis=1)[:, :VOTERS], 1).any(
                axis=1
            )
    excess = np.zeros(len(labels))
    for label in np.unique(labels):
        ours = np.flatnonzero((labels == label) & np.isfinite(own))
        if len(ours) >= FEWEST_OF_CLASS:
            middle = np.median(own[ours])
            excess[ours] = (own[ours] - middle) / max(float(_spread(own[ours] - middle)), 1.0)
        if strange[ours].mean() > MOST_STRANGE:
            strange[ours] = False
    far, moved = excess > OUTLIER, strange & (excess > STRANGE)
    if looks.textures.any():
        by_texture = _texture_excess(looks, labels)
        far = (far & (by_texture > UNUSUAL)) | (by_texture > FOREIGN)
        excess = np.maximum(excess, by_texture)
    found = np.flatnonzero(far | moved)
    return [int(index) for index in found[np.argsort(-excess[found], kind="stable")]]


def _squared_distances(ones: npt.NDArray[np.float32], others: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return all squared Euclidean distances. ones: (N, D); others: (M, D); returns (N, M)."""
    squares = (ones**2).sum(axis=1)[:, None] + (others**2).sum(axis=1)[None, :] - 2.0 * ones @ others.T
    return np.asarray(np.maximum(squares, 0.0))


def _texture_excess(looks: Looks, labels: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return by how many robust standard deviations each picture's nearest texture in its class is too far, (N,).

    Textures are compared after each class's own variation is divided out, so that a class of one texture and one of
    many are judged alike.
    """
    excess = np.zeros(len(labels))
    members = [ours for label in np.unique(labels) if len(ours := np.flatnonzero(labels == label)) >= FEWEST_OF_CLASS]
    if not members:
        return excess
    medians = [np.median(looks.textures[ours], axis=0) for ours in members]
    rest = np.concatenate([looks.textures[ours] - middle for ours, middle in zip(members, medians, strict=True)])
    of_all = np.cov(rest.T)
    random = np.random.default_rng(0)
    for ours, middle in zip(members, medians, strict=True):
        away = looks.textures[ours] - middle
        far = np.abs(away / (_spread(away) + 0.01)).max(axis=1)
        core = away[far <= np.quantile(far, CORE)]
        # A share of all classes' variation and a little of every direction keep a small class's covariance invertible.
        covariance = 0.8 * np.cov(core.T) + 0.04 * of_all + 1e-4 * np.eye(TEXTURES)
        variances, axes = np.linalg.eigh(covariance)
        white = ((away - core.mean(axis=0)) @ axes / np.sqrt(variances)).clip(-30.0, 30.0).astype(np.float32)
        chosen = np.sort(random.permutation(len(ours))[: REFERENCES // 2])
        nearest = np.empty(len(ours))
        for start in range(0, len(ours), BATCH):
            here = np.arange(start, min(start + BATCH, len(ours)))
            squares = _squared_distances(white[here], white[chosen])
            squares[chosen[None, :] == here[:, None]] = np.inf  # not with itself
            nearest[here] = np.log(np.sqrt(squares.min(axis=1)) + 0.01)
        excess[ours] = (nearest - np.median(nearest)) / max(float(_spread(nearest - np.median(nearest))), 0.15)
    return excess


def _spread(away: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Return the robust standard deviation of distances from the median, along the first axis."""
    return np.asarray(1.4826 * np.median(np.abs(away), axis=0))
