"""Laws of measuring speed: a figure is taken once for each network, and a damaged file of figures is no error."""

import json
from pathlib import Path

import pytest
import torch

from darkroom.model.planning import speed
from tests.model.small import small_recipe

CPU = torch.device("cpu")


def test_a_network_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "TIMED_SECONDS", 0.0)
    first = speed.measured_speed(CPU, tmp_path)(small_recipe())
    assert first > 0.0
    assert speed.measured_speed(CPU, tmp_path)(small_recipe()) == first
    other = small_recipe(training__batch_size=7)
    speed.measured_speed(CPU, tmp_path)(other)
    assert len(json.loads((tmp_path / "speeds.json").read_text())) == 2


@pytest.mark.parametrize("content", ["", "[1]", '{"x": "y"}', "\x00"])
def test_a_damaged_file_of_figures_is_replaced(content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "TIMED_SECONDS", 0.0)
    (tmp_path / "speeds.json").write_text(content)
    assert speed.measured_speed(CPU, tmp_path)(small_recipe()) > 0.0
    assert len(json.loads((tmp_path / "speeds.json").read_text())) == 1
