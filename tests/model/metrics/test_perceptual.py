"""Perceptual distances against the formula for each pair, and the nearest image against a search through all."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import darkroom.model.metrics.perceptual as perceptual
from darkroom.model.config import DatasetConfig, EvaluationConfig, SamplingConfig
from darkroom.model.datasets import ImageDataset, load_dataset
from darkroom.model.metrics.efficientnet import EfficientNetLite0, network_input
from darkroom.model.metrics.evaluation import evaluate
from darkroom.model.metrics.generation import Row
from darkroom.model.metrics.perceptual import NearestImages, PerceptualMeasure, same_class_pairs, sketch
from darkroom.model.metrics.perceptual_distance import embedding
from darkroom.model.metrics.references import FolderReferences
from tests.model.small import random_dataset, small_denoiser


@pytest.fixture(scope="module")
def network() -> EfficientNetLite0:
    return EfficientNetLite0()


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> ImageDataset:
    return load_dataset(DatasetConfig(format="digits"), tmp_path_factory.mktemp("digits"))


def random_maps(count: int, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(count, c, s, s, generator=generator) for c, s in ((3, 4), (5, 2))]


def squared(points: Tensor, others: Tensor) -> Tensor:
    return (points[:, None] - others[None]).square().sum(2)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_distance_of_embeddings_is_zhangs_sum_over_layers_and_places(weighted: bool) -> None:
    x, y = random_maps(1, 0), random_maps(1, 1)
    weights = [torch.rand(3), torch.rand(5)] if weighted else None
    expected = 0.0
    for layer, (a, b) in enumerate(zip(x, y, strict=True)):
        side = a.shape[2]
        for h, w in itertools.product(range(side), range(side)):
            one, other = (m[0, :, h, w] / m[0, :, h, w].norm() for m in (a, b))
            channels = (one - other) ** 2 * (weights[layer] if weights else 1.0)
            expected += float(channels.sum()) / side**2
    assert float(squared(embedding(x, weights), embedding(y, weights))) == pytest.approx(expected, rel=1e-5)


def test_the_extractors_layers_are_the_last_map_of_each_resolution(network: EfficientNetLite0) -> None:
    images = torch.from_numpy(random_dataset(3, channels=3).images)
    maps, x = [], network_input(images)
    with torch.inference_mode():
        for layer in network._layers:
            y = layer(x)
            if y.shape[2] != x.shape[2]:
                maps.append(x)
            x = y
    sides = [one.shape[2] for one in maps[1:]]
    assert sides == [32, 16, 8, 4]
    points = network.embed(images)
    assert points.shape == (3, 28_160)
    parts = sum(one[0].numel() for one in maps[1:])
    torch.testing.assert_close(points[:, :parts], embedding(maps[1:]))


def test_an_image_lies_nearer_to_a_slightly_changed_one_than_to_another(
    network: EfficientNetLite0, digits: ImageDataset
) -> None:
    images = torch.from_numpy(digits.images[:20].copy())
    changed = (images.int() + torch.randint(-6, 7, images.shape, generator=torch.Generator().manual_seed(0))).clamp(
        0, 255
    )
    distances = squared(network.embed(images), network.embed(changed.to(torch.uint8)))
    assert (distances.argmin(1) == torch.arange(20)).all()
    assert squared(network.embed(images), network.embed(images)).diagonal().max() == 0.0


def test_sketches_keep_squared_distances_in_expectation() -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(60, 5000, generator=generator)
    ratio = squared(sketch(points), sketch(points)) / squared(points, points)
    off = ratio[~torch.eye(60, dtype=torch.bool)]
    assert off.mean() == pytest.approx(1.0, abs=0.03)
    assert off.std() < 0.15


def test_the_nearest_image_is_that_of_a_search_through_all(
    network: EfficientNetLite0, digits: ImageDataset, tmp_path: Path
) -> None:
    part = ImageDataset(digits.images[:150], digits.labels[:150], digits.class_names, digits.digest)
    queries = torch.from_numpy(digits.images[150:165].copy())
    queries[0] = torch.from_numpy(digits.images[7].copy())  # an exact copy of a training image
    distances, nearest = NearestImages(network, part, FolderReferences(tmp_path)).distances(queries)
    every = squared(network.embed(queries), network.embed(torch.from_numpy(part.images.copy()))).double()
    assert (float(distances[0]), int(nearest[0])) == (pytest.approx(0.0, abs=1e-9), 7)
    assert (nearest == every.argmin(1)).double().mean() > 0.9
    assert float(distances.mean()) == pytest.approx(float(every.min(1).values.mean()), rel=0.01)


def test_sketches_are_computed_once(
    network: EfficientNetLite0, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, cache = random_dataset(30), FolderReferences(tmp_path)
    queries = torch.from_numpy(random_dataset(3, seed=1).images)
    first = NearestImages(network, dataset, cache).distances(queries)
    monkeypatch.setattr(perceptual, "image_batches", lambda *_: pytest.fail("computed again"))
    again = NearestImages(network, dataset, cache).distances(queries)
    assert torch.equal(first[0], again[0])


def test_pairs_are_of_one_class_and_share_no_image() -> None:
    rows = [Row(label, index) for label, count in ((0, 3), (1, 1), (2, 4)) for index in range(count)]
    assert same_class_pairs(rows) == [(0, 1), (4, 5), (6, 7)]
    assert same_class_pairs([Row(None, index) for index in range(3)]) == [(0, 1)]


@pytest.mark.parametrize("batch", [1, 3, 100])
def test_diversity_is_the_mean_over_the_pairs_however_they_arrive(
    network: EfficientNetLite0, tmp_path: Path, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(perceptual, "_PAIRS_AT_ONCE", 2)
    dataset = random_dataset(11)
    images = torch.from_numpy(dataset.images)
    rows = [Row(label, index) for label, count in ((0, 4), (1, 3), (2, 4)) for index in range(count)]
    measure = PerceptualMeasure(network, rows, NearestImages(network, dataset, FolderReferences(tmp_path)))
    for positions in torch.arange(11).split(batch):
        measure.add(positions.tolist(), images[positions])
    diversity, nearest = measure.figures()
    points = network.embed(images)
    expected = np.mean([float((points[a] - points[b]).square().sum()) for a, b in same_class_pairs(rows)])
    assert diversity.value == pytest.approx(expected, rel=1e-5)
    assert nearest.value == pytest.approx(0.0, abs=1e-6)  # the generated images are the data set's own


def test_both_figures_come_with_their_caps(tmp_path: Path) -> None:
    config = EvaluationConfig(every_images=1, images=9, metrics=("perceptual",))
    arguments = (small_denoiser(), "sha256:0", random_dataset(), config, SamplingConfig(steps=2))
    first, again = (evaluate(*arguments, FolderReferences(tmp_path)) for _ in range(2))
    assert [one.metric for one in first] == [
        "perceptual-efficientnet-lite0-diversity",
        "perceptual-efficientnet-lite0-nearest",
    ]
    assert [(one.value, one.protocol) for one in first] == [(one.value, one.protocol) for one in again]
    assert first[0].protocol["pairs"] == 4
    assert first[1].protocol["nearest_images"] == 9
    assert first[1].protocol["candidates"] == perceptual.CANDIDATES


def test_without_two_images_of_a_class_there_is_no_diversity(tmp_path: Path) -> None:
    config = EvaluationConfig(every_images=1, images=3, metrics=("perceptual",))
    dataset = ImageDataset(random_dataset(6).images, np.arange(6) % 3, random_dataset().class_names, "sha256:1")
    with pytest.raises(ValueError, match="compares two of one: set it to 4"):
        evaluate(small_denoiser(), "sha256:0", dataset, config, SamplingConfig(steps=2), FolderReferences(tmp_path))
