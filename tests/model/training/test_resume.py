"""A run that was stopped or killed resumes bit for bit."""

import hashlib
import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save

from darkroom.model.checkpoint import CheckpointError
from darkroom.model.config import Recipe
from darkroom.model.training.run import train
from darkroom.model.training.run_record import FolderRecord
from darkroom.model.training.trainer import Trainer
from tests import warm
from tests.model.small import random_dataset, small_recipe

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[3]

Files = dict[str, tuple[dict[str, Any], str]]


def state_of(trainer: Trainer) -> dict[str, torch.Tensor]:
    """Return everything that training changes: weights, EMA and optimizer state."""
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
        {
            "training__batch_size": 7
        },  # divides neither data set nor total, so that batches cross epochs and the last is short
        {"training__precision": "bfloat16"},
        {"model__prediction": "v", "ema__warmup": "ramp", "objective__weighting": "min_snr"},
        {"optimizer__name": "muon", "ema__warmup": "power", "objective__times": {"name": "normal"}},
    ],
    ids=str,
)
@pytest.mark.parametrize("stop", [0, 2, 5])
def test_a_fresh_trainer_goes_on_bit_for_bit(stop: int, changes: dict[str, Any]) -> None:
    recipe, dataset = small_recipe(**changes), random_dataset()
    uninterrupted, stopped = Trainer(recipe, dataset, CPU), Trainer(recipe, dataset, CPU)
    for _ in range(stop):
        assert uninterrupted.step() == stopped.step()
    state = stopped.state()
    torch.manual_seed(123)  # other random draws in between must not matter
    resumed = Trainer(recipe, dataset, CPU)
    resumed.resume(state, source="the state")
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
    """Return a safetensors file's header, whose entries may have any order, and the digest of its tensors."""
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:end]), hashlib.sha256(data[end:]).hexdigest()


def files(folder: Path) -> Files:
    """Return the content of the training state and of every checkpoint."""
    return {path.name: content(path) for path in folder.rglob("*.safetensors")}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("uninterrupted")
    assert train(small_recipe(), random_dataset(), FolderRecord(folder, "small"), device=CPU).finished
    return files(folder)


@pytest.mark.parametrize(
    ("moment", "count"), [("iteration", 1), ("iteration", 5), ("write", 3), ("write", 6), ("write", 7)]
)
def test_a_killed_process_is_continued_to_the_same_end(
    tmp_path: Path, uninterrupted: Files, moment: str, count: int
) -> None:
    """Write 3 is the first state; writes 6 and 7 are a later checkpoint and its state."""
    command = [sys.executable, "-m", "tests.model.training.killed_run", str(tmp_path), moment, str(count)]
    killed = warm.run(command, cwd=ROOT)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert train(small_recipe(), random_dataset(), FolderRecord(tmp_path, "small"), device=CPU).finished
    assert files(tmp_path) == uninterrupted


def test_asked_to_stop_it_saves_and_goes_on_from_there(tmp_path: Path, uninterrupted: Files) -> None:
    answers = iter([False] * 5 + [True])
    first = train(
        small_recipe(), random_dataset(), FolderRecord(tmp_path, "small"), device=CPU, should_stop=lambda: next(answers)
    )
    assert not first.finished
    assert first.images_seen == 40
    assert (tmp_path / "checkpoints" / "0000000040.safetensors").exists()
    second = train(small_recipe(), random_dataset(), FolderRecord(tmp_path, "small"), device=CPU)
    assert second.finished
    ended = files(tmp_path)
    assert ended.pop("0000000040.safetensors")[0]["__metadata__"]  # the checkpoint of the stop
    assert ended == uninterrupted


@pytest.fixture(scope="module")
def saved() -> bytes:
    """Return the state after one step."""
    trainer = Trainer(small_recipe(), random_dataset(), CPU)
    trainer.step()
    return trainer.state()


def test_a_state_of_before_compilation_could_be_left_open_is_resumed() -> None:
    trainer = Trainer(small_recipe(training__compile=False), random_dataset(), CPU)
    trainer.step()
    Trainer(small_recipe(), random_dataset(), CPU).resume(trainer.state(), source="the state")


