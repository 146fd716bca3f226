"""A run with several processes equals the run of one, and resumes bit for bit after one process was killed."""

import csv
import hashlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import torch
import torch.distributed as dist

from darkroom.model.checkpoint import load_checkpoint
from darkroom.model.training import distributed
from darkroom.model.training.distributed import GRADIENT_PATIENCE, PATIENCE, averaging_gradients, process_group
from darkroom.model.training.run import TrainingError, train
from darkroom.model.training.run_record import FolderRecord
from tests import warm
from tests.model.small import random_dataset, small_recipe, small_unet
from tests.processes import PATIENCE_SECONDS

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[3]


def torchrun(processes: int, folder: Path, changes: dict[str, Any], *count: int) -> CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    run = ["-m", "tests.model.training.torchrun_run", str(folder), json.dumps(changes), *map(str, count)]
    return warm.run([*command, *run], cwd=ROOT)


def losses(folder: Path) -> list[float]:
    with (folder / "losses.csv").open(newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


@pytest.mark.parametrize("batch_size", [8, 7], ids=["even", "uneven, and the last batch has one row"])
def test_two_processes_train_what_one_trains(tmp_path: Path, batch_size: int) -> None:
    changes = {
        "model__unet": small_unet(dropout=0.0).model_dump(),
        "training__batch_size": batch_size,
        "training__total_images": 20 * batch_size + 1,
        "training__devices": 2,
    }
    shared = torchrun(2, tmp_path / "two", changes)
    assert shared.returncode == 0, shared.stderr
    alone = small_recipe(**changes | {"training__devices": 1})
    assert train(alone, random_dataset(), FolderRecord(tmp_path / "one", "small"), device=CPU).finished

    assert len(losses(tmp_path / "one")) == 2
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-4)
    names = [sorted(path.name for path in (tmp_path / run / "checkpoints").iterdir()) for run in ("one", "two")]
    assert names[0] == names[1]
    for name in names[0]:
        one, two = (load_checkpoint(tmp_path / run / "checkpoints" / name).weights for run in ("one", "two"))
        for tensor, value in one.items():
            torch.testing.assert_close(two[tensor], value, rtol=1e-3, atol=2e-4, msg=f"{name}: {tensor}")


@pytest.mark.parametrize("processes", [2, 3])
def test_killed_and_started_again_they_end_where_they_would_have(tmp_path: Path, processes: int) -> None:
    """The run has dropout, which each process draws itself, and three processes, where the order of sums matters."""
    changes = {"training__devices": processes}
    whole = torchrun(processes, tmp_path / "whole", changes)
    assert whole.returncode == 0, whole.stderr
    assert torchrun(processes, tmp_path / "killed", changes, 5).returncode != 0
    assert max(path.name for path in (tmp_path / "killed" / "checkpoints").iterdir()) == "0000000032.safetensors"
    again = torchrun(processes, tmp_path / "killed", changes)
    assert again.returncode == 0, again.stderr
    assert tensors(tmp_path / "killed") == tensors(tmp_path / "whole")


def tensors(folder: Path) -> dict[str, str]:
    """Return digests of the tensors in the state and in every checkpoint."""
    found = {}
    for path in folder.rglob("*.safetensors"):
        data = path.read_bytes()
        found[path.name] = hashlib.sha256(data[8 + int.from_bytes(data[:8], "little") :]).hexdigest()
    return found


def test_gradients_are_waited_for_in_minutes_and_the_first_process_as_long_as_it_evaluates(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    for name, value in place.items():
        monkeypatch.setenv(name, value)
    with process_group(CPU):
        groups = dist.group.WORLD, averaging_gradients(torch.nn.Linear(1, 1), CPU).process_group
        waits = [group._get_backend(CPU).options._timeout for group in groups]
    assert waits == [PATIENCE, GRADIENT_PATIENCE]
    assert GRADIENT_PATIENCE < timedelta(hours=1) < PATIENCE


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ("group", "process 0 of a training waited 0:00:02 for process 1 of 2 at the process group: see the last lines"),
        ("network", "process 0 of a training waited 0:00:02 for process 1 of 2 at the first step: see the last lines"),
        ("error", "process 0 of a training ends: process 1 has failed (ValueError: its data set is damaged)"),
    ],
)
def test_a_process_that_never_comes_to_the_first_step_ends_the_others_which_name_it(where: str, told: str) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1]), "WORLD_SIZE": "2"}
    command = [sys.executable, "-m", "tests.model.training.late_rank", where]
    first, second = (
        warm.Popen(
            command,
            cwd=ROOT,
            env=os.environ | place | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    )
    try:
        _, said = first.communicate(timeout=PATIENCE_SECONDS)
    finally:
        second.kill()
        second.communicate()
    assert first.returncode != 0
    assert told in said


def _first_and_other(monkeypatch: pytest.MonkeyPatch, make: Callable[[], tuple[str, bytes] | None]) -> list[Any]:
    """Return what the first of two processes and the other one get; everything sent is kept in between."""
    sent: list[Any] = []

    def told(make: Callable[[], Any]) -> Any:
        if first:
            sent.append(make())
        return sent[0]

    def broadcast(held: torch.Tensor, src: int) -> None:
        if first:
            sent.append(held.clone())
        else:
            held.copy_(sent[1])

    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(distributed, "from_first", told)
    monkeypatch.setattr(dist, "broadcast", broadcast)
    first = True
    found = [distributed.bytes_from_first(make)]
    first = False
    found.append(distributed.bytes_from_first(make))
    assert not any(isinstance(part, bytes) for one in sent for part in (one if isinstance(one, tuple) else (one,)))
    return found


def test_a_states_bytes_reach_the_other_processes_as_a_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    state = ("state.safetensors", bytes(range(256)))
    assert _first_and_other(monkeypatch, lambda: state) == [state, state]
    assert _first_and_other(monkeypatch, lambda: None) == [None, None]


def test_a_recipe_for_several_devices_says_how_to_start_it(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="torchrun --nproc-per-node 2"):
        train(small_recipe(training__devices=2), random_dataset(), FolderRecord(tmp_path, "small"), device=CPU)


def test_another_number_of_processes_than_the_recipes_is_refused(tmp_path: Path) -> None:
    refused = torchrun(2, tmp_path / "run", {"training__devices": 1})
    assert refused.returncode != 0
    assert "training.devices is 1 but the number of processes here is 2" in refused.stderr
    assert not (tmp_path / "run").exists()
