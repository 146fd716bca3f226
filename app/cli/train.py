"""`darkroom train`: trains a recipe, shows a progress bar, stops cleanly on Ctrl-C, and continues a stopped run.

With `--minutes` it makes the recipe itself, from a folder of pictures.
"""

import json
from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from darkroom.app.cli.terminal import open_console, plain_table
from darkroom.app.cli.training_processes import training_processes
from darkroom.model.config import Recipe, load_recipe
from darkroom.model.datasets import load_dataset
from darkroom.model.machine.device import find_device, require_devices
from darkroom.model.machine.folder_lock import run_lock
from darkroom.model.machine.interruption import StopOnInterrupt
from darkroom.model.machine.threads import compute_with
from darkroom.model.metrics.references import FolderReferences
from darkroom.model.planning.cautions import cautions
from darkroom.model.planning.plan import Plan
from darkroom.model.planning.prepare import PLAN, plan_name, prepare, read_plan, write_plan
from darkroom.model.planning.speed import measured_speed
from darkroom.model.progress import counted
from darkroom.model.training.curve_point import CurvePoint, ProgressLines, progress_facts
from darkroom.model.training.day_limit import DayLimit
from darkroom.model.training.distributed import first_then_others, launched_rank, process_group
from darkroom.model.training.run import train
from darkroom.model.training.run_record import FolderRecord
from darkroom.model.user_error import EXIT_CODE, UserError
from darkroom.model.words import several
from darkroom.progress import Lines, progress


def run_training(
    recipe_path: Path, folder: Path | None, datasets: Path, device_name: str | None, *, long: bool = False
) -> int:
    """Train and report. Returns the process's exit code: 0 at the end, 130 when stopped early. Raises UserError.

    long: the user agrees to a run of more than a day.
    folder: default `runs/RECIPE`; if it holds a state of this recipe, the run continues from that state.
    With several devices each process calls this, and the first one reports.
    """
    first = not launched_rank()
    console = open_console(stderr=True, quiet=not first)
    try:
        recipe = load_recipe(recipe_path)
        folder = folder or Path("runs") / recipe.name
        device = find_device(device_name, "--device", tried=not first)
        require_devices(device, recipe.training.devices)
        with (
            run_lock(folder) if first else nullcontext(),
            training_processes(recipe.training.devices),
            process_group(device) as device,
        ):
            return _train(recipe, folder, datasets, device, console, long=long)
    except UserError:
        if first:
            raise
        return EXIT_CODE  # the first process prints the error


def plan_training(
    data: Path, minutes: float, datasets: Path, device_name: str | None, console: Console, reading: Mapping[str, Any]
) -> Plan:
    """Plan a training on `data` and show the plan with its reasons. reading: as in `prepare`. Raises UserError."""
    device = find_device(device_name, "--device")
    compute_with()  # as the training will, so that the plan knows its speed
    console.print(f"Looking at {data} and measuring this machine", markup=False)
    with progress(open_console(stderr=True)) as meter:
        speed = measured_speed(device, datasets, on_progress=meter)
        plan, _ = prepare(data, minutes, speed, datasets, reading, meter)
    rows = [(one.field, json.dumps(one.value, ensure_ascii=False), one.why) for one in plan.reasons]
    console.print(plain_table(("field", "value", "because"), rows))
    for line in (plan.expectation(), *cautions(plan)):
        console.print(line, markup=False, highlight=False)
    return plan


def planned_recipe(
    data: Path,
    minutes: float,
    folder: Path | None,
    datasets: Path,
    device_name: str | None,
    reading: Mapping[str, Any],
) -> tuple[Path, Path]:
    """Return the path of a recipe for `data`, and the run's folder, which holds it. Raises UserError.

    A run that was planned before keeps its plan, so that the same command continues it.
    """
    console = open_console(stderr=True)
    folder = folder or Path("runs") / plan_name(data)
    file = folder / PLAN
    if file.exists():
        recipe = read_plan(file, data, minutes, reading)
        console.print(f"Continuing the run of {recipe.training.total_images:,} images in {file}", markup=False)
    else:
        write_plan(plan_training(data, minutes, datasets, device_name, console, reading), file)
    return file, folder


def _train(recipe: Recipe, folder: Path, datasets: Path, device: torch.device, console: Console, *, long: bool) -> int:
    where = f" {recipe.dataset.path}" if recipe.dataset.path else ""
    console.print(f"Reading {recipe.dataset.format} data set{where}", markup=False)
    with progress(console) as meter:
        dataset = first_then_others(lambda: load_dataset(recipe.dataset, datasets, meter))
    counts = f"{several(len(dataset), 'image')}, {several(len(dataset.class_names), 'class')}"
    devices = f"{recipe.training.devices} x {device.type}" if recipe.training.devices > 1 else str(device)
    console.print(f"{counts}; training on {devices} in {folder}", markup=False)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("images  {task.fields[facts]}"),
    )
    record, references = FolderRecord(folder, recipe.name), FolderReferences(datasets / "references")
    drawn = console.is_terminal
    with Progress(*columns, console=console, disable=not drawn) as bar, StopOnInterrupt(console.print) as should_stop:
        task = bar.add_task(recipe.name, total=recipe.training.total_images, facts="")
        say = partial(console.print, highlight=False, soft_wrap=True)
        lines, measured = ProgressLines(say, lambda: record.forecast), Lines(say)
        day_limit = DayLimit("add --long", agreed=long)

        def on_progress(now: CurvePoint) -> None:
            day_limit(now)
            facts = progress_facts(now, record.forecast)
            bar.update(task, completed=now.images_seen, total=now.total_images, facts=facts)
            if not drawn:
                lines(now)

        def on_measurement(what: str, done: int, total: int | None) -> None:
            if drawn:
                bar.update(task, facts=counted(what, done, total))
            else:
                measured(what, done, total)

        result = train(
            recipe,
            dataset,
            record,
            device=device,
            references=references,
            on_progress=on_progress,
            on_measurement=on_measurement,
            should_stop=should_stop,
        )
    weights = record.checkpoint_path(result.images_seen)
    console.print(f"{result.images_seen:,} images seen. Weights: {weights}", markup=False, soft_wrap=True)
    if record.findings is not None:
        console.print("Last look:" if record.findings else "Last look: nothing wrong was found.")
        for finding in record.findings:
            console.print(f"  {finding.severity}: {finding.advice}", markup=False, highlight=False, soft_wrap=True)
    if not result.finished:
        console.print("Stopped early; run the same command again to continue.")
    return 0 if result.finished else 130
