"""Laws of the early verdict: real pictures are never found wrong, and spoiled ones are, with their class.

The data sets are the bundled digits, smooth colour drawings and speckled textures: three kinds of grain.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.datasets import load_digits

from darkroom.model.config import ModelConfig
from darkroom.model.training.finding import Finding, failed
from darkroom.model.training.forecast import recognisable_images
from darkroom.model.training.verdict import (
    FEW_OF_A_CLASS,
    WHITE_NOISE_GRAIN,
    Reference,
    contrast,
    grain,
    judge_data,
    judge_losses,
    judge_pictures,
    little_training,
    look_at_training,
    saturation,
)

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]
Data = tuple[Pixels, Labels]

SIDE = 16
A_CLASS = 8
"""Pictures of each class in a grid."""


def digits() -> Data:
    images, labels = load_digits(return_X_y=True)
    return np.rint(images * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8), labels.astype(np.int64)


def drawings() -> Data:
    """Return discs, bars and crosses of random place, size and colour, with soft edges."""
    random = np.random.default_rng(5)
    y, x = np.mgrid[:SIDE, :SIDE].astype(float)
    images, labels = [], np.arange(600) % 3
    for label in labels.tolist():
        cy, cx, size = random.uniform(5, 11), random.uniform(5, 11), random.uniform(3, 6)
        away = (np.hypot(y - cy, x - cx), np.maximum(abs(y - cy), 3 * abs(x - cx)), abs(abs(y - cy) - abs(x - cx)) * 2)
        shape = 1 / (1 + np.exp(2 * (away[label] - size)))
        ground, colour = random.uniform(0, 255, (2, 3, 1, 1))
        images.append(ground + (colour - ground) * shape)
    return np.rint(np.array(images)).astype(np.uint8), labels.astype(np.int64)


def textures() -> Data:
    """Return speckled pictures: dark ones, and light ones. Their grain is half of white noise's."""
    random = np.random.default_rng(6)
    labels = np.arange(400) % 2
    base = np.where(labels == 0, 80, 170)[:, None, None, None] + 40 * random.standard_normal((400, 1, 1, 1))
    slopes = np.linspace(-60, 60, SIDE) * random.uniform(-1, 1, (400, 1, 1, 1))
    images = base + slopes + 25 * random.standard_normal((400, 1, SIDE, SIDE))
    return np.clip(images, 0, 255).astype(np.uint8), labels.astype(np.int64)


SETS: dict[str, Callable[[], Data]] = {"digits": digits, "drawings": drawings, "textures": textures}


class Case:
    """A data set in two halves: the training pictures, and held-out ones."""

    def __init__(self, data: Data) -> None:
        images, labels = data
        order = np.random.default_rng(0).permutation(len(images))
        self.images, self.labels = images[order], labels[order]
        self.half = len(images) // 2
        self.names = tuple(f"class {label}" for label in range(labels.max() + 1))
        self.reference = self.look(self.images[: self.half], self.labels[: self.half])

    def look(self, images: Pixels, labels: Labels) -> Reference:
        return look_at_training(images, labels, self.names, flipped=[False] * len(self.names))

    def grid(self, seed: int, *, held_out: bool = True) -> Data:
        """Return A_CLASS random pictures of each class, in the order of a sample grid."""
        random = np.random.default_rng(seed)
        part = slice(self.half, None) if held_out else slice(self.half)
        images, labels = self.images[part], self.labels[part]
        chosen = [
            random.choice(np.flatnonzero(labels == label), A_CLASS, replace=False) for label in range(len(self.names))
        ]
        at = np.concatenate(chosen)
        return images[at], labels[at]

    def found(self, images: Pixels, labels: Labels) -> list[tuple[str, str, str | None]]:
        return [finding.subject for finding in judge_pictures(self.reference, images, labels)]


@pytest.fixture(scope="module", params=SETS)
def case(request: pytest.FixtureRequest) -> Case:
    return Case(SETS[request.param]())


def uniform_noise(like: Pixels) -> Pixels:
    return np.random.default_rng(1).integers(0, 256, like.shape, dtype=np.uint8)


def test_real_pictures_that_were_held_out_are_never_found_wrong(case: Case) -> None:
    assert [found for seed in range(25) if (found := case.found(*case.grid(seed)))] == []
    assert judge_data(case.reference) == []


