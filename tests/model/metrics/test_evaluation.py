"""An evaluation draws the service's images, is reproducible, and caches the reference statistics."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load
from torch import Tensor

import darkroom.model.metrics.feature_measures as feature_measures
import darkroom.model.metrics.generation as generation
import darkroom.model.metrics.reference_images as reference_images
from darkroom.model.config import DatasetConfig, EvaluationConfig, SamplingConfig
from darkroom.model.datasets import ImageDataset, load_dataset
from darkroom.model.diffusion.denoiser import Denoiser, SamplingStopped
from darkroom.model.figure import Figure
from darkroom.model.images.pixels import to_pixels
from darkroom.model.metrics.efficientnet import EfficientNetLite0
from darkroom.model.metrics.evaluation import EvaluationError, FolderReferences, ReferenceCache, class_counts, evaluate
from darkroom.model.metrics.fid import FeatureStatistics, FrechetReference, frechet_distance
from darkroom.model.metrics.frontier_measurement import measure_frontier
from darkroom.model.metrics.generation import plan_drawing
from darkroom.model.protocol import protocol_digest, protocol_string
from darkroom.model.sampling.draw import RowPlan, plan_row, sample
from tests.model.small import CLASS_NAMES, random_dataset, small_denoiser

WEIGHTS = "sha256:0123"
CONFIG = EvaluationConfig(every_images=1000, images=11, batch_images=4, seed=5)
SAMPLING = SamplingConfig(steps=2, guidance=2.0)


class Remembered:
    """A cache that counts its calls."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.puts = 0

    def get(self, key: str) -> bytes | None:
        return self.kept.get(key)

    def put(self, key: str, data: bytes) -> None:
        self.puts += 1
        self.kept[key] = data


def run(
    references: ReferenceCache,
    denoiser: Denoiser | None = None,
    dataset: ImageDataset | None = None,
    config: EvaluationConfig = CONFIG,
    sampling: SamplingConfig = SAMPLING,
) -> Figure:
    chosen = dataset or random_dataset()
    (found,) = evaluate(denoiser or small_denoiser(), WEIGHTS, chosen, config, sampling, references)
    return found


def distance_of(images: Tensor, dataset: ImageDataset) -> float:
    """Compute the Fréchet distance without batches and cache. images: (N, C, H, W) uint8."""
    extractor = EfficientNetLite0()
    found, reference = FeatureStatistics(extractor.dimension), FeatureStatistics(extractor.dimension)
    found.add(extractor.features(images))
    reference.add(extractor.features(torch.from_numpy(dataset.images)))
    return frechet_distance(found, FrechetReference.of(reference))


def watch_plans(monkeypatch: pytest.MonkeyPatch) -> list[RowPlan]:
    """Return a list that collects the rows of later evaluations."""
    seen: list[RowPlan] = []

    def watching(denoiser: Denoiser, plans: Sequence[RowPlan], **settings: Any) -> Tensor:
        seen.extend(plans)
        return sample(denoiser, plans, **settings)

    monkeypatch.setattr(generation, "sample", watching)
    return seen


@pytest.fixture
def digits(tmp_path: Path) -> ImageDataset:
    return load_dataset(DatasetConfig(format="digits"), tmp_path / "digits")


def test_the_value_is_the_distance_of_the_served_images() -> None:
    denoiser, dataset = small_denoiser(), random_dataset()
    counts = class_counts(dataset.labels, len(CLASS_NAMES), CONFIG.images)
    plans = [
        plan_row(denoiser, SAMPLING, label=label, seed=CONFIG.seed, index=index)
        for label, count in enumerate(counts)
        for index in range(count)
    ]
    images = torch.from_numpy(to_pixels(sample(denoiser, plans))).permute(0, 3, 1, 2)
    found = run(Remembered(), denoiser, dataset)
    assert found.metric == "fid-efficientnet-lite0"
    assert found.value == pytest.approx(distance_of(images, dataset), rel=1e-4)


def test_the_same_arguments_give_the_same_value_to_the_last_digit(tmp_path: Path) -> None:
    first = run(FolderReferences(tmp_path / "a"))
    kept = run(FolderReferences(tmp_path / "a"))
    afresh = run(FolderReferences(tmp_path / "b"))
    assert first.value == kept.value == afresh.value
    assert first.protocol == kept.protocol == afresh.protocol


def test_another_seed_guidance_or_step_count_is_another_value_and_protocol() -> None:
    cache = Remembered()
    found = [run(cache, config=CONFIG.model_copy(update=change)) for change in ({}, {"seed": 6}, {"steps": 3})]
    found += [run(cache, config=CONFIG.model_copy(update={"guidance": guidance})) for guidance in (0.0, 1.0)]
    assert len({one.value for one in found}) == len(found)
    assert len({one.protocol_digest for one in found}) == len(found)


