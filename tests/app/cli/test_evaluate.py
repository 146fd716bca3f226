"""Laws of `darkroom evaluate`: the same figures as in training, and one clear line about an unusable option or file."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from darkroom.app.cli.main import cli
from darkroom.model.checkpoint import load_checkpoint
from darkroom.model.config import SettingsError
from darkroom.model.metrics.settings import evaluation_settings
from tests import warm
from tests.app.served import diverged_weights

METRICS = ("fid", "kid", "precision_recall", "confidence")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of the digits, evaluated once at its end."""
    folder = tmp_path_factory.mktemp("evaluated")
    data = yaml.safe_load(Path("recipes/digits.yaml").read_text())
    data["training"] |= {"total_images": 128, "checkpoint_every_images": 128, "sample_every_images": 1000}
    data["evaluation"] = {"every_images": 128, "images": 24, "steps": 3, "guidance": 1.0, "metrics": METRICS}
    recipe = folder / "digits.yaml"
    recipe.write_text(json.dumps(data))
    done = _here("train", str(recipe), "--folder", str(folder / "run"), folder=folder)
    assert done.exit_code == 0, done.stderr
    return folder


def _weights(trained: Path) -> str:
    return str(trained / "run" / "checkpoints" / "0000000128.safetensors")


def _here(*arguments: str, folder: Path) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(cli, [*arguments, "--datasets", str(folder / "datasets")])


def _evaluated(trained: Path, *options: str) -> dict[str, Any]:
    done = _here("evaluate", _weights(trained), "--json", *options, folder=trained)
    assert done.exit_code == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_the_command_measures_the_same_figures_as_training(trained: Path, tmp_path: Path) -> None:
    during = [json.loads(line) for line in (trained / "run" / "evaluations.jsonl").read_text().splitlines()]
    here = _here("evaluate", _weights(trained), "--json", folder=trained)  # with the statistics from training
    command = [warm.DARKROOM, "evaluate", _weights(trained), "--json", "--datasets", str(tmp_path / "datasets")]
    process = subprocess.run(command, capture_output=True, text=True)  # computes the statistics again
    assert (here.exit_code, process.returncode) == (0, 0), process.stderr
    for done in (here, process):
        after = json.loads(done.stdout)["evaluations"]
        assert [(one["metric"], one["value"], one["protocol"]) for one in after] == [
            (one["metric"], one["value"], one["protocol"]) for one in during
        ]
    assert len(during) == 5


def test_options_change_protocol_and_value(trained: Path) -> None:
    (plain,) = _evaluated(trained, "--metrics", "fid")["evaluations"]
    for option in (["--steps", "4"], ["--sampler", "ddpm"], ["--set", "seed=1"], ["--set", "spacing=log_snr"]):
        (other,) = _evaluated(trained, "--metrics", "fid", *option)["evaluations"]
        assert other["protocol_digest"] != plain["protocol_digest"]
        assert other["protocol_string"] != plain["protocol_string"]
        assert other["value"] != plain["value"]


def test_the_table_has_one_line_for_each_figure_with_its_protocol(trained: Path) -> None:
    done = _here("evaluate", _weights(trained), "--metrics", "precision_recall", folder=trained)
    assert done.exit_code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == [
        "| precision-efficientnet-lite0",
        "| recall-efficientnet-lite0",
    ]
    assert all("; extractor=efficientnet-lite0; " in line and "seed=0" in line for line in lines[2:])


def test_named_steps_replace_the_file_s_spacing() -> None:
    header = load_checkpoint(Path("weights/fashion-mnist.safetensors")).header
    assert header.recipe is not None
    config, sampling = evaluation_settings({"sampler": "ddpm", "steps": 1000}, header.recipe, header)
    assert (config.steps, sampling.steps, sampling.sampler, sampling.spacing) == (None, 1000, "ddpm", "trailing")
    with pytest.raises(SettingsError, match=r"spacing, steps: .* between 1 and 992 with spacing edm"):
        evaluation_settings({"spacing": "edm", "steps": 1000}, header.recipe, header)


def test_an_unusable_option_or_file_is_one_clear_line(trained: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"no weights")
    diverged, huge = tmp_path / "diverged.safetensors", tmp_path / "huge.safetensors"
    diverged.write_bytes(diverged_weights())
    huge.write_bytes(diverged_weights(factor=1e38))
    of_digits = ("--recipe", "recipes/digits.yaml")
    for options, words in (
        ([str(broken)], "not a readable safetensors file"),
        ([str(diverged), *of_digits], "head.weight holds numbers that are not finite"),
        ([str(huge), *of_digits], "draws images that are not finite"),
        ([str(tmp_path)], "Is a directory"),
        ([_weights(trained), "--device", "cuda:99"], "--device cuda:99 cannot be used"),
        ([_weights(trained), "--metrics", "fid,beauty"], "metrics"),
        ([_weights(trained), "--set", "beauty=3"], "no such setting"),
        ([_weights(trained), "--steps", "5000"], "steps"),
        ([_weights(trained), "--split", "middle"], "split"),
        ([_weights(trained), "--extractor", "inception"], "DARKROOM_INCEPTION_WEIGHTS"),
        ([_weights(trained), "--recipe", str(tmp_path / "none.yaml")], "none.yaml"),
        ([_weights(trained), "--recipe", "none"], "there is no recipe 'none': name a shipped one"),
        (["none"], "there is no model 'none': name a shipped one (emoji, fashion-mnist"),
        (["fashion-mnist", "--recipe", "digits", "--split", "train"], "sha256:"),  # the model and the data do not fit
    ):
        done = _here("evaluate", *options, folder=trained)
        assert done.exit_code == 2, options
        assert words in done.stderr
        assert done.stdout == ""
