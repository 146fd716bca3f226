"""From a path of labelled pictures to a plan: chooses their side, decodes them, and measures this machine."""

import re
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml
from PIL import Image

from darkroom.model.config import DatasetConfig, Recipe, load_recipe
from darkroom.model.datasets.class_folders import PILLOW_FORMATS
from darkroom.model.datasets.dataset import DatasetError, ImageDataset
from darkroom.model.datasets.decoded import SizesDiffer
from darkroom.model.datasets.load import dataset_files, load_dataset
from darkroom.model.planning.data_facts import look_at
from darkroom.model.planning.plan import SIDES, Plan, PlanError, make_plan, minutes_told, model_side

FORMATS = {".npz": "npz", ".zip": "zip"}
"""The format of a file by its suffix; a folder holds class folders."""
PLAN = "recipe.yaml"
"""File in a run's folder that holds the planned recipe."""
MEASURED_FILES = 500
"""Pictures whose size is read, evenly spaced in the folder."""


def prepare(
    data: Path,
    minutes: float,
    speed: Callable[[Recipe], float],
    cache: Path,
    reading: Mapping[str, Any] = MappingProxyType({}),
) -> tuple[Plan, ImageDataset]:
    """Plan a training on `data` for a time.

    data: a folder of class folders, a zip of one, or an npz archive. speed: as in `make_plan`.
    cache: folder of decoded data sets. reading: fields of DatasetConfig that say how to read the pictures, such as
    `fit`. Raises DatasetError and PlanError.
    """
    if not data.exists():
        raise DatasetError(f"{data}: no such file or folder")
    config = DatasetConfig.model_validate(
        {"format": FORMATS.get(data.suffix.lower(), "folder"), "path": data, **reading}
    )
    # The number of classes hardly changes the speed, so that the side can be chosen before anything is decoded.
    side = model_side(_longest_side(config, cache), minutes, speed, channels=3, classes=2)
    config = config.model_copy(update={"image_size": side})
    dataset = load_dataset(config, cache)
    return make_plan(look_at(dataset), config, plan_name(data), minutes, speed), dataset


def plan_name(data: Path) -> str:
    """Return a name for the run and its model: the folder's or file's, in the letters that a name may have."""
    stem = data.resolve().stem if data.is_file() else data.resolve().name
    return model_name(stem)


def model_name(text: str) -> str:
    """Return the text in the letters that a model's name may have."""
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._")[:63] or "model"


def _longest_side(config: DatasetConfig, cache: Path) -> int:
    """Return the side that pictures have without enlarging most of them: the median of their shorter sides."""
    if config.format == "folder":
        files = dataset_files(config)
        sides = [side for file in files[:: 1 + len(files) // MEASURED_FILES] if (side := _shorter_side(file))]
        return int(statistics.median_low(sides)) if sides else SIDES[-1]
    try:
        return int(load_dataset(config, cache).images.shape[2])
    except SizesDiffer as error:
        return error.shorter_side


def _shorter_side(file: Path) -> int | None:
    """None for a file that is no picture: decoding names it."""
    try:
        with Image.open(file, formats=PILLOW_FORMATS) as picture:
            return min(picture.size)
    except Exception:  # Pillow's decoders raise many kinds on damaged files
        return None


def write_plan(plan: Plan, file: Path) -> None:
    """Write the plan's recipe as YAML, with the reasons in comments."""
    reasons = "".join(f"# {reason.field}: {reason.why}\n" for reason in plan.reasons)
    recipe = yaml.safe_dump(plan.recipe.model_dump(mode="json"), sort_keys=False)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"# Planned for {minutes_told(plan.minutes)}.\n{reasons}{recipe}", encoding="utf-8")


def read_plan(file: Path, data: Path) -> Recipe:
    """Read what `write_plan` wrote for a run on `data`; raises PlanError when it is a plan for other data."""
    recipe = load_recipe(file)
    if recipe.dataset.path is None or recipe.dataset.path.resolve() != data.resolve():
        raise PlanError(
            f"{file} is the plan of a run on {recipe.dataset.path}: choose another --folder for a run on {data}"
        )
    return recipe
