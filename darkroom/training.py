"""`darkroom.train`: a training in this process, in the same kind of folder as that of `darkroom train`."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from darkroom.data import CACHE, open_data, open_in_memory
from darkroom.model.config import Recipe, SettingsError, load_recipe, parse_recipe, set_field
from darkroom.model.datasets.dataset import ImageDataset
from darkroom.model.datasets.load import load_dataset
from darkroom.model.machine.device import find_device
from darkroom.model.machine.folder_lock import run_lock
from darkroom.model.machine.interruption import StopOnInterrupt
from darkroom.model.machine.threads import computing_with_all
from darkroom.model.metrics.references import FolderReferences
from darkroom.model.planning.cautions import cautions
from darkroom.model.planning.data_facts import look_at
from darkroom.model.planning.plan import make_plan, model_side
from darkroom.model.planning.prepare import PLAN, plan_name, prepare, read_plan, write_plan
from darkroom.model.planning.speed import measured_speed
from darkroom.model.progress import OnProgress
from darkroom.model.training.curve_point import CurvePoint, ProgressLines
from darkroom.model.training.day_limit import DayLimit
from darkroom.model.training.run import train as run_training
from darkroom.model.training.run_record import FolderRecord
from darkroom.progress import Lines, progress
from darkroom.shipped import shipped_file
from darkroom.trained_model import TrainedModel, load

IN_MEMORY = "data"
"""Name of a planned run on data that has no path."""


def train(
    recipe: str | Path | Mapping[str, Any] | Recipe | None = None,
    data: Any = None,
    *,
    minutes: float | None = None,
    class_names: Sequence[str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    folder: str | Path | None = None,
    cache: str | Path = CACHE,
    device: str | None = None,
    on_progress: Callable[[CurvePoint], None] | None = None,
    long: bool = False,
) -> TrainedModel:
    """Train a model and return it. The same call goes on with a run that was stopped.

    recipe: a shipped recipe's name, the path of a YAML file, or the recipe itself, plain or as a Recipe. With `minutes`
    it is left out.
    data: default: the data set that the recipe names. Otherwise one of these, scaled to the recipe's model.image_size:
      - a path: a folder of class folders, a zip of one, an npz archive, or whatever the recipe's own format reads
      - arrays (images, labels): the images uint8 (N, H, W) or (N, H, W, C), the labels integers (N,)
      - a torch Dataset of (image, label): PIL images, uint8 arrays, or tensors (C, H, W) as torchvision makes them
    minutes: makes the recipe for the data and this time (`darkroom plan` shows it); the run then ends by the clock.
    class_names: where the data carries none; default: "0", "1", ...
    overrides: other values for fields of the recipe by dotted name, such as {"training.total_images": 20_000}.
    folder: receives checkpoints, loss curve and sample grids; default: runs/NAME.
    cache: a folder for decoded data sets. device: cpu, cuda or cuda:NUMBER; default: CUDA where there is one.
    on_progress: called every few batches; default: prints a line now and then. What takes more than two seconds before
    the first batch says on stderr how far it is.
    long: allows a run that would take more than a day. Without it, such a run ends after its first steps with a
    TrainingError that says how long it would take.

    Ctrl-C, or the notebook's stop button, stops after the step under way, keeps a checkpoint and raises
    KeyboardInterrupt. Raises UserError for whatever the caller can mend.
    """
    cache, where = Path(cache), find_device(device, "device")
    folder = None if folder is None else Path(folder)
    if isinstance(minutes, str | bool):
        raise SettingsError(f"minutes is {minutes!r}: give a number, without quotes")
    if minutes is None:
        if recipe is None:
            raise SettingsError("say what to train: a recipe, or data and minutes for a planned one")
        chosen = _changed(find_recipe(recipe), overrides or {})
        with progress() as meter:
            config, dataset = open_data(data, chosen, class_names, cache, on_progress=meter)
        chosen = chosen.model_copy(update={"dataset": config})
    else:
        if recipe is not None or data is None:
            raise SettingsError("minutes needs data and no recipe: train(data=..., minutes=45)")
        with progress() as meter:
            chosen, dataset = _planned(data, minutes, class_names, cache, where, folder, meter)
        chosen = _changed(chosen, overrides or {})
    folder = Path("runs") / chosen.name if folder is None else folder
    record = FolderRecord(folder, chosen.name)
    day_limit = DayLimit("pass long=True", agreed=long)
    show = on_progress or ProgressLines(print, lambda: record.forecast)

    def limited(now: CurvePoint) -> None:
        day_limit(now)
        show(now)

    with computing_with_all(), run_lock(folder, "folder="), StopOnInterrupt(print) as should_stop:
        result = run_training(
            chosen,
            dataset,
            record,
            device=where,
            references=FolderReferences(cache / "references"),
            on_progress=limited,
            on_measurement=Lines(print),
            should_stop=should_stop,
        )
    if not result.finished:
        raise KeyboardInterrupt(f"stopped after {result.images_seen:,} images; the same call goes on in {folder}")
    weights = record.checkpoint_path(result.images_seen)
    print(f"{result.images_seen:,} images seen. Weights: {weights}")
    return load(weights, device=device)


def _planned(
    data: Any,
    minutes: float,
    class_names: Sequence[str] | None,
    cache: Path,
    device: torch.device,
    folder: Path | None,
    on_progress: OnProgress,
) -> tuple[Recipe, ImageDataset]:
    """Plan a recipe for the data. A run that was planned before keeps its plan, so that the same call continues it."""
    path = Path(data) if isinstance(data, str | Path) else None
    file = (folder or Path("runs") / (IN_MEMORY if path is None else plan_name(path))) / PLAN
    speed = measured_speed(device, cache, on_progress=on_progress)
    if path is None:
        known = read_plan(file, None, minutes) if file.exists() else None

        def side(longest: int) -> int:
            return known.model.image_size if known else model_side(longest, minutes, speed, channels=3)

        config, dataset = open_in_memory(data, class_names, cache, side, on_progress)
        if known is not None:
            return known, dataset
        plan = make_plan(look_at(dataset), config, IN_MEMORY, minutes, speed)
    elif file.exists():
        known = read_plan(file, path, minutes)
        return known, load_dataset(known.dataset, cache, on_progress)
    else:
        plan, dataset = prepare(path, minutes, speed, cache, on_progress=on_progress)
    write_plan(plan, file)
    print("\n".join([plan.expectation(), *cautions(plan)]))
    return plan.recipe, dataset


def find_recipe(recipe: str | Path | Mapping[str, Any] | Recipe) -> Recipe:
    """Return the recipe that a caller means; raises UserError."""
    if isinstance(recipe, Recipe):
        return recipe
    if isinstance(recipe, Mapping):
        return parse_recipe(dict(recipe), source="recipe")
    return load_recipe(shipped_file(recipe, "recipes", ".yaml", "recipe"))


def _changed(recipe: Recipe, overrides: Mapping[str, Any]) -> Recipe:
    data = recipe.model_dump()
    if not isinstance(overrides, Mapping) or not all(isinstance(name, str) for name in overrides):
        raise SettingsError('overrides must name fields of the recipe: {"training.total_images": 20000}')
    for name, value in overrides.items():
        set_field(data, name.split("."), value)
    return parse_recipe(data, source="recipe with overrides")
