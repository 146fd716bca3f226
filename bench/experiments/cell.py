"""A cell of an experiment: one training run with one seed, and the ways to judge its weights. Each is done once.

Weights are kept in `.darkroom/bench/experiments/`, named by the digest of their recipe, so cells that differ only in
sampling share a training run. Results are kept in `bench/results/EXPERIMENT/CELL.json`; the report reads them.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file

from bench.agreement import agreement, generate
from bench.classifier import load_classifier
from bench.judge import CACHE_PATH, JUDGE_PATH
from darkroom.model.checkpoint import Checkpoint, load_checkpoint, write_atomically
from darkroom.model.config import EvaluationConfig, Recipe, SamplingConfig, parse_recipe, set_field
from darkroom.model.datasets import ImageDataset, load_dataset
from darkroom.model.diffusion.denoiser import Denoiser
from darkroom.model.diffusion.network import build_network, place
from darkroom.model.digest import digest_of
from darkroom.model.images.pictures import grid, png
from darkroom.model.images.pixels import to_pixels
from darkroom.model.metrics.evaluation import evaluate
from darkroom.model.metrics.references import FolderReferences
from darkroom.model.sampling.draw import plan_row, sample
from darkroom.model.training.run import train
from darkroom.model.training.run_record import FolderRecord

RESULTS = Path("bench/results")
WORK = Path(".darkroom/bench/experiments")
REFERENCES = Path(".darkroom/bench/references")
CHECKPOINT_EVERY_IMAGES = 20_000
PICTURE_ROWS = 3
CPU_SECONDS = "cpu_seconds.json"
SEED = 7


@dataclass(frozen=True)
class Judging:
    """One way to draw a cell's images and judge them.

    sampling: fields of SamplingConfig that replace the recipe's. images: number for the metrics. agreement_images:
    number per class for the judge, 0 for no judge. raw: draw with the trained weights instead of their EMA.
    """

    name: str
    sampling: Mapping[str, Any]
    images: int
    metrics: tuple[str, ...] = ("fid", "precision_recall")
    agreement_images: int = 0
    raw: bool = False


@dataclass(frozen=True)
class Cell:
    """The changes to the base recipe (dotted field: value), the seed, and the ways to judge the result.

    weights: judge this file, which `base` describes, instead of training.
    """

    experiment: str
    name: str
    base: Path
    overrides: Mapping[str, Any]
    seed: int
    judgings: Sequence[Judging]
    weights: Path | None = None

    @property
    def path(self) -> Path:
        """The file of its results."""
        return RESULTS / self.experiment / f"{self.name}-seed{self.seed}.json"

    def picture(self, way: Judging) -> Path:
        """The picture of its images, one column for each class."""
        return self.path.with_name(f"{self.name}-seed{self.seed}-{way.name}.png")

    def folder(self) -> Path:
        """The folder of its training run."""
        return WORK / digest_of(self.recipe().model_dump_json().encode()).removeprefix("sha256:")[:16]

    def recipe(self) -> Recipe:
        """The complete recipe; raises RecipeError when the overrides do not fit the base."""
        data = yaml.safe_load(self.base.read_text(encoding="utf-8"))
        for field, value in self.overrides.items():
            set_field(data, field.split("."), value)
        total = data["training"]["total_images"]
        data["training"] |= {
            "seed": self.seed,
            "checkpoint_every_images": CHECKPOINT_EVERY_IMAGES,
            "sample_every_images": total,
            "samples_per_class": 1,
        }
        data["evaluation"] = None
        return parse_recipe(data, source=f"{self.experiment}/{self.name}")

    def missing(self) -> list[Judging]:
        """The judgings that have no result yet."""
        done = [row["asked"] for row in self.result().get("judgings", [])]
        return [way for way in self.judgings if _asked(way) not in done]

    def result(self) -> dict[str, Any]:
        """The results so far; empty before the first."""
        result: dict[str, Any] = json.loads(self.path.read_text()) if self.path.exists() else {}
        return result


def _asked(way: Judging) -> dict[str, Any]:
    asked: dict[str, Any] = json.loads(json.dumps(asdict(way)))
    return asked


def run_cell(cell: Cell) -> None:
    """Train, then judge, without what was done before. An interrupted run continues where it stopped."""
    if not cell.missing():
        return
    recipe, folder = cell.recipe(), cell.folder()
    dataset = load_dataset(recipe.dataset, cache=CACHE_PATH)
    record = FolderRecord(folder, recipe.name)
    weights = cell.weights or record.checkpoint_path(recipe.training.total_images)
    if not weights.exists():
        _train(recipe, dataset, record, folder)
    checkpoint = load_checkpoint(weights)
    for way in cell.missing():
        row = _judge(way, cell, checkpoint, recipe, dataset)
        others = [other for other in cell.result().get("judgings", []) if other["name"] != way.name]
        result = {
            "experiment": cell.experiment,
            "name": cell.name,
            "seed": cell.seed,
            "overrides": dict(cell.overrides),
            "weights": checkpoint.digest,
            "images_seen": checkpoint.header.images_seen,
            "parameters": sum(value.numel() for value in checkpoint.weights.values()),
            "train_cpu_seconds": None if cell.weights else json.loads((folder / CPU_SECONDS).read_text()),
            "judgings": [*others, row],
        }
        write_atomically(cell.path, (json.dumps(result, indent=1) + "\n").encode())


def run_alone(cell: Cell) -> str:
    """Run `run_cell` with one thread, in a pool's process; returns a line to print. Two of these beat two threads.

    It is not in the command's module because a new process does not import a package's `__main__`.
    """
    torch.set_num_threads(1)
    began = time.perf_counter()
    run_cell(cell)
    return f"{cell.experiment}/{cell.name}, seed {cell.seed}: {time.perf_counter() - began:.0f} s"


def _train(recipe: Recipe, dataset: ImageDataset, record: FolderRecord, folder: Path) -> None:
    """Train to the end. A run that was interrupted keeps no time, since the time before is not known."""
    goes_on = (folder / "state.safetensors").exists()
    began = time.process_time()
    train(recipe, dataset, record, device=torch.device("cpu"))
    (folder / CPU_SECONDS).write_text(json.dumps(None if goes_on else round(time.process_time() - began, 1)))


def _judge(way: Judging, cell: Cell, checkpoint: Checkpoint, recipe: Recipe, dataset: ImageDataset) -> dict[str, Any]:
    denoiser = _raw(cell.folder(), recipe, dataset.class_names) if way.raw else checkpoint.denoiser()
    sampling = SamplingConfig.model_validate({**recipe.sampling.model_dump(), **way.sampling})
    config = EvaluationConfig.model_validate(
        {"every_images": 1, "images": way.images, "metrics": way.metrics, "seed": SEED}
    )
    evaluations = evaluate(denoiser, checkpoint.digest, dataset, config, sampling, FolderReferences(REFERENCES))
    row: dict[str, Any] = {
        "name": way.name,
        "asked": _asked(way),
        "values": {evaluation.metric: evaluation.value for evaluation in evaluations},
        "protocols": {evaluation.metric: dict(evaluation.protocol) for evaluation in evaluations},
        "seconds": round(max(evaluation.seconds or 0.0 for evaluation in evaluations), 1),
    }
    if way.agreement_images:
        images = generate(denoiser, sampling, way.agreement_images)
        row["values"]["agreement"] = agreement(load_classifier(JUDGE_PATH), images, sampling.guidance).overall
    plans = [
        plan_row(denoiser, sampling, label=label, seed=0, index=index)
        for index in range(PICTURE_ROWS)
        for label in range(len(denoiser.class_names))
    ]
    sheet = grid(to_pixels(sample(denoiser, plans)), len(denoiser.class_names))
    write_atomically(cell.picture(way), png(sheet))
    return row


def _raw(folder: Path, recipe: Recipe, class_names: tuple[str, ...]) -> Denoiser:
    """Return a denoiser with the weights of the training state, without EMA."""
    network = build_network(recipe.model, len(class_names), recipe.model.schedule.steps)
    tensors = load_file(folder / "state.safetensors")
    network.load_state_dict({n.removeprefix("model."): v for n, v in tensors.items() if n.startswith("model.")})
    return Denoiser(recipe.model, class_names, place(network, torch.device("cpu")).eval().requires_grad_(False))
