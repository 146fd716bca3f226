"""Laws of the check for GPUs: a phase that fails leaves the others alone, and every phase runs, here on the CPU."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from bench import gpu_phases
from bench.gpu_check import SHARES, check
from bench.gpu_phases import PHASES, Faulty, forward_flops, small
from darkroom.model.machine.memory import is_device_lost, is_out_of_memory
from darkroom.model.planning import speed
from tests.model.small import small_recipe

WRITES = (
    "import json, pathlib, sys; pathlib.Path(sys.argv[1]).write_text(json.dumps({'laws': {'x': %s}, 'figures': {}}))"
)
PROGRAMS = {
    "holds": WRITES % True,
    "broken": WRITES % False,
    "crashes": WRITES % True + "; sys.exit('no device')",
    "hangs": WRITES % True + "; import time; time.sleep(600)",
    "last": WRITES % True,
}


def test_a_phase_that_crashes_or_hangs_leaves_the_others_alone_and_keeps_what_it_wrote(tmp_path: Path) -> None:
    written: list[list[str]] = []

    def command(name: str) -> Sequence[str]:
        report = tmp_path / "gpu_check.json"
        written.append(list(json.loads(report.read_text())) if report.exists() else [])
        return [sys.executable, "-S", "-c", PROGRAMS[name], str(tmp_path / f"{name}.json")]

    shares = {name: 1.0 if name == "hangs" else 100.0 for name in PROGRAMS}
    results = check(tmp_path, shares, 200.0, command)
    assert {name: result["status"] for name, result in results.items()} == {
        "holds": "passed",
        "broken": "failed",
        "crashes": "error",
        "hangs": "late",
        "last": "passed",
    }
    assert results["crashes"]["log"] == ["no device"]
    assert all(result["laws"] for result in results.values())
    assert written == [list(PROGRAMS)[:number] for number in range(len(PROGRAMS))]
    assert json.loads((tmp_path / "gpu_check.json").read_text()) == results


def test_every_phase_has_its_share() -> None:
    assert list(SHARES) == list(PHASES)
    assert sum(SHARES.values()) == 540


@pytest.mark.parametrize("phase", [name for name in PHASES if name not in ("ranks", "job")])
def test_a_phase_runs_on_the_cpu_and_its_laws_hold(phase: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others start processes: tests/system and tests/model/training/test_distributed.py have their laws."""
    monkeypatch.setattr(speed, "TIMED_SECONDS", 0.0)
    monkeypatch.setattr(gpu_phases, "compute_alone", lambda: None)  # it would change this process's threads
    monkeypatch.setattr(gpu_phases, "compute_deterministically", lambda: None)  # and its algorithms
    report = gpu_phases.run(phase, tmp_path, "cpu", tiny=True)
    assert json.loads((tmp_path / f"{phase}.json").read_text()) == {"laws": report.laws, "figures": report.figures}
    assert report.figures or report.laws
    assert all(report.laws.values()), report.laws


def test_a_trainings_speed_is_told_as_a_share_of_the_ceiling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "TIMED_SECONDS", 0.0)
    figures = {"copy_gb_per_second": 1.0, "matrix_tflops_float32": 2.0, "matrix_tflops_bfloat16": 4.0}
    (tmp_path / "facts.json").write_text(json.dumps({"laws": {}, "figures": figures}))
    found = gpu_phases.run("training_speed", tmp_path, "cpu", tiny=True).figures
    way = "small, float32, eager"
    assert found[f"{way}: share of the ceiling"] == found[f"{way}: TFLOP/s"] / 2.0


def test_a_demanded_fault_is_the_kind_that_the_engine_knows() -> None:
    denoiser = small(torch.device("cpu"))
    x, t, labels = torch.zeros(3, 1, 8, 8), torch.ones(3, dtype=torch.int64), torch.zeros(3, dtype=torch.int64)
    with pytest.raises(RuntimeError) as memory:
        Faulty(denoiser.network, most_rows=2)(x, t, labels)
    assert is_out_of_memory(memory.value)
    with pytest.raises(torch.AcceleratorError) as lost:
        Faulty(denoiser.network, lost=True)(x, t, labels)
    assert is_device_lost(lost.value)


def test_operations_of_a_forward_pass_grow_with_the_images_area() -> None:
    recipe = small_recipe()
    whole = recipe.model.unet.model_copy(update={"attention_resolutions": (), "middle_attention": False})
    sides = (8, 16)
    small_flops, large_flops = (
        forward_flops(
            recipe.model_copy(update={"model": recipe.model.model_copy(update={"unet": whole, "image_size": side})})
        )
        for side in sides
    )
    assert 3.5 < large_flops / small_flops < 4.0  # the embeddings of time and class do not grow
