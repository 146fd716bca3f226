"""`darkroom evaluate`: a weights file's figures, each with the protocol that it was measured by."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from darkroom.app.cli.terminal import open_console
from darkroom.model.checkpoint import CheckpointHeader, load_checkpoint
from darkroom.model.config import Config, DatasetConfig, EvaluationConfig, Recipe, SamplingConfig, load_recipe
from darkroom.model.datasets import DatasetError, load_dataset
from darkroom.model.figure import Figure
from darkroom.model.machine.device import find_device
from darkroom.model.metrics.evaluation import evaluate
from darkroom.model.metrics.references import FolderReferences
from darkroom.model.sampling_fit import Unfit, fitted
from darkroom.model.user_error import UserError

INTERRUPTED = 130

Kind = TypeVar("Kind", bound=Config)


class RequestError(UserError):
    """Options that do not fit; the message names the option."""


@dataclass(frozen=True)
class EvaluationRequest:
    """What the command line asked for; None and absent names leave the recipe's and the weights file's own settings.

    settings: fields of EvaluationConfig and of SamplingConfig by name.
    """

    weights: Path
    recipe: Path | None
    dataset: Path | None
    split: str | None
    settings: Mapping[str, Any]


def run_evaluation(request: EvaluationRequest, datasets: Path, device_name: str | None, as_json: bool) -> int:
    """Measure and print; returns the process's exit code: 0, or 130 when interrupted. Raises UserError.

    datasets: cache of decoded data sets and, below it, of what is computed of them once; `darkroom train` shares it.
    """
    console = open_console(stderr=True)
    try:
        device = find_device(device_name, "--device")
        checkpoint = load_checkpoint(request.weights)
        recipe = _recipe(request, checkpoint.header)
        config, sampling = _settings(request.settings, recipe, checkpoint.header)
        source = _dataset(request, recipe)
        where = f" {source.path}" if source.path else ""
        console.print(f"Reading {source.format} data set{where}, {source.split}", markup=False)
        denoiser, references = checkpoint.denoiser(device), FolderReferences(datasets / "references")
        try:
            dataset = load_dataset(source, datasets)
        except DatasetError as error:
            raise UserError(f"{error}; --dataset names a data set that is here") from error
        console.print(f"{config.images:,} images, {', '.join(config.metrics)}, on {device}", markup=False)
        try:
            found = evaluate(
                denoiser, checkpoint.digest, dataset, config, sampling, references, lambda: False, source.split
            )
        except ValueError as error:  # settings that do not fit the model or each other
            raise UserError(str(error)) from error
    except KeyboardInterrupt:
        return INTERRUPTED
    print(figures_json(checkpoint.digest, found) if as_json else figures_table(found))
    return 0


def figures_table(found: Sequence[Figure]) -> str:
    """A markdown table; values with all their digits."""
    lines = ["| metric | value | protocol |", "| --- | ---: | --- |"]
    lines += [f"| {one.metric} | {one.value!r} | {one.protocol_string} |" for one in found]
    return "\n".join(lines)


def figures_json(weights_digest: str, found: Sequence[Figure]) -> str:
    """One object with the weights' digest and the figures."""
    return json.dumps({"weights_digest": weights_digest, "evaluations": [one.plain() for one in found]}, indent=2)


def _recipe(request: EvaluationRequest, header: CheckpointHeader) -> Recipe:
    if request.recipe is not None:
        return load_recipe(request.recipe)
    if header.recipe is None:
        raise RequestError(f"{request.weights}: does not say its recipe; name one with --recipe")
    return header.recipe


def _dataset(request: EvaluationRequest, recipe: Recipe) -> DatasetConfig:
    changes = {"path": request.dataset, "split": request.split}
    return _changed(recipe.dataset, {name: value for name, value in changes.items() if value is not None})


def _settings(
    settings: Mapping[str, Any], recipe: Recipe, header: CheckpointHeader
) -> tuple[EvaluationConfig, SamplingConfig]:
    """Steps and guidance are the evaluation's own where it has them, as in training.

    What the weights file says of sampling gives way where it does not go with what is named, as in the service.
    """
    of_evaluation = EvaluationConfig.model_fields.keys()
    of_sampling = SamplingConfig.model_fields.keys() - of_evaluation
    unknown = sorted(settings.keys() - of_evaluation - of_sampling)
    if unknown:
        raise RequestError(
            f"{', '.join(unknown)}: no such setting; there are {', '.join(sorted(of_evaluation | of_sampling))}"
        )
    own = recipe.evaluation or EvaluationConfig(every_images=recipe.training.total_images)
    config = _changed(own, {name: value for name, value in settings.items() if name in of_evaluation})
    shared = {name: getattr(config, name) for name in ("steps", "guidance") if getattr(config, name) is not None}
    card = header.model_copy(update={"sampling": _changed(header.sampling, shared)})
    named = {name: value for name, value in settings.items() if name in SamplingConfig.model_fields}
    try:
        return config.model_copy(update={"steps": None, "guidance": None}), fitted(card, named)
    except ValidationError as error:
        raise RequestError(_faults(error)) from error
    except Unfit as unfit:
        raise RequestError(f"{', '.join(unfit.fields)}: {unfit}") from unfit


def _changed(config: Kind, changes: Mapping[str, Any]) -> Kind:
    try:
        return type(config).model_validate({**config.model_dump(), **changes})
    except ValidationError as error:
        raise RequestError(_faults(error)) from error


def _faults(error: ValidationError) -> str:
    return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