def test_the_protocol_is_the_same_for_other_weights_and_says_what_was_done() -> None:
    dataset = random_dataset()
    first = run(Remembered(), dataset=dataset, config=CONFIG.model_copy(update={"steps": 3, "guidance": 1.5}))
    second = run(Remembered(), small_denoiser("eps"), dataset, CONFIG.model_copy(update={"steps": 3, "guidance": 1.5}))
    assert first.value != second.value
    assert first.protocol == second.protocol
    assert dict(first.protocol) == {
        "metric": "fid-efficientnet-lite0",
        "extractor": "efficientnet-lite0",
        "extractor_weights_digest": EfficientNetLite0.weights_digest,
        "extractor_resize": "bicubic-antialias",
        "extractor_input_pixels": 64,
        "extractor_normalisation": "(x - 127) / 128",
        "reference_dataset_digest": dataset.digest,
        "reference_images": 20,
        "reference_split": "train",
        "weights": "ema",
        "images": 11,
        "classes": "data-set-proportions",
        "seed": 5,
        "indices": "0..4",
        "batch_images": 4,
        **SAMPLING.model_copy(update={"steps": 3, "guidance": 1.5}).effective(),
    }


def test_every_setting_of_the_sampling_tells_protocols_apart_unless_it_is_known_to_be_idle() -> None:
    """The test changes one field at a time. It fails for a new field that `effective` leaves out."""
    at_work = {"eta": {"sampler": "ddim"}, "variance": {"sampler": "ddpm"}, "percentile": {"threshold": "dynamic"}}
    dataset = random_dataset()
    for name, field in SamplingConfig.model_json_schema()["properties"].items():
        base = SamplingConfig.model_validate({"steps": 2, "guidance": 2.0, **at_work.get(name, {})})
        default = getattr(base, name)
        literal = [one for one in field.get("enum", ()) if one != default]
        by_kind = {float: 0.25, int: 3, type(None): (0.25, 4.0)}
        other = literal[0] if literal else by_kind[type(default)]
        facts = [
            plan_drawing(dataset, len(CLASS_NAMES), CONFIG, one).facts
            for one in (base, base.model_copy(update={name: other}))
        ]
        assert facts[0] != facts[1], name
        assert protocol_string(facts[0]) != protocol_string(facts[1]), name


@pytest.mark.parametrize(
    ("sampling", "idle"),
    [
        ({"sampler": "ddim"}, {"variance": "beta"}),
        ({"sampler": "ddpm"}, {"eta": 0.5}),
        ({"sampler": "dpmpp_2m"}, {"eta": 0.5, "variance": "beta"}),
        ({"threshold": "static"}, {"percentile": 0.5}),
    ],
)
def test_settings_without_effect_do_not_tell_protocols_apart(sampling: dict[str, Any], idle: dict[str, Any]) -> None:
    cache = Remembered()
    one, other = (
        run(cache, sampling=SamplingConfig.model_validate({"steps": 2, **sampling, **extra})) for extra in ({}, idle)
    )
    assert one.value == other.value
    assert one.protocol_digest == other.protocol_digest


def test_figures_of_a_gpu_have_another_protocol_that_says_how_it_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    denoiser = small_denoiser()
    on_gpu = Denoiser(denoiser.config, denoiser.class_names, denoiser.network, torch.device("cuda")).device_facts
    assert on_gpu == {"device": "cuda", "precision": "float32, convolutions in tf32"}
    assert not denoiser.device_facts
    config = CONFIG.model_copy(update={"metrics": ("fid", "bits_per_dimension"), "bound_images": 2, "bound_times": 2})
    references = Remembered()

    def protocols() -> list[dict[str, Any]]:
        found = evaluate(denoiser, WEIGHTS, random_dataset(), config, SAMPLING, references)
        return [dict(figure.protocol) for figure in found]

    here = protocols()
    monkeypatch.setattr(Denoiser, "device_facts", on_gpu)
    assert protocols() == [protocol | on_gpu for protocol in here]

    def frontier(known: Sequence[Figure]) -> list[Figure]:
        cells = [SAMPLING]
        return list(measure_frontier(denoiser, WEIGHTS, random_dataset(), config, cells, references, known=known))

    (point,) = frontier([])
    assert point.protocol == here[0] | on_gpu
    assert frontier([point]) == []


