"""Laws of the judge: it learns, training is repeatable, a file keeps it, and it refuses checkpoints that do not fit."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save

from bench.agreement import agreement, agreement_table, check_classes, generate
from bench.classifier import Classifier, load_classifier, predict, shift_at_random, train_classifier
from darkroom.model.checkpoint import Checkpoint, CheckpointError, CheckpointHeader
from darkroom.model.config import ModelConfig, SamplingConfig
from darkroom.model.datasets.dataset import ImageDataset
from darkroom.model.diffusion.denoiser import Denoiser
from darkroom.model.diffusion.unet import UNet
from tests.model.small import small_model

NAMES = ("left", "right")
TINY = small_model(width=8, multipliers=(1,), attention_resolutions=())


def _halves(count: int, seed: int, names: tuple[str, ...] = NAMES) -> ImageDataset:
    """Make images of noise with a bright half, left for label 0 and right for label 1."""
    random = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.int64) % 2
    images = random.integers(0, 100, (count, 1, 8, 8), dtype=np.uint8)
    images[labels == 0, :, :, :4] += 100
    images[labels == 1, :, :, 4:] += 100
    return ImageDataset(images, labels, names, f"sha256:{seed}")


@pytest.fixture(scope="module")
def judge() -> Classifier:
    return train_classifier(_halves(1280, 0), _halves(200, 1), epochs=2, seed=3)


def _checkpoint(names: tuple[str, ...], model: ModelConfig = TINY) -> Checkpoint:
    torch.manual_seed(0)
    header = CheckpointHeader(
        name="halves", model=model, sampling=SamplingConfig(), class_names=names, images_seen=0, dataset_digest=""
    )
    return Checkpoint(header, UNet(model, len(names)).state_dict(), "sha256:0")


def test_learns_a_task_that_can_be_solved(judge: Classifier) -> None:
    assert judge.header.test_accuracy > 0.99
    assert judge.header.test_images == 200
    assert judge.header.test_accuracy == pytest.approx(np.mean(judge.header.recalls))  # equally many of each class


def test_training_again_gives_the_same_weights(judge: Classifier) -> None:
    again = train_classifier(_halves(1280, 0), _halves(200, 1), epochs=2, seed=3)
    for name, value in judge.network.state_dict().items():
        assert torch.equal(value, again.network.state_dict()[name]), name


def test_survives_its_file(judge: Classifier, tmp_path: Path) -> None:
    judge.save(tmp_path / "judge.safetensors")
    loaded = load_classifier(tmp_path / "judge.safetensors")
    assert loaded.header == judge.header
    images = torch.tensor(_halves(64, 5).images)
    assert torch.equal(predict(loaded.network, images), predict(judge.network, images))


@pytest.mark.parametrize("data", [b"", b"\x80\x04N.", save({"x": torch.zeros(1)})])
def test_refuses_what_is_not_its_file(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "judge.safetensors").write_bytes(data)
    with pytest.raises(CheckpointError, match=r"judge\.safetensors"):
        load_classifier(tmp_path / "judge.safetensors")


def test_a_missing_file_names_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"bench\.judge train"):
        load_classifier(tmp_path / "none.safetensors")


def test_classes_of_training_and_test_must_be_the_same() -> None:
    with pytest.raises(ValueError, match="classes differ"):
        train_classifier(_halves(128, 0), _halves(10, 1, ("right", "left")), epochs=1, seed=0)


@pytest.mark.parametrize("names", [("right", "left"), ("left", "right", "top"), ("left", "Right")])
def test_refuses_a_checkpoint_of_other_classes(judge: Classifier, names: tuple[str, ...]) -> None:
    with pytest.raises(CheckpointError, match="classes"):
        check_classes(_checkpoint(names), judge.header)


def test_refuses_a_checkpoint_of_another_image_size(judge: Classifier) -> None:
    larger = TINY.model_copy(update={"image_size": 16})
    with pytest.raises(CheckpointError, match="1 x 16 x 16"):
        check_classes(_checkpoint(NAMES, larger), judge.header)


def test_agreement_counts_each_class_by_itself(judge: Classifier) -> None:
    real = _halves(40, 7)
    left = real.images[real.labels == 0]
    seen_left = (predict(judge.network, torch.tensor(left)) == 0).double().mean().item()
    assert seen_left > 0.9
    images = np.stack([left, left]).transpose(0, 1, 3, 4, 2)  # the second call requests the right half
    result = agreement(judge, images, 2.0)
    assert result.per_class == pytest.approx((seen_left, 1.0 - seen_left))
    assert result.overall == pytest.approx(0.5)
    table = agreement_table(judge.header, [result]).splitlines()
    assert table[0] == "| class | guidance 2 | real test images |"
    assert [line.split(" | ")[1] for line in table[2:]] == ["40", "50.0%", f"{seen_left:.1%}", f"{1.0 - seen_left:.1%}"]


def test_asking_for_more_keeps_the_first_images() -> None:
    checkpoint = _checkpoint(NAMES)
    sampling = SamplingConfig(steps=2, guidance=2.0)
    few, many = (generate(checkpoint.denoiser(), sampling, count) for count in (2, 3))
    assert few.shape == (2, 2, 8, 8, 1)
    np.testing.assert_array_equal(few, many[:, :2])
    assert not np.array_equal(many[0, 0], many[0, 1])


def test_generated_images_are_those_of_the_class_that_was_asked_for(judge: Classifier) -> None:
    def halves(x: torch.Tensor, t: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        picture = torch.full_like(x, -0.8)
        picture[labels == 0, :, :, :4] = 0.4
        picture[labels == 1, :, :, 4:] = 0.4
        return picture

    denoiser = Denoiser(TINY.model_copy(update={"prediction": "x0"}), NAMES, halves)
    images = generate(denoiser, SamplingConfig(steps=3, threshold="static"), 4)
    assert agreement(judge, images, 1.0).per_class == (1.0, 1.0)


def test_shifts_move_whole_images_by_at_most_one_pixel() -> None:
    x = torch.full((500, 1, 9, 9), -1.0)
    x[:, 0, 4, 4] = 1.0
    moved = shift_at_random(x, torch.Generator().manual_seed(0))
    images, _, rows, columns = (moved == 1.0).nonzero().unbind(1)
    assert torch.equal(images, torch.arange(500))
    assert set(rows.tolist()) == set(columns.tolist()) == {3, 4, 5}
    assert int((moved == -1.0).sum()) == 500 * 80
