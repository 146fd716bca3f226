"""Laws of a frontier: a rerun measures only missing figures, and the weights file keeps them all."""

from pathlib import Path

import pytest

from bench.frontier import main
from darkroom.model.checkpoint import load_checkpoint
from darkroom.model.datasets import load_dataset
from tests.bench.halves import halves_recipe, untrained_weights, write_idx


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    """Return the arguments to measure two samplers on a small data set."""
    data = tmp_path / "data"
    data.mkdir()
    write_idx(data, "train", 64, 0)
    recipe = halves_recipe(data)
    weights = untrained_weights(recipe, load_dataset(recipe.dataset, tmp_path / "cache"))
    (tmp_path / "w.safetensors").write_bytes(weights)
    options = ["--cache", str(tmp_path / "cache"), "--images", "32", "--samplers", "ddim", "unipc"]
    return [*options, "--out", str(tmp_path / "out"), "--write", str(tmp_path / "written.safetensors")]


def test_more_steps_are_added_to_what_a_file_has(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "w.safetensors"), *arguments, "--steps", "2"]) == 0
    first = load_checkpoint(tmp_path / "written.safetensors").header.evaluations
    assert [(one.protocol["sampler"], one.protocol["steps"]) for one in first] == [("ddim", 2), ("unipc", 2)]
    capsys.readouterr()

    assert main([str(tmp_path / "written.safetensors"), *arguments, "--steps", "2", "3"]) == 0
    told = capsys.readouterr()
    assert [line.split(":")[0] for line in told.err.splitlines()] == ["ddim, 3 steps", "unipc, 3 steps"]
    for one in first:
        assert f"{one.value:.2f}" in told.out
    second = load_checkpoint(tmp_path / "written.safetensors").header.evaluations
    assert second[:2] == first
    assert [one.protocol["steps"] for one in second] == [2, 2, 3, 3]

    assert main([str(tmp_path / "written.safetensors"), *arguments, "--steps", "2", "3"]) == 0
    assert capsys.readouterr().err == ""
