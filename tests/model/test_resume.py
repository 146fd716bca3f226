"""A run that was stopped or killed goes on as if it had not been, bit for bit."""

import hashlib
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from model.checkpoint import CheckpointError
from model.config import Recipe
from model.training import Trainer, train
from tests.model.small import random_dataset, small_recipe

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[2]

Files = dict[str, tuple[dict[str, Any], str]]


def state_of(trainer: Trainer) -> dict[str, torch.Tensor]:
    """Everything that training changes: weights, EMA and optimizer state."""
    values = {f"model.{name}": value for name, value in trainer.network.state_dict().items()}
    values |= {f"ema.{name}": value for name, value in trainer.ema.weights.items()}
    for name, parameter in trainer.network.named_parameters():
        values |= {f"{name}.{key}": value for key, value in trainer.optimizer.state[parameter].items()}
    return {name: value.clone() for name, value in values.items()}


def assert_equal(one: Trainer, other: Trainer) -> None:
    assert (one.images_seen, one.iteration) == (other.images_seen, other.iteration)
    expected = state_of(other)
    assert state_of(one).keys() == expected.keys()
    for name, value in state_of(one).items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"training__batch_size": 7},  # no divisor of data set or total: batches cross epochs, the last is short
        {"training__precision": "bfloat16"},
        {"model__prediction": "v", "ema__warmup": "ramp", "objective__weighting": "min_snr"},
    ],
    ids=str,
)
@pytest.mark.parametrize("stop", [0, 2, 5])
def test_a_fresh_trainer_goes_on_bit_for_bit(tmp_path: Path, stop: int, changes: dict[str, Any]) -> None:
    recipe, dataset = small_recipe(**changes), random_dataset()
    uninterrupted, stopped = Trainer(recipe, dataset, CPU), Trainer(recipe, dataset, CPU)
    for _ in range(stop):
        assert uninterrupted.step() == stopped.step()
    stopped.save(tmp_path / "state.safetensors")
    torch.manual_seed(123)  # whatever else drew random numbers in between must not matter
    resumed = Trainer(recipe, dataset, CPU)
    resumed.resume(tmp_path / "state.safetensors")
    assert_equal(resumed, uninterrupted)
    while uninterrupted.images_seen < recipe.training.total_images:
        torch.randn(3)
        assert resumed.step() == uninterrupted.step()  # loss and gradient norm of the same next batch
    assert resumed.images_seen == recipe.training.total_images
    assert_equal(resumed, uninterrupted)


def test_different_seeds_train_differently() -> None:
    losses = {Trainer(small_recipe(training__seed=seed), random_dataset(), CPU).step()[0] for seed in (1, 2)}
    assert len(losses) == 2


def content(path: Path) -> tuple[dict[str, Any], str]:
    """A safetensors file's header, whose entries the format leaves in any order, and the digest of its tensors."""
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:end]), hashlib.sha256(data[end:]).hexdigest()


def files(folder: Path) -> Files:
    """Content of the training state and of every checkpoint."""
    return {path.name: content(path) for path in folder.rglob("*.safetensors")}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("uninterrupted")
    assert train(small_recipe(), random_dataset(), folder, device=CPU).finished
    return files(folder)


@pytest.mark.parametrize(
    ("moment", "count"), [("iteration", 1), ("iteration", 5), ("write", 3), ("write", 6), ("write", 7)]
)
def test_a_killed_process_is_continued_to_the_same_end(
    tmp_path: Path, uninterrupted: Files, moment: str, count: int
) -> None:
    """Write 3 is that of the first state; 6 and 7 are a later checkpoint and the state that goes with it."""
    command = [sys.executable, "-m", "tests.model.killed_run", str(tmp_path), moment, str(count)]
    killed = subprocess.run(command, cwd=ROOT, check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert train(small_recipe(), random_dataset(), tmp_path, device=CPU).finished
    assert files(tmp_path) == uninterrupted


def test_asked_to_stop_it_saves_and_goes_on_from_there(tmp_path: Path, uninterrupted: Files) -> None:
    answers = iter([False] * 5 + [True])
    first = train(small_recipe(), random_dataset(), tmp_path, device=CPU, should_stop=lambda: next(answers))
    assert not first.finished
    assert first.images_seen == 40
    assert first.checkpoint.exists()
    second = train(small_recipe(), random_dataset(), tmp_path, device=CPU)
    assert second.finished
    ended = files(tmp_path)
    assert ended.pop("0000000040.safetensors")[0]["__metadata__"]  # the checkpoint written when it was asked to stop
    assert ended == uninterrupted


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    trainer = Trainer(small_recipe(), random_dataset(), CPU)
    trainer.step()
    trainer.save(tmp_path / "state.safetensors")
    return tmp_path / "state.safetensors"


@pytest.mark.parametrize(
    "recipe",
    [small_recipe(training__seed=4), small_recipe(optimizer__learning_rate=1e-3), small_recipe(name="other")],
    ids=["seed", "learning rate", "name"],
)
def test_another_recipe_is_refused(saved: Path, recipe: Recipe) -> None:
    trainer = Trainer(recipe, random_dataset(), CPU)
    with pytest.raises(CheckpointError, match="another recipe"):
        trainer.resume(saved)
    with pytest.raises(CheckpointError, match="another recipe"):
        train(recipe, random_dataset(), saved.parent, device=CPU)


def test_another_dataset_is_refused(saved: Path) -> None:
    with pytest.raises(CheckpointError, match="another data set"):
        Trainer(small_recipe(), random_dataset(seed=1), CPU).resume(saved)


def test_a_truncated_state_is_refused(saved: Path) -> None:
    data = saved.read_bytes()
    for length in (0, 7, 500, len(data) // 2, len(data) - 1):
        saved.write_bytes(data[:length])
        with pytest.raises(CheckpointError, match=r"state\.safetensors: not a readable"):
            Trainer(small_recipe(), random_dataset(), CPU).resume(saved)


def test_a_missing_state_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"none\.safetensors: No such file"):
        Trainer(small_recipe(), random_dataset(), CPU).resume(tmp_path / "none.safetensors")


@pytest.mark.parametrize("part", ["model.", "ema.", "optimizer."])
def test_a_state_that_lacks_tensors_is_refused(saved: Path, part: str) -> None:
    whole = load_file(saved)
    trainer = Trainer(small_recipe(), random_dataset(), CPU)
    metadata = {
        "images_seen": "8",
        "iteration": "1",
        "recipe": small_recipe().model_dump_json(),
        "dataset_digest": random_dataset().digest,
    }
    save_file({name: value for name, value in whole.items() if not name.startswith(part)}, saved, metadata=metadata)
    with pytest.raises(CheckpointError, match="does not fit"):
        trainer.resume(saved)