def test_the_digest_of_a_protocol_does_not_depend_on_order() -> None:
    assert protocol_digest({"a": 1, "b": None}) == protocol_digest({"b": None, "a": 1})
    assert protocol_digest({"a": 1}) != protocol_digest({"a": "1"})
    assert protocol_digest({"a": 1, "b": None}).startswith("sha256:")


@given(st.lists(st.integers(0, 4), min_size=1, max_size=200), st.integers(2, 500))
def test_classes_get_their_shares_to_less_than_one_image(labels: list[int], images: int) -> None:
    counts = class_counts(np.array(labels), 5, images)
    assert sum(counts) == images
    of = Counter(labels)
    for label, count in enumerate(counts):
        assert abs(count * len(labels) - images * of[label]) < len(labels)


def test_remainders_are_filled_from_the_largest_and_ties_from_the_lowest_class() -> None:
    assert class_counts(np.array([0, 1, 2]), 3, 4) == [2, 1, 1]
    assert class_counts(np.repeat([0, 1, 2], [46, 23, 31]), 3, 10) == [5, 2, 3]


def test_without_guidance_no_image_is_drawn_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = watch_plans(monkeypatch)
    run(Remembered(), config=CONFIG.model_copy(update={"guidance": 0.0}))
    assert sorted(plan.index for plan in seen) == list(range(11))


def test_the_reference_is_computed_once_for_a_data_set() -> None:
    cache, other = Remembered(), random_dataset(seed=1)
    for config in (CONFIG, CONFIG.model_copy(update={"batch_images": 3, "seed": 9})):
        run(cache, config=config)
    assert cache.puts == 1
    run(cache, dataset=other)
    assert cache.puts == len(cache.kept) == 2


