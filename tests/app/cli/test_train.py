"""Laws of the process `darkroom train`: its output and files, how it stops and continues, and what it refuses."""

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from typer.testing import CliRunner

from darkroom.app.cli.main import cli
from darkroom.model.checkpoint import load_checkpoint
from tests import warm
from tests.model.small import small_recipe, small_unet
from tests.processes import PATIENCE_SECONDS, family_of, living, wait_until

SIDE, CLASSES, COLUMNS = 8, 3, 2


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """Write a recipe whose run takes a second or two."""
    draw = np.random.default_rng(0)
    images, labels = draw.integers(0, 256, (60, SIDE, SIDE), dtype=np.uint8), np.arange(60) % CLASSES
    np.savez(tmp_path / "images.npz", images=images, labels=labels)
    return _write_recipe(tmp_path, total_images=960)


def _write_recipe(folder: Path, **training: Any) -> Path:
    network = small_unet(width=8, multipliers=(1,), attention_resolutions=(), norm_groups=2)
    data = small_recipe(model__unet=network.model_dump()).model_dump(mode="json")
    data["dataset"] = {"format": "npz", "path": str(folder / "images.npz"), "class_names": ["a", "b", "c"]}
    data["training"] |= {"checkpoint_every_images": 400, "samples_per_class": COLUMNS} | training
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


def _command(recipe: Path, folder: Path, device: str = "cpu") -> list[str]:
    datasets = recipe.parent / "datasets"
    command = (warm.DARKROOM, "train", recipe, "--folder", folder, "--datasets", datasets, "--device", device)
    return [str(part) for part in command]


def _train(recipe: Path, folder: Path, device: str = "cpu") -> subprocess.CompletedProcess[str]:
    command = _command(recipe, folder, device)
    return warm.run(command)


def _here(recipe: Path, folder: Path, device: str = "cpu") -> subprocess.CompletedProcess[str]:
    """The command without a process of its own, which takes seconds to start."""
    command = _command(recipe, folder, device)
    done = CliRunner().invoke(cli, command[1:])
    return subprocess.CompletedProcess(command, done.exit_code, done.stdout, done.stderr)


def _refused(result: subprocess.CompletedProcess[str], *words: str) -> None:
    assert result.returncode == 2, result.stderr
    last = result.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in last


