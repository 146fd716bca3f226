"""`darkroom evaluate`: measures a weights file, and prints each figure with its protocol."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from darkroom.app.cli.terminal import open_console
from darkroom.model.checkpoint import load_checkpoint
from darkroom.model.config import DatasetConfig, Recipe, changed, load_recipe
from darkroom.model.datasets import DatasetError, load_dataset
from darkroom.model.figure import Figure, figures_table
from darkroom.model.machine.device import find_device
from darkroom.model.metrics.evaluation import evaluate
from darkroom.model.metrics.references import FolderReferences
from darkroom.model.metrics.settings import evaluation_settings
from darkroom.model.user_error import UserError
from darkroom.progress import progress

INTERRUPTED = 130


@dataclass(frozen=True)
class EvaluationRequest:
    """The options of the command line. The recipe or the weights file decides what is None or absent.

    settings: fields of EvaluationConfig and SamplingConfig by name.
    """

    weights: Path
    recipe: Path | None
    dataset: Path | None
    split: str | None
    settings: Mapping[str, Any]


def run_evaluation(request: EvaluationRequest, datasets: Path, device_name: str | None, as_json: bool) -> int:
    """Measure and print; returns the process's exit code: 0, or 130 when interrupted. Raises UserError.

    datasets: cache of decoded data sets and of their statistics, which `darkroom train` shares.
    """
    console = open_console(stderr=True)
    try:
        device = find_device(device_name, "--device")
        checkpoint = load_checkpoint(request.weights)
        recipe = checkpoint.header.recipe if request.recipe is None else load_recipe(request.recipe)
        if recipe is None:
            raise UserError(f"{request.weights} does not contain its recipe; name one with --recipe")
        config, sampling = evaluation_settings(request.settings, recipe, checkpoint.header)
        source = _dataset(request, recipe)
        where = f" {source.path}" if source.path else ""
        console.print(f"Reading {source.format} data set{where}, {source.split}", markup=False)
        denoiser, references = checkpoint.denoiser(device), FolderReferences(datasets / "references")
        try:
            with progress(console) as meter:
                dataset = load_dataset(source, datasets, meter)
        except DatasetError as error:
            raise UserError(f"{error}; name a data set on this machine with --dataset") from error
        console.print(f"{config.images:,} images, {', '.join(config.metrics)}, on {device}", markup=False)
        try:
            with progress(console) as meter:
                found = evaluate(
                    denoiser,
                    checkpoint.digest,
                    dataset,
                    config,
                    sampling,
                    references,
                    split=source.split,
                    on_progress=meter,
                )
        except ValueError as error:  # settings that do not fit the model or each other
            raise UserError(str(error)) from error
    except KeyboardInterrupt:
        return INTERRUPTED
    print(figures_json(checkpoint.digest, found) if as_json else figures_table(found))
    return 0


def figures_json(weights_digest: str, found: Sequence[Figure]) -> str:
    """Return one JSON object with the weights' digest and the figures."""
    return json.dumps({"weights_digest": weights_digest, "evaluations": [one.plain() for one in found]}, indent=2)


def _dataset(request: EvaluationRequest, recipe: Recipe) -> DatasetConfig:
    changes = {"path": request.dataset, "split": request.split}
    return changed(recipe.dataset, {name: value for name, value in changes.items() if value is not None})
