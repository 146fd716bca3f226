"""From a path of labelled pictures to a plan: chooses their side, decodes them, and measures this machine."""

import hashlib
import json
import re
import statistics
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml
from PIL import Image

from darkroom.model.config import DatasetConfig, Recipe, load_recipe
from darkroom.model.datasets.class_folders import NAMED_FAULTS, PILLOW_FORMATS, DamagedPictures
from darkroom.model.datasets.dataset import DatasetError, ImageDataset
from darkroom.model.datasets.decoded import SizesDiffer
from darkroom.model.datasets.load import dataset_files, load_dataset
from darkroom.model.planning.data_facts import look_at
from darkroom.model.planning.plan import SIDES, Plan, PlanError, make_plan, minutes_told, model_side
from darkroom.model.progress import OnProgress, silent

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
    on_progress: OnProgress = silent,
) -> tuple[Plan, ImageDataset]:
    """Plan a training on `data` for a time.

    data: a folder of class folders, a zip of one, or an npz archive. speed: as in `make_plan`.
    cache: folder of decoded data sets. reading: fields of DatasetConfig that say how to read the pictures, such as
    `fit`. on_progress: told how many pictures are decoded. Raises DatasetError and PlanError.
    """
    if not data.exists():
        raise DatasetError(f"{data}: no such file or folder")
    config = DatasetConfig.model_validate(
        {"format": FORMATS.get(data.suffix.lower(), "folder"), "path": data, **reading}
    )
    # Grey pictures are hardly faster, so that the side can be chosen before anything is decoded.
    longest, damaged = _longest_side(config, cache, on_progress)
    if damaged and not config.skip_damaged:  # names them, before the machine is measured
        _decoded(config.model_copy(update={"image_size": longest}), cache, on_progress)
    side = model_side(longest, minutes, speed, channels=3)
    config = config.model_copy(update={"image_size": side})
    dataset = _decoded(config, cache, on_progress)
    return make_plan(look_at(dataset), config, plan_name(data), minutes, speed), dataset


def _decoded(config: DatasetConfig, cache: Path, on_progress: OnProgress) -> ImageDataset:
    """Like `load_dataset`, but the error names all damaged pictures."""
    try:
        return load_dataset(config, cache, on_progress)
    except DamagedPictures as error:
        if unnamed := error.faults[NAMED_FAULTS:]:
            raise DatasetError(f"{error}. Also: {'; '.join(unnamed)}") from error
        raise


def plan_name(data: Path) -> str:
    """Return a name for the run and its model: the folder's or file's, in the letters that a name may have."""
    stem = data.resolve().stem if data.is_file() else data.resolve().name
    return model_name(stem)


def model_name(text: str) -> str:
    """Return the text in the letters that a model's name may have: without accents, and a digest where letters fall."""
    plain = "".join(one for one in unicodedata.normalize("NFKD", text.lower()) if not unicodedata.combining(one))
    name = re.sub(r"[^a-z0-9._-]+", "-", plain).strip("-._")[:63]
    if name and (plain.isascii() or not any(one.isalnum() and not one.isascii() for one in plain)):
        return name
    return f"{name[:54] or 'model'}-{hashlib.sha256(text.encode(errors='surrogateescape')).hexdigest()[:8]}"


def _longest_side(config: DatasetConfig, cache: Path, on_progress: OnProgress) -> tuple[int, bool]:
    """Return the side that pictures have without enlarging most of them: the median of their shorter sides.

    And whether a picture was found that cannot be read: of a folder, only MEASURED_FILES are looked at.
    """
    if config.format == "folder":
        files = dataset_files(config)
        found = [_shorter_side(file) for file in files[:: 1 + len(files) // MEASURED_FILES]]
        sides = [side for side in found if side]
        return int(statistics.median_low(sides)) if sides else SIDES[-1], len(sides) < len(found)
    try:
        return int(_decoded(config, cache, on_progress).images.shape[2]), False
    except SizesDiffer as error:
        return error.shorter_side, error.damaged


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


def read_plan(
    file: Path, data: Path | None, minutes: float, reading: Mapping[str, Any] = MappingProxyType({})
) -> Recipe:
    """Read what `write_plan` wrote for such a run; raises PlanError when that was another one.

    data: None for data that has no path. reading: as in `prepare`.
    """
    recipe = load_recipe(file)
    planned = recipe.dataset
    if data is not None and (planned.path is None or planned.path.resolve() != data.resolve()):
        raise PlanError(f"{file} is the plan of a run on {planned.path}: choose another folder for a run on {data}")
    if recipe.training.minutes != minutes:
        theirs = minutes_told(recipe.training.minutes or 0.0)
        raise PlanError(
            f"{file} is the plan of a run of {theirs}, which the same call continues: choose another folder for a run "
            f"of {minutes_told(minutes)}"
        )
    wanted = DatasetConfig.model_validate({**planned.model_dump(), **reading})
    for field in reading:
        if getattr(planned, field) != getattr(wanted, field):
            was, now = (json.dumps(getattr(one, field)) for one in (planned, wanted))
            raise PlanError(f"{file} is the plan of a run with {field} {was}: choose another folder for {now}")
    return recipe