def test_noise_is_a_failure_and_nothing_else_is_said_of_it(case: Case) -> None:
    images, labels = case.grid(0)
    assert case.found(uniform_noise(images), labels) == [("noise", "failure", None)]
    normal = np.clip(127 + 60 * np.random.default_rng(2).standard_normal(images.shape), 0, 255).astype(np.uint8)
    assert case.found(normal, labels) == [("noise", "failure", None)]


def test_noise_of_one_class_is_a_warning_with_the_classs_name_and_count(case: Case) -> None:
    images, labels = case.grid(0)
    images = np.where((labels == 1)[:, None, None, None], uniform_noise(images), images)
    (noise,) = [finding for finding in judge_pictures(case.reference, images, labels) if finding.kind == "noise"]
    assert (noise.severity, noise.class_name) == ("warning", "class 1")
    count = int((case.labels[: case.half] == 1).sum())
    assert noise.advice.startswith(f"class 1 is still noise: {count} of {case.half} pictures are of this class")


def test_flat_pictures_are_a_failure(case: Case) -> None:
    images, labels = case.grid(0)
    flat = np.broadcast_to(images[:, :, :1, :1], images.shape)
    assert ("flat", "failure", None) in case.found(flat, labels)


def test_one_picture_again_and_again_is_a_failure(case: Case) -> None:
    images, labels = case.grid(0)
    assert ("alike", "failure", None) in case.found(np.repeat(images[:1], len(images), axis=0), labels)


def test_one_picture_for_a_class_is_a_warning(case: Case) -> None:
    images, labels = case.grid(0)
    first = images[labels == 0][:1]
    images = np.where((labels == 0)[:, None, None, None], first, images)
    assert ("alike", "warning", "class 0") in case.found(images, labels)


def test_training_pictures_with_a_little_noise_are_copies(case: Case) -> None:
    images, labels = case.grid(0, held_out=False)
    near = np.clip(images + np.random.default_rng(3).integers(-2, 3, images.shape), 0, 255).astype(np.uint8)
    assert case.found(near, labels) == [("copied", "warning", None)]


def test_mirrored_training_pictures_are_copies_where_training_flips() -> None:
    case = Case(drawings())
    images, labels = case.grid(0, held_out=False)
    mirrored = images[..., ::-1]
    assert case.found(mirrored, labels) == []
    for flipped, found in (([True] * 3, ["copied"]), ([True, False, False], [])):
        training = case.images[: case.half], case.labels[: case.half]
        reference = look_at_training(*training, case.names, flipped=flipped)
        assert [
            finding.kind for finding in judge_pictures(reference, mirrored[labels > 0], labels[labels > 0])
        ] == found


def test_copies_of_symmetric_pictures_are_found_where_training_flips() -> None:
    images, labels = drawings()
    images = np.maximum(images, images[..., ::-1])  # each picture is its own mirror image
    reference = look_at_training(images, labels, ["disc", "bar", "cross"], flipped=[True] * 3)
    assert [finding.kind for finding in judge_pictures(reference, images[:24], labels[:24])] == ["copied"]


def test_grain_over_smooth_drawings_is_a_warning_and_no_noise_yet() -> None:
    case = Case(drawings())
    images, labels = case.grid(0)
    random = np.random.default_rng(4)
    grainy = np.clip(images + 16 * random.standard_normal(images.shape), 0, 255).astype(np.uint8)
    assert {kind for kind, _, _ in case.found(grainy, labels)} == {"grainy"}


def test_pure_colours_are_a_warning_where_the_data_has_others() -> None:
    case = Case(drawings())
    images, labels = case.grid(0)
    assert ("saturated", "warning", None) in case.found(np.where(images > 127, 255, 0).astype(np.uint8), labels)


def test_pictures_that_do_not_depend_on_the_class_are_found() -> None:
    case = Case(digits())
    images, labels = case.grid(0)
    assert case.found(images, np.random.default_rng(0).permutation(labels)) == [("class_ignored", "warning", None)]


def test_shuffled_labels_are_seen_in_the_data_itself() -> None:
    for data in (digits(), drawings(), textures()):
        case = Case(data)
        shuffled = np.random.default_rng(0).permutation(case.labels)
        assert [finding.kind for finding in judge_data(case.look(case.images, shuffled))] == ["classes_mixed"]


