"""Laws of the check of a data set: it finds what was spoiled, and little else."""

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from darkroom.model.config import DatasetConfig
from darkroom.model.datasets.archive_limits import ArchiveLimits
from darkroom.model.datasets.check import Looks, joined_looks, look, look_alikes, outliers
from darkroom.model.datasets.decoded import Decoded
from darkroom.model.datasets.digits import decode_digits


@pytest.fixture(scope="module")
def digits() -> Decoded:
    return decode_digits(DatasetConfig(format="digits"), None, ArchiveLimits())


def _looks(images: npt.NDArray[np.uint8]) -> Looks:
    return look(len(images), lambda indices: images[np.asarray(indices)])


def _scaled(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    small = Image.fromarray(image.transpose(1, 2, 0)).resize((24, 24), Image.Resampling.LANCZOS)
    return np.asarray(small.resize((32, 32), Image.Resampling.LANCZOS)).transpose(2, 0, 1)


def test_copies_are_found_also_when_they_were_scaled_and_in_two_data_sets() -> None:
    blocks = np.random.default_rng(0).integers(0, 256, (300, 3, 8, 8), dtype=np.uint8)
    images = blocks.repeat(4, axis=2).repeat(4, axis=3)
    images[10], images[20], images[30] = images[0], _scaled(images[1]), images[0]
    assert look_alikes(_looks(images)) == [[0, 10, 30], [1, 20]]
    both = joined_looks(_looks(images[:15]), _looks(images[15:]))
    assert look_alikes(both) == [[0, 10, 30], [1, 20]]


def test_a_check_tells_how_many_pictures_it_has_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("darkroom.model.datasets.check.BATCH", 8)
    images = np.random.default_rng(0).integers(0, 256, (20, 1, 8, 8), dtype=np.uint8)
    told: list[tuple[str, int, int | None]] = []
    looks = look(20, lambda indices: images[np.asarray(indices)], lambda *news: told.append(news))
    outliers(looks, np.zeros(20, dtype=np.int64), lambda *news: told.append(news))
    looked = [("looking at pictures", done, 20) for done in (0, 8, 16)]
    assert told == looked + [("comparing pictures", done, 20) for done in (0, 8, 16)]


def test_many_copies_are_one_group_and_flat_pictures_none() -> None:
    images = np.random.default_rng(0).integers(0, 256, (100, 1, 8, 8), dtype=np.uint8)
    images[40:] = images[0]
    images[1], images[2] = 255, 0
    looks = _looks(images)
    assert look_alikes(looks) == [[0, *range(40, 100)]]
    assert np.flatnonzero(looks.flat).tolist() == [1, 2]
    assert look_alikes(_looks(images[:1])) == []


def test_handwritten_digits_are_clean_and_wrong_labels_are_found(digits: Decoded) -> None:
    looks = _looks(digits.images)
    assert look_alikes(looks) == []
    assert len(outliers(looks, digits.labels)) <= 5
    labels, moved = digits.labels.copy(), np.arange(7, 1500, 100)
    labels[moved] = (labels[moved] + 3) % 10
    found = outliers(looks, labels)
    assert len(set(found) & set(moved.tolist())) >= 12
    assert len(found) <= len(moved) + 5


def test_a_picture_unlike_all_others_is_an_outlier(digits: Decoded) -> None:
    images = digits.images.copy()
    images[5] = np.random.default_rng(0).integers(0, 2, (1, 8, 8)) * 255
    assert outliers(_looks(images), digits.labels)[0] == 5


def _texture_classes() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Return stripes of random phase and width, and speckles: their thumbnails differ from picture to picture."""
    random = np.random.default_rng(3)
    x = np.arange(32)[None, :] + np.zeros((32, 1))
    stripes = [127 + 100 * np.sin(x * random.uniform(0.8, 1.6) + random.uniform(0, 7)) for _ in range(150)]
    speckles = [127 + random.uniform(30, 60) * random.standard_normal((32, 32)) for _ in range(150)]
    images = np.clip(np.array([*stripes, *speckles]), 0, 255).astype(np.uint8)[:, None]
    return images, np.repeat(np.arange(2), 150)


def test_a_foreign_picture_among_textures_is_found_and_textures_are_not_accused(digits: Decoded) -> None:
    images, labels = _texture_classes()
    assert len(outliers(_looks(images), labels)) <= 1
    foreign = [7, 160]
    for place in foreign:
        images[place] = digits.images[place].repeat(4, axis=1).repeat(4, axis=2)
    found = outliers(_looks(images), labels)
    assert set(found[:2]) == set(foreign)
    assert len(found) <= 3
