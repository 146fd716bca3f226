"""Laws of the anchors: a data set's own pictures are nearer to it than noise is, and a stop ends the work."""

from pathlib import Path

import numpy as np
import pytest

from darkroom.model.datasets.dataset import ImageDataset
from darkroom.model.diffusion.denoiser import SamplingStopped
from darkroom.model.metrics.anchors import distance_of, noise_distance, own_distance
from darkroom.model.metrics.references import FolderReferences


def flat_pictures(count: int = 60) -> ImageDataset:
    levels = np.random.default_rng(1).integers(0, 256, (count, 3, 1, 1), dtype=np.uint8)
    return ImageDataset(levels.repeat(8, 2).repeat(8, 3), np.zeros(count, np.int64), ("flat",), "sha256:flat")


def test_own_pictures_lie_between_all_of_them_and_noise(tmp_path: Path) -> None:
    data, references = flat_pictures(), FolderReferences(tmp_path)
    everything = distance_of(data.images, data, references)
    few, many = (own_distance(data, references, images) for images in (10, 1_000_000))
    assert everything == pytest.approx(0.0, abs=1.0)
    assert everything < many < few < noise_distance(data, references)


def test_a_stop_ends_the_work(tmp_path: Path) -> None:
    with pytest.raises(SamplingStopped):
        own_distance(flat_pictures(), FolderReferences(tmp_path), 10, lambda: True)