def test_a_run_shows_its_progress_and_writes_its_files(recipe: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    result = _train(recipe, folder)
    assert result.returncode == 0, result.stderr
    assert "60 images, 3 classes; training on cpu" in result.stderr
    assert re.search(r"160 of 960 images  \d+/s  loss \d\.\d{4}  \d+ seconds? left", result.stderr)
    assert f"960 images seen. Weights: {folder}/checkpoints/0000000960.safetensors" in result.stderr
    names = sorted(path.name for path in (folder / "checkpoints").iterdir())
    assert names == ["0000000400.safetensors", "0000000800.safetensors", "0000000960.safetensors"]
    assert load_checkpoint(folder / "checkpoints" / names[-1]).header.class_names == ("a", "b", "c")
    assert Image.open(folder / "loss.png").format == "PNG"
    grid = Image.open(folder / "samples" / "0000000960.png")
    assert abs(grid.width / grid.height - COLUMNS / CLASSES) < 0.1  # one line for each class
    assert (folder / "losses.csv").read_text().count("\n") == 1 + 960 // 160


def test_the_end_of_a_run_prints_what_the_last_look_found(recipe: Path, tmp_path: Path) -> None:
    def last_look(folder: Path, **training: Any) -> list[str]:
        result = _here(_write_recipe(tmp_path, total_images=160, sample_every_images=160, **training), folder)
        assert result.returncode == 0, result.stderr
        _, _, after = result.stderr.partition("Weights: ")
        return after.splitlines()[1:]

    images = np.load(tmp_path / "images.npz")["images"]
    np.savez(tmp_path / "images.npz", images=images, labels=np.minimum(np.arange(60) // 29, 2))  # the last class has 2
    said = last_look(tmp_path / "few", early_verdict="tell")
    found = json.loads((tmp_path / "few" / "verdict.json").read_text())["findings"]
    assert said == ["Last look:", *(f"  {one['severity']}: {one['advice']}" for one in found)]
    assert any(line.startswith("  warning: c has 2 pictures of 60, too few to learn") for line in said)
    assert last_look(tmp_path / "off", early_verdict="off") == []


def test_on_a_terminal_there_is_a_bar_with_speed_loss_and_time_left(recipe: Path, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "160"}
    with warm.Popen(_command(recipe, tmp_path / "run"), stderr=theirs, env=environment) as process:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # EIO: the process has closed its end of the terminal
            while part := os.read(ours, 65536):
                shown += part
        os.close(ours)
    assert process.returncode == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert re.search(r"small .*320/960 images  \d+/s  loss \d\.\d{4}  \d+ seconds? left, until \d\d:\d\d", text)


def test_a_run_continued_after_ctrl_c_ends_like_an_undisturbed_one(tmp_path: Path, recipe: Path) -> None:
    recipe = _write_recipe(tmp_path, total_images=2400)
    whole = _here(recipe, tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr

    folder = tmp_path / "stopped"
    with warm.Popen(_command(recipe, folder), stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: (folder / "state.safetensors").exists(), "the first checkpoint")
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 130, said
    assert "Stopping after this step" in said
    assert "run the same command again to continue" in said
    stopped_at = max(int(path.stem) for path in (folder / "checkpoints").iterdir())
    assert 400 <= stopped_at < 2400

    early = folder / "checkpoints" / "0000000400.safetensors"
    early.unlink()
    assert _here(recipe, folder).returncode == 0
    assert not early.exists()  # it continued; a new start would also reach the same end
    last = "0000002400.safetensors"
    resumed, undisturbed = (load_checkpoint(run / "checkpoints" / last) for run in (folder, tmp_path / "whole"))
    assert resumed.header == undisturbed.header
    assert resumed.weights.keys() == undisturbed.weights.keys()
    for name, value in resumed.weights.items():
        assert torch.equal(value, undisturbed.weights[name]), name


def test_a_folder_of_another_recipe_is_refused(tmp_path: Path, recipe: Path) -> None:
    folder = tmp_path / "run"
    assert _here(recipe, folder).returncode == 0
    kept = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    _refused(_here(_write_recipe(tmp_path, total_images=1000), folder), "state.safetensors")
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == kept


def test_a_run_that_cannot_start_is_one_clear_line(tmp_path: Path, recipe: Path) -> None:
    folder = tmp_path / "run"
    _refused(_train(tmp_path / "none.yaml", folder), "none.yaml")
    _refused(_here(recipe, folder, device="cuda:99"), "--device cuda:99 cannot be used")
    assert not folder.exists()

    text = recipe.read_text()
    recipe.write_text(text.replace("batch_size", "batch_seize"))
    _refused(_here(recipe, folder), "recipe.yaml", "batch_seize")
    recipe.write_text(text.replace("images.npz", "[red]gone.npz"))
    _refused(_here(recipe, folder), "[red]gone.npz")
    recipe.write_text("!!python/object/apply:os.system ['touch made-by-yaml']")
    _refused(_here(recipe, folder), "recipe.yaml")
    assert not folder.exists()

    recipe.write_text(text)
    (tmp_path / "file").write_text("")
    _refused(_here(recipe, tmp_path / "file" / "run"), str(tmp_path / "file"))


def test_a_recipe_s_needs_are_checked_before_training(tmp_path: Path, recipe: Path) -> None:
    folder, data = tmp_path / "run", yaml.safe_load(recipe.read_text())
    data["sampling"] |= {"spacing": "edm", "steps": 100}
    recipe.write_text(yaml.safe_dump(data))
    _refused(_here(recipe, folder), "sampling.steps: steps must be between 1 and 99 with spacing edm")
    data["sampling"] |= {"steps": 2}
    judged = {"every_images": 400, "metrics": ["fid", "precision_recall"], "images": 3}
    recipe.write_text(yaml.safe_dump(data | {"evaluation": judged}))
    _refused(_here(recipe, folder), "evaluation.images: is 3, and precision_recall needs 4 generated images or more")
    assert not folder.exists()


def test_a_run_of_more_than_a_day_begins_only_when_asked(tmp_path: Path, recipe: Path) -> None:
    recipe, folder = _write_recipe(tmp_path, total_images=10**12), tmp_path / "run"
    _refused(_here(recipe, folder), "this run would take about ", " days here, at ", "add --long to run it anyway")
    with warm.Popen([*_command(recipe, folder), "--long"], stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: (folder / "state.safetensors").exists(), "the first checkpoint, long after the second point")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 130


def test_an_evaluation_that_fails_is_printed_and_the_run_ends_well(tmp_path: Path, recipe: Path) -> None:
    data = yaml.safe_load(recipe.read_text())
    data["evaluation"] = {"every_images": 960, "images": 2}
    recipe.write_text(yaml.safe_dump(data))
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "references").write_text("not a folder")
    result = _train(recipe, tmp_path / "run")
    assert result.returncode == 0, result.stderr
    assert "evaluation failed after 960 images; the training goes on: " in result.stderr
    assert "Traceback" not in result.stderr
    assert load_checkpoint(tmp_path / "run" / "checkpoints" / "0000000960.safetensors").header.images_seen == 960


def test_two_trainings_cannot_share_a_folder_and_a_killed_one_leaves_no_lock(tmp_path: Path, recipe: Path) -> None:
    recipe, folder = _write_recipe(tmp_path, total_images=2_000_000), tmp_path / "run"
    with warm.Popen(_command(recipe, folder), stderr=subprocess.PIPE, text=True) as first:
        wait_until(lambda: (folder / "state.safetensors").exists(), "the first checkpoint")
        second = _here(recipe, folder)
        _refused(second, f"another training (process {first.pid}) is running on the run's folder {folder}", "--folder")
        assert "Reading" not in second.stderr  # the refusal comes first
        assert first.poll() is None
        first.kill()
        first.communicate(timeout=PATIENCE_SECONDS)
    recipe = _write_recipe(tmp_path, total_images=2_000_000)
    with warm.Popen(_command(recipe, folder), stderr=subprocess.PIPE, text=True) as third:
        assert third.stderr is not None
        assert any("images  " in line for line in third.stderr)
        third.send_signal(signal.SIGTERM)
        _, said = third.communicate(timeout=PATIENCE_SECONDS)
    assert third.returncode == 130, said
    assert not (folder / "lock").exists()


def test_on_two_devices_the_command_runs_stops_and_continues_like_one_process(tmp_path: Path, recipe: Path) -> None:
    recipe, folder = _write_recipe(tmp_path, total_images=2400, devices=2), tmp_path / "run"
    with warm.Popen(_command(recipe, folder), stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: (folder / "state.safetensors").exists(), "the first checkpoint")
        family = family_of(process.pid)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 130, said
    assert len(family) == 2
    assert not living(family)
    assert "60 images, 3 classes; training on 2 x cpu" in said
    assert said.count("run the same command again to continue") == 1

    result = _train(recipe, folder)
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("2,400 images seen") == 1
    assert "Traceback" not in result.stderr
    load_checkpoint(folder / "checkpoints" / "0000002400.safetensors")
    _refused(_train(_write_recipe(tmp_path, total_images=2500, devices=2), folder), "another recipe")


def test_when_one_of_two_processes_dies_the_other_ends_too(tmp_path: Path, recipe: Path) -> None:
    recipe, folder = _write_recipe(tmp_path, total_images=2_000_000, devices=2), tmp_path / "run"
    with warm.Popen(_command(recipe, folder), stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: (folder / "state.safetensors").exists(), "the first checkpoint")
        family = family_of(process.pid)
        (other,) = family - {process.pid}
        os.kill(other, signal.SIGKILL)
        process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 1
    assert not living(family)
