"""Laws of compilation: a missing compiler is an error before any work depends on it."""

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from darkroom.model.config import Recipe
from darkroom.model.machine.compiler import MOST_GRAPHS, CompilerMissing, require_compiler
from darkroom.model.machine.device import DeviceUnavailable, find_device, require_devices
from darkroom.model.training.trainer import Trainer, TrainingError
from tests.model.small import random_dataset, small_recipe


def test_without_a_compiler_it_is_said_at_once(tmp_path: Path) -> None:
    program = """
import sys, torch
from darkroom.model.user_error import ending_in_one_line
from darkroom.model.machine.compiler import require_compiler
with ending_in_one_line():
    require_compiler(torch.device("cpu"), "training.compile")
"""
    environment = {"CXX": "/nonexistent/g++", "PATH": "/usr/bin:/bin", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env=environment | {"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2, ended.stderr
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("error: training.compile needs a compiler, which does not work here (")
    assert last.endswith("install g++, or set it to false")
    assert "Traceback" not in ended.stderr


def test_a_training_that_cannot_compile_is_refused_before_its_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(device: torch.device, setting: str) -> None:
        raise CompilerMissing(f"{setting} needs a compiler")

    monkeypatch.setattr("darkroom.model.training.trainer.require_compiler", refuse)
    recipe = small_recipe(training__compile=True)
    with pytest.raises(TrainingError, match=r"training\.compile needs a compiler"):
        Trainer(recipe, random_dataset(), torch.device("cpu"))


@pytest.mark.parametrize(
    ("device", "asked", "works", "deterministic", "compiled"),
    [
        ("cuda", None, True, False, True),
        ("cuda", None, False, False, False),
        ("cuda", None, True, True, False),
        ("cuda", False, True, False, False),
        ("cuda", True, True, True, True),
        ("cpu", None, True, False, False),
        ("cpu", True, True, False, True),
    ],
)
def test_a_training_compiles_where_its_recipe_says_so_and_by_default_on_a_gpu_with_a_compiler(
    device: str,
    asked: bool | None,
    works: bool,
    deterministic: bool,
    compiled: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trainer_module = "darkroom.model.training.trainer"
    monkeypatch.setattr(f"{trainer_module}.require_compiler", lambda device, setting: None)
    monkeypatch.setattr(f"{trainer_module}.compiler_works", lambda device: works)
    monkeypatch.setattr(f"{trainer_module}.computes_deterministically", lambda: deterministic)
    monkeypatch.setattr(f"{trainer_module}.place", lambda network, device: network)
    monkeypatch.setattr(Trainer, "_held_images", lambda self: None)
    networks: list[object] = []

    def compile_(network: object, **options: object) -> object:
        networks.append(network)
        return network

    monkeypatch.setattr(torch, "compile", compile_)
    changes = {} if asked is None else {"training__compile": asked}
    trainer = Trainer(small_recipe(**changes), random_dataset(), torch.device(device))
    assert networks == ([trainer.network] if compiled else [])


def test_many_networks_may_be_trained_in_one_process_before_pytorch_stops_compiling(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As a plan does, which measures them. PyTorch's limit of 8 would then leave the training itself uncompiled."""
    monkeypatch.setattr("darkroom.model.training.trainer.require_compiler", lambda device, setting: None)
    monkeypatch.setattr(torch, "compile", lambda network: network)
    limits: list[int] = []

    def train() -> None:
        from torch._dynamo import config

        limits.append(config.recompile_limit)
        Trainer(small_recipe(training__compile=True), random_dataset(), torch.device("cpu"))
        limits.append(config.recompile_limit)

    thread = threading.Thread(target=train)  # the limit is a thread's own
    thread.start()
    thread.join()
    assert limits == [8, MOST_GRAPHS]


def test_a_recipe_that_leaves_compilation_open_is_read_by_versions_that_knew_no_such_thing() -> None:
    recipe = small_recipe()
    assert recipe.training.compile is None
    assert "compile" not in recipe.training.model_dump(mode="json")
    assert "compile" not in json.loads(recipe.model_dump_json())["training"]
    for compiled in (True, False):
        said = small_recipe(training__compile=compiled)
        assert said.training.model_dump(mode="json")["compile"] is compiled
        assert Recipe.model_validate_json(said.model_dump_json()) == said
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


def test_with_a_compiler_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[int] = []

    def compile_(function: object, **options: object) -> object:
        compiled.append(1)
        return function

    monkeypatch.setattr(torch, "compile", compile_)
    require_compiler(torch.device("cpu"), "training.compile")
    assert compiled == [1]


@pytest.mark.parametrize(
    ("name", "cure"),
    [
        ("cuda:99", "Use cpu, or repair the driver"),
        *((one, "write cpu, cuda or cuda:NUMBER") for one in ("gpu", "meta", "")),
    ],
)
def test_a_device_that_cannot_be_used_is_one_line(name: str, cure: str) -> None:
    with pytest.raises(DeviceUnavailable) as refused:
        find_device(name, "--device")
    said = str(refused.value)
    assert said.startswith(f"--device {name} cannot be used: ")
    assert said.endswith(cure)
    assert "\n" not in said


def test_more_devices_than_there_are_is_one_line() -> None:
    require_devices(torch.device("cpu"), 100)
    with pytest.raises(DeviceUnavailable, match=r"training\.devices is 100 but CUDA has"):
        require_devices(torch.device("cuda"), 100)
    assert find_device(None, "--device") == find_device("auto", "--device")