def test_a_damaged_or_foreign_reference_is_computed_again() -> None:
    cache = Remembered()
    value = run(cache).value
    run(cache, dataset=random_dataset(seed=1))
    (key, data), (_, foreign) = cache.kept.items()
    for wrong in (data[: len(data) // 2], b"", foreign):
        cache.kept[key] = wrong
        assert run(cache).value == value
        assert cache.kept[key] == data


def test_a_large_data_set_gives_evenly_spaced_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference_images, "REFERENCE_IMAGES", 5)
    dataset = random_dataset(20)
    found = run(Remembered(), dataset=dataset)
    part = replace(dataset, images=dataset.images[::4], labels=dataset.labels[::4])
    monkeypatch.undo()
    assert found.protocol["reference_images"] == 5
    counts = class_counts(dataset.labels, len(CLASS_NAMES), CONFIG.images)
    monkeypatch.setattr(generation, "class_counts", lambda *_: counts)
    assert run(Remembered(), dataset=part).value == pytest.approx(found.value, rel=1e-9)


@pytest.mark.parametrize("asked", [0, 1, 2, 3])
def test_it_stops_between_batches(asked: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is one batch of the reference, then three batches of drawn images."""
    seen, answers = watch_plans(monkeypatch), iter([False] * asked + [True])
    with pytest.raises(SamplingStopped):
        evaluate(small_denoiser(), WEIGHTS, random_dataset(), CONFIG, SAMPLING, Remembered(), lambda: next(answers))
    assert len(seen) == max(0, asked - 1) * CONFIG.batch_images


def test_it_tells_how_far_it_is() -> None:
    told: dict[str, list[tuple[int, int]]] = {}
    config = CONFIG.model_copy(
        update={"metrics": (*CONFIG.metrics, "bits_per_dimension"), "bound_images": 3, "bound_times": 4}
    )
    references = Remembered()
    for again in (False, True):  # the data set's statistics are stored the first time
        told.clear()
        evaluate(
            small_denoiser(),
            WEIGHTS,
            random_dataset(),
            config,
            SAMPLING,
            references,
            on_progress=lambda what, done, total: told.setdefault(what, []).append((done, total)),
        )
        for numbers in told.values():
            assert numbers == sorted(numbers)
            assert numbers[0][0] == 0
        assert told["drawing images"][-1] == (CONFIG.images, CONFIG.images)
        assert len(told["computing the bound"]) == -(-3 * 4 // CONFIG.batch_images)
        assert {what: total for what, ((_, total), *_) in told.items()} == {
            "drawing images": CONFIG.images,
            "computing the bound": 3,
        } | ({} if again else {"looking at the data set's images": len(random_dataset())})


def test_a_model_that_does_not_fit_the_data_set_is_refused() -> None:
    with pytest.raises(EvaluationError, match=rf"{WEIGHTS}.*\(1, 8, 8\).*\(3, 8, 8\)"):
        run(Remembered(), dataset=random_dataset(channels=3))
    with pytest.raises(EvaluationError, match=r"of 3 classes.* of 2"):
        run(Remembered(), dataset=replace(random_dataset(), class_names=("a", "b")))
    with pytest.raises(EvaluationError, match="fid needs 2 images of the data set or more, and there are 1"):
        run(Remembered(), dataset=random_dataset(1))


def test_more_steps_than_the_model_has_are_refused_before_the_reference_is_computed() -> None:
    cache, config = Remembered(), small_denoiser().config
    short = config.model_copy(update={"schedule": config.schedule.model_copy(update={"steps": 10})})
    denoiser = Denoiser(short, CLASS_NAMES, small_denoiser().network)
    with pytest.raises(ValueError, match="steps must be between"):
        run(cache, denoiser, config=CONFIG.model_copy(update={"steps": 11}))
    assert not cache.kept


def test_images_that_are_not_finite_have_no_distance() -> None:
    broken = Denoiser(small_denoiser().config, CLASS_NAMES, lambda x, t, labels: x * torch.nan)
    with pytest.raises(EvaluationError, match=WEIGHTS):
        run(Remembered(), broken, sampling=SamplingConfig(steps=2, threshold="none"))


def test_real_halves_lie_nearer_to_each_other_than_noise_or_flat_images_do(digits: ImageDataset) -> None:
    half = replace(digits, images=digits.images[:800:2].copy(), labels=digits.labels[:800:2])
    other = torch.from_numpy(digits.images[1:800:2].copy())
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, other.shape, generator=generator, dtype=torch.uint8)
    blurred = torch.nn.functional.avg_pool2d(other.float(), 3, 1, 1).to(torch.uint8)
    real, blurry, noisy = (distance_of(images, half) for images in (other, blurred, noise))
    assert 0.0 < real < 0.3 * min(blurry, noisy)


def test_all_figures_of_one_evaluation_come_from_one_pass_and_name_their_extractor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = watch_plans(monkeypatch)
    every = CONFIG.model_copy(update={"metrics": ("confidence", "precision_recall", "kid", "fid")})
    found = evaluate(small_denoiser(), WEIGHTS, random_dataset(), every, SAMPLING, Remembered())
    assert [one.metric.removesuffix("-efficientnet-lite0") for one in found] == [
        "fid",
        "kid",
        "precision",
        "recall",
        "confidence",
    ]
    assert all(one.metric.endswith("-efficientnet-lite0") and one.protocol["metric"] == one.metric for one in found)
    assert len(seen) == CONFIG.images
    assert len({one.protocol_digest for one in found}) == len(found)


def test_what_else_is_measured_changes_no_figure() -> None:
    denoiser, dataset, cache = small_denoiser(), random_dataset(), Remembered()
    every = CONFIG.model_copy(update={"metrics": ("fid", "kid", "precision_recall", "confidence")})
    together = {one.metric: one for one in evaluate(denoiser, WEIGHTS, dataset, every, SAMPLING, cache)}
    for name in every.metrics:
        for one in evaluate(denoiser, WEIGHTS, dataset, every.model_copy(update={"metrics": (name,)}), SAMPLING, cache):
            assert one.value == together[one.metric].value
            assert one.protocol == together[one.metric].protocol


def test_the_sample_of_features_has_a_limit_that_the_protocol_states(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (reference_images, feature_measures):
        monkeypatch.setattr(module, "SAMPLE_IMAGES", 6)
    config = CONFIG.model_copy(update={"metrics": ("kid", "precision_recall")})
    cache = Remembered()
    for one in evaluate(small_denoiser(), WEIGHTS, random_dataset(), config, SAMPLING, cache):
        assert one.protocol["sample_images"] == 6
        assert one.protocol["reference_sample_images"] == 6
    (data,) = cache.kept.values()
    assert load(data)["features"].shape[0] == 6


def test_too_few_images_for_a_manifold_are_refused() -> None:
    config = CONFIG.model_copy(update={"metrics": ("precision_recall",), "images": 3})
    with pytest.raises(EvaluationError, match="needs 4 generated images"):
        evaluate(small_denoiser(), WEIGHTS, random_dataset(), config, SAMPLING, Remembered())


def test_the_protocols_line_has_a_fixed_order_and_leaves_out_settings_without_effect() -> None:
    protocol = {"steps": 20, "metric": "fid-x", "eta": None, "extractor": "x", "weights_digest": "sha256:" + "0" * 64}
    line = "fid-x; extractor=x; steps=20; weights_digest=sha256:000000000000"
    assert protocol_string(protocol) == protocol_string(dict(reversed(protocol.items()))) == line