def test_a_data_set_of_flat_pictures_is_told_and_flat_samples_are_then_right() -> None:
    labels = np.arange(200) % 2
    images = np.where(labels == 0, 40, 200).astype(np.uint8)[:, None, None, None] + np.zeros((1, 3, 8, 8), np.uint8)
    reference = look_at_training(images, labels.astype(np.int64), ("dark", "light"), flipped=[False] * 2)
    assert [finding.subject for finding in judge_data(reference)] == [("flat", "warning", None)]
    assert not failed(judge_pictures(reference, images[:16], labels[:16].astype(np.int64)))


def test_classes_with_few_pictures_are_named_and_an_empty_one_too() -> None:
    images, labels = digits()
    kept = (labels != 3) & ((labels != 7) | (np.cumsum(labels == 7) < FEW_OF_A_CLASS))
    names = tuple("0123456789")
    reference = look_at_training(images[kept], labels[kept], names, flipped=[False] * len(names))
    findings = judge_data(reference)
    assert [finding.subject for finding in findings] == [("few_pictures", "warning", name) for name in ("3", "7")]
    assert findings[0].advice.startswith("3 has 0 pictures")
    assert findings[1].advice.startswith("7 has 9 pictures")

    twenty = look_at_training(images[:20], labels[:20], names, flipped=[False] * len(names))
    (few,) = judge_data(twenty)
    assert (few.kind, few.class_name) == ("few_pictures", None)
    assert "only 20 pictures" in few.advice


def test_many_classes_are_told_in_one_sentence() -> None:
    images, labels = digits()
    kept = labels < 5
    (few,) = judge_data(look_at_training(images[kept], labels[kept], tuple("0123456789"), flipped=[False] * 10))
    assert few.advice.startswith("5, 6, 7 and 2 more classes have too few pictures")


def test_the_measures_have_the_values_of_their_formulas() -> None:
    white = 128 + 30 * np.random.default_rng(0).standard_normal((4, 1, 128, 128))
    assert grain(np.rint(white).astype(np.uint8)) == pytest.approx(WHITE_NOISE_GRAIN * 30, rel=0.03)
    stripes = np.zeros((1, 1, 8, 8), np.uint8)
    stripes[..., ::2] = 255
    assert (grain(stripes), contrast(stripes), saturation(stripes)) == (0.0, 127.5, 1.0)


ONES = np.ones(64)
WOBBLE = np.linspace(-0.05, 0.05, 64)


@pytest.mark.parametrize(
    ("weights", "average", "kinds"),
    [
        (0.2, 0.21, []),
        (0.2, 0.5, ["average_lags"]),
        (0.6, 0.6, ["not_learning"]),
        (2.9, 2.9, ["not_learning"]),
        (3.1, 0.2, ["exploded"]),
        (float("nan"), 0.2, ["exploded"]),
    ],
)
def test_losses_are_judged_against_zeros_against_single_pixels_and_against_each_other(
    weights: float, average: float, kinds: list[str]
) -> None:
    found = judge_losses(weights * ONES + WOBBLE, average * ONES - WOBBLE, 0.5 * ONES, ONES)
    assert [finding.kind for finding in found] == kinds


def test_a_small_loss_counts_as_learned_though_all_pictures_are_the_same() -> None:
    assert judge_losses(0.24 * ONES, 0.24 * ONES, 0.01 * ONES, ONES) == []
    assert [finding.kind for finding in judge_losses(0.26 * ONES, 0.26 * ONES, 0.01 * ONES, ONES)] == ["not_learning"]


def test_an_average_that_is_worse_by_chance_does_not_lag() -> None:
    one_row = np.zeros(64)
    one_row[0] = 10.0
    assert judge_losses(0.2 * ONES, 0.2 * ONES + one_row, 0.5 * ONES, ONES) == []


def test_little_training_is_said_until_pictures_can_be_recognised() -> None:
    model = ModelConfig.model_validate({"image_channels": 1, "image_size": 16, "unet": {"attention_resolutions": []}})
    enough = recognisable_images(model)
    assert little_training(enough, model) is None
    told = little_training(enough - 1, model)
    assert told is not None
    assert told.startswith(f"It saw {enough - 1:,} images, and its pictures need {enough:,}")


def test_only_a_failure_fails() -> None:
    warning = Finding("grainy", "warning", None, "")
    assert not failed([warning])
    assert failed([warning, Finding("noise", "failure", None, "")])