@pytest.mark.parametrize(
    "recipe",
    [small_recipe(training__seed=4), small_recipe(optimizer__learning_rate=1e-3), small_recipe(name="other")],
    ids=["seed", "learning rate", "name"],
)
def test_another_recipe_is_refused(tmp_path: Path, saved: bytes, recipe: Recipe) -> None:
    trainer = Trainer(recipe, random_dataset(), CPU)
    with pytest.raises(CheckpointError, match="another recipe"):
        trainer.resume(saved, source="the state")
    (tmp_path / "state.safetensors").write_bytes(saved)
    with pytest.raises(CheckpointError, match=r"state\.safetensors: was written by another recipe"):
        train(recipe, random_dataset(), FolderRecord(tmp_path, "small"), device=CPU)


def rewritten(state: bytes, recipe_without: str) -> bytes:
    """Return the state without one training field in its recipe, as versions before that field wrote it."""
    end = 8 + int.from_bytes(state[:8], "little")
    metadata = json.loads(state[8:end])["__metadata__"]
    recipe = json.loads(metadata["recipe"])
    del recipe["training"][recipe_without]
    return save(load(state), metadata=metadata | {"recipe": json.dumps(recipe)})


def test_a_state_from_before_an_option_existed_is_resumed(saved: bytes) -> None:
    trainer = Trainer(small_recipe(), random_dataset(), CPU)
    trainer.resume(rewritten(saved, "devices"), source="the state")
    assert trainer.images_seen == 8


def test_a_state_from_before_times_were_scaled_is_refused(saved: bytes) -> None:
    end = 8 + int.from_bytes(saved[:8], "little")
    metadata = json.loads(saved[8:end])["__metadata__"]
    assert metadata.pop("embedding_steps") == "100"
    before = save(load(saved), metadata=metadata)
    for go_on in (Trainer.resume, Trainer.continue_from):
        with pytest.raises(CheckpointError, match="the state: is of an earlier version"):
            go_on(Trainer(small_recipe(), random_dataset(), CPU), before, source="the state")


def test_another_dataset_is_refused(saved: bytes) -> None:
    with pytest.raises(CheckpointError, match="another data set"):
        Trainer(small_recipe(), random_dataset(seed=1), CPU).resume(saved, source="the state")


def test_a_truncated_state_is_refused(tmp_path: Path, saved: bytes) -> None:
    for length in (0, 7, 500, len(saved) // 2, len(saved) - 1):
        with pytest.raises(CheckpointError, match="the state: not a readable"):
            Trainer(small_recipe(), random_dataset(), CPU).resume(saved[:length], source="the state")
        (tmp_path / "state.safetensors").write_bytes(saved[:length])
        with pytest.raises(CheckpointError, match=r"state\.safetensors: not a readable"):
            train(small_recipe(), random_dataset(), FolderRecord(tmp_path, "small"), device=CPU)


@pytest.mark.parametrize("part", ["model.", "ema.", "optimizer."])
def test_a_state_that_lacks_tensors_is_refused(saved: bytes, part: str) -> None:
    trainer = Trainer(small_recipe(), random_dataset(), CPU)
    metadata = {
        "images_seen": "8",
        "iteration": "1",
        "recipe": small_recipe().model_dump_json(),
        "dataset_digest": random_dataset().digest,
        "embedding_steps": "100",
    }
    kept = {name: value for name, value in load(saved).items() if not name.startswith(part)}
    with pytest.raises(CheckpointError, match="does not fit"):
        trainer.resume(save(kept, metadata=metadata), source="the state")


@pytest.mark.parametrize("field", ["images_seen", "iteration", "recipe", "dataset_digest"])
@pytest.mark.parametrize("value", [None, "eight"])
def test_a_file_that_is_no_state_is_refused(saved: bytes, field: str, value: str | None) -> None:
    end = 8 + int.from_bytes(saved[:8], "little")
    metadata = json.loads(saved[8:end])["__metadata__"]
    metadata = {name: text for name, text in metadata.items() if name != field} | ({field: value} if value else {})
    with pytest.raises(CheckpointError, match="the state: "):
        Trainer(small_recipe(), random_dataset(), CPU).resume(save(load(saved), metadata=metadata), source="the state")
