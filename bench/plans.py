"""Measures planned trainings: against a random search at the same time, and against the forecast.

python -m bench.plans sweep DATA ... [--minutes M] [--runs N] [--out FILE]
python -m bench.plans curve DATA ... [--minutes M ...] [--out FILE]
python -m bench.plans table [--out FILE]

DATA is a folder with `train` and `test`, as `python -m bench.datasets` builds it. Time is this process's processor time
with one thread, so that a shared machine does not change what a run is given. Every run trains for the same time, and
its pictures are measured as a planned run's are: unguided, in ten steps. A run that is in FILE is not done again.
`python -m bench.plans fit` fits the curve of `model/training/forecast.py` to the runs that `curve` recorded in FILE.
`python -m bench.plans thresholds DATA ...` draws with planned runs' weights by each kind of thresholding, and prints a
table.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import product
from operator import attrgetter
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from pydantic import ValidationError

from darkroom.model.config import EvaluationConfig, Recipe, RecipeError, ThresholdName, parse_recipe, set_field
from darkroom.model.datasets import ImageDataset, load_dataset
from darkroom.model.images.ground import on_flat_ground
from darkroom.model.images.pictures import grid, png
from darkroom.model.images.pixels import to_pixels
from darkroom.model.metrics.anchors import distance_of, noise_distance, own_distance
from darkroom.model.metrics.evaluation import FolderReferences, evaluate
from darkroom.model.metrics.generation import draw, plan_drawing
from darkroom.model.planning.data_facts import look_at
from darkroom.model.planning.plan import MOST_CELLS, TRAINING_SHARE, parameters
from darkroom.model.planning.prepare import prepare
from darkroom.model.planning.speed import measured_speed
from darkroom.model.sampling.draw import plan_row, sample
from darkroom.model.training.forecast import CURVE, Anchors, Correction, Curve, Measured
from darkroom.model.training.inspection import Inspection
from darkroom.model.training.trainer import Trainer, TrainingError
from darkroom.model.training.verdict import saturation

OUT = Path("bench/results/plans.jsonl")
CACHE = Path(".darkroom/bench/plans")
POINTS = (0.1, 0.2, 0.5, 1.0)
"""Shares of a curve's run at which its pictures are measured."""
IMAGES = 1000
SEED = 20


def _one_of(draw: np.random.Generator, *choices: Any) -> Any:
    return choices[draw.integers(len(choices))]


SPACE: Mapping[str, Callable[[np.random.Generator], Any]] = {
    "model.unet.patch_size": lambda draw: _one_of(draw, 1, 2, 4),
    "model.unet.multipliers": lambda draw: _one_of(draw, [1], [1, 2], [1, 2]),
    "model.unet.width": lambda draw: _one_of(draw, 24, 32, 48, 64, 96),
    "model.unet.blocks_per_level": lambda draw: _one_of(draw, 1, 2, 3),
    "model.unet.dropout": lambda draw: _one_of(draw, 0.0, 0.1, 0.2),
    "model.unet.attention": lambda draw: _one_of(draw, True, False),
    "training.batch_size": lambda draw: _one_of(draw, 16, 32, 64, 128),
    "training.horizontal_flip": lambda draw: _one_of(draw, True, False),
    "training.precision": lambda draw: _one_of(draw, "float32", "bfloat16"),
    "optimizer.name": lambda draw: _one_of(draw, "muon", "muon", "adamw"),
    "optimizer.rate": lambda draw: 2.0 ** float(draw.uniform(-2.0, 2.0)),
    "ema.relative_length": lambda draw: _one_of(draw, 0.05, 0.1, 0.2),
    "objective.times": lambda draw: _one_of(
        draw,
        {"name": "normal", "mean": 0.5, "scale": 2.0},
        {"name": "normal", "mean": 0.0, "scale": 1.6},
        {"name": "normal", "mean": 1.0, "scale": 2.0},
        {"name": "uniform"},
    ),
}
"""What the search draws, each field by itself. `optimizer.rate` multiplies the rate that the plan has for the width."""


def changed(plan: Recipe, drawn: Mapping[str, Any]) -> Recipe:
    """Return the planned recipe with the fields that the search drew. Raises RecipeError when they do not fit."""
    tree = plan.model_dump(mode="json")
    fields = dict(drawn)
    rate, attention = fields.pop("optimizer.rate"), fields.pop("model.unet.attention")
    width = fields["model.unet.width"]
    muon = fields["optimizer.name"] == "muon"
    fields["optimizer.learning_rate"] = rate * (2e-3 if muon else 1e-3) * (32 / width) ** 0.5
    fields["model.unet.attention_head_channels"] = next(size for size in (32, 16, 8) if width % size == 0)
    levels = len(fields["model.unet.multipliers"])
    cells = plan.model.image_size // fields["model.unet.patch_size"] // 2 ** (levels - 1)
    attends = attention and cells <= MOST_CELLS
    fields["model.unet.attention_resolutions"] = [cells] if attends else []
    fields["model.unet.middle_attention"] = attends
    for field, value in fields.items():
        set_field(tree, field.split("."), value)
    return parse_recipe(tree, source="search")


def run(recipe: Recipe, data: ImageDataset, seconds: float, shares: Sequence[float]) -> Iterator[tuple[Trainer, float]]:
    """Train for a processor time; yields the trainer, and the seconds spent, when it has come to each share."""
    timed = recipe.training.model_copy(update={"minutes": seconds / 60.0})
    trainer = Trainer(recipe.model_copy(update={"training": timed}), data, torch.device("cpu"))
    spent = 0.0
    for share in shares:
        while spent < share * seconds:
            began = time.process_time()
            trainer.place = int(min(1.0, spent / seconds) * timed.total_images)
            trainer.step()
            spent += time.process_time() - began
        yield trainer, spent


def measure(trainer: Trainer, references: FolderReferences) -> float:
    """Return the Fréchet distance of the run's pictures now."""
    images = min(IMAGES, len(trainer.dataset))
    config = EvaluationConfig(every_images=1, images=images, steps=10, guidance=1.0)
    settings = trainer.sampling
    return evaluate(trainer.denoiser(), "bench", trainer.dataset, config, settings, references)[0].value


def picture(trainer: Trainer, columns: int = 10) -> bytes:
    """Draw some pictures of each of the first classes with the plan's settings."""
    denoiser, settings = trainer.denoiser(), trainer.sampling
    classes = min(10, len(denoiser.class_names))
    rows = [
        plan_row(denoiser, settings, label=label, seed=SEED, index=index)
        for label in range(classes)
        for index in range(columns)
    ]
    return png(grid(to_pixels(sample(denoiser, rows)), columns), scale=2)


class Bench:
    """One data set, its references, and the file of results."""

    def __init__(self, folder: Path, minutes: float, out: Path) -> None:
        self.name, self.folder, self.minutes, self.out = folder.name, folder, minutes, out
        self.speed = measured_speed(torch.device("cpu"), CACHE, time.process_time)
        self.plan, self.data = prepare(folder, minutes, self.speed, CACHE)
        self.references = FolderReferences(CACHE / "references")

    @property
    def seconds(self) -> float:
        """What a planned run of these minutes spends on training."""
        return 60.0 * self.minutes * TRAINING_SHARE

    @cached_property
    def facts(self) -> dict[str, float]:
        """What every record says of the data set."""
        facts = look_at(self.data)
        test = load_dataset(self.plan.recipe.dataset.model_copy(update={"split": "test"}), CACHE)
        return {
            "channels": facts.channels,
            "side": facts.side,
            "classes": len(facts.class_counts),
            "distinct": facts.distinct,
            "real": distance_of(test.images[:IMAGES], self.data, self.references),
            "own": own_distance(self.data, self.references, IMAGES),
            "noise": noise_distance(self.data, self.references),
        }

    def known(self) -> set[tuple[str, str, float]]:
        """The runs that the file holds."""
        return {(one["set"], one["run"], one["minutes"]) for one in records(self.out)}

    def do(self, name: str, recipe: Recipe, drawn: Mapping[str, Any], shares: Sequence[float]) -> None:
        """Carry out a run and append it to the file, unless it is there."""
        if (self.name, name, self.minutes) in self.known():
            return
        points, trainer = [], None
        for trainer, _ in run(recipe, self.data, self.seconds, shares):
            noise_left = Inspection(trainer).noise_left()
            points.append((trainer.images_seen, measure(trainer, self.references), noise_left))
        assert trainer is not None
        found = {
            "set": self.name,
            "run": name,
            "minutes": self.minutes,
            "drawn": drawn,
            "points": points,
            "total_images": recipe.training.total_images,
            "parameters": parameters(recipe),
            "width": recipe.model.unet.width,
            **self.facts,
        }
        self.out.parent.mkdir(parents=True, exist_ok=True)
        with self.out.open("a") as file:
            file.write(json.dumps(found) + "\n")
        if not drawn:
            (CACHE / f"{self.name}-{self.minutes:g}.png").write_bytes(picture(trainer))
        print(f"{self.name} {name} {self.minutes:g} min: {points}", flush=True)


STRENGTHS: Mapping[str, Mapping[str, Any]] = {
    "1": {"guidance": 1.0},
    "3, as planned": {},
    "6 at every step": {"guidance": 6.0, "guidance_interval": None},
}
"""Guidance at which kinds of thresholding are compared, with the settings that it changes."""


def thresholds(bench: Bench) -> Iterator[str]:
    """Yield lines of a Markdown table: a planned run's pictures by guidance and thresholding, beside the real ones.

    The columns are the Fréchet distance, and the shares of pictures on a flat ground and of values that are 0 or 255.
    """
    data, recipe = bench.data, bench.plan.recipe
    ((trainer, _),) = run(recipe, data, bench.seconds, POINTS[-1:])
    denoiser, count = trainer.denoiser(), min(IMAGES, len(data))
    some = data.images[np.sort(np.random.default_rng(0).permutation(len(data))[:count])]
    looks = f"{on_flat_ground(some).mean():.0%} | {saturation(some).mean():.0%}"
    yield f"| {bench.name} | {bench.minutes:g} | real pictures | | | {looks} |"
    for strength, change in STRENGTHS.items():
        for threshold in get_args(ThresholdName):
            settings = recipe.sampling.model_copy(update={"threshold": threshold, **change})
            config = EvaluationConfig(every_images=1, images=count)
            drawing = plan_drawing(data, len(denoiser.class_names), config, settings)
            drawn = np.concatenate([images.numpy() for _, images in draw(denoiser, drawing, lambda: False)])
            distance = distance_of(drawn, data, bench.references)
            looks = f"{on_flat_ground(drawn).mean():.0%} | {saturation(drawn).mean():.0%}"
            yield f"| {bench.name} | {bench.minutes:g} | {strength} | {threshold} | {distance:.1f} | {looks} |"


def records(file: Path) -> list[dict[str, Any]]:
    """Return the runs that a file holds."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def sweep(bench: Bench, number: int) -> None:
    """Carry out the random run of that number; the draws do not depend on the data set."""
    draw = np.random.default_rng(number)
    while True:
        drawn = {field: change(draw) for field, change in SPACE.items()}
        try:
            bench.do(f"search-{number:02d}", changed(bench.plan.recipe, drawn), drawn, POINTS[-1:])
            return
        except (RecipeError, ValidationError, TrainingError) as error:
            print(f"{bench.name} {number}: drawn again, as {error}", file=sys.stderr)


def table(runs: Sequence[Mapping[str, Any]]) -> str:
    """Return a Markdown table: each set's planned run beside the best and the median of its search."""
    lines = ["| data set | minutes | plan | best of search | plan / best | median | runs | real |", "|" + " --- |" * 8]
    for key in dict.fromkeys((one["set"], one["minutes"]) for one in runs):
        own = [one for one in runs if (one["set"], one["minutes"]) == key]
        plan = [one["points"][-1][1] for one in own if one["run"] == "plan"]
        others = sorted(one["points"][-1][1] for one in own if one["drawn"])
        if plan and others:
            figures = f"{plan[0]:.1f} | {others[0]:.1f} | {plan[0] / others[0]:.2f} | {np.median(others):.1f}"
            lines.append(f"| {key[0]} | {key[1]:g} | {figures} | {len(others)} | {own[0]['real']:.1f} |")
    return "\n".join(lines)


def fitted(runs: Sequence[Mapping[str, Any]]) -> Curve:
    """Fit the curve of forecasts to recorded runs.

    Spreads are those of the forecasts of each data set by a curve that was fitted to the others.
    """
    law, off = _law(runs), misses(runs)
    corrections = tuple(one.model_copy(update={"spread": _root_mean_square(off[one.share])}) for one in law.corrections)
    return law.model_copy(update={"spread": _root_mean_square(off[0.0]), "corrections": corrections})


def misses(runs: Sequence[Mapping[str, Any]]) -> Mapping[float, Sequence[float]]:
    """Return, for each run, log(distance at the end / its forecast), by the share of the run at which that was made.

    The forecast comes from a curve that was fitted to the other data sets. Share 0 is before the start.
    """
    off: dict[float, list[float]] = {share: [] for share in (0.0, *POINTS[:-1])}
    names = {one["set"] for one in runs}
    laws = {name: _law([other for other in runs if other["set"] != name]) for name in names}
    for one in runs:
        rest = laws[one["set"]]
        off[0.0].append(_miss(one, rest))
        for now in rest.corrections:
            off[now.share].append(_missed_later(one, rest, now))
    return off


def forecasts(runs: Sequence[Mapping[str, Any]]) -> str:
    """Return a Markdown table: by how much planned runs ended away from what was forecast at a share of the run."""
    off = misses(runs)
    heads = ["data set", "minutes", "distance", *(f"at {share:.0%}" if share else "at the start" for share in off)]
    lines = [f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads)]
    for j, one in enumerate(runs):
        cells = [f"{math.expm1(values[j]):+.0%}" for values in off.values()]
        lines.append(f"| {one['set']} | {one['minutes']:g} | {one['points'][-1][1]:.0f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _seen(one: Mapping[str, Any], share: float) -> float:
    """Return the images that a run saw until a share of it, for each value of a picture."""
    images: float = one["points"][POINTS.index(share)][0]
    return images / (one["channels"] * one["side"] ** 2)


def _distance(one: Mapping[str, Any], share: float) -> float:
    distance: float = one["points"][POINTS.index(share)][1]
    return distance


def _noise_left(one: Mapping[str, Any], share: float) -> float:
    left: float = one["points"][POINTS.index(share)][2]
    return left


def _anchors(one: Mapping[str, Any]) -> Anchors:
    return Anchors(one["own"], one["noise"])


def _own(curve: Curve, one: Mapping[str, Any], share: float) -> Curve:
    """Return the curve with the `half` that a run shows after a share of it."""
    return curve.model_copy(update={"half": curve.half * _seen(one, share) / curve.images(_distance(one, share))})


def _missed_later(one: Mapping[str, Any], curve: Curve, how: Correction) -> float:
    """Return the logarithm of a run's last distance divided by its forecast after a share of it."""
    now, times = Measured(how.share, _distance(one, how.share), _noise_left(one, how.share)), 1.0 / how.share
    return math.log(_distance(one, 1.0) / curve.later(now, _anchors(one), times, how))


def _miss(one: Mapping[str, Any], curve: Curve) -> float:
    """Return the logarithm of a run's last distance divided by the curve's."""
    return math.log(_distance(one, 1.0) / curve.distance(_seen(one, 1.0)))


def _law(runs: Sequence[Mapping[str, Any]]) -> Curve:
    """Fit distance = noise / (1 + (x / half)^power), and how runs went on after what was measured before the end.

    Noise and power are those with which each run's earlier distances forecast its end best: least squares in
    logarithms, on a grid. `half` is the geometric mean of those that the ends of the runs show. `highest`, and each
    correction, are the best in the same sense.
    """
    best, least = None, math.inf
    for noise, power in product(np.geomspace(1500.0, 9000.0, 40), np.arange(0.3, 2.01, 0.05)):
        shape = Curve(noise=float(noise), half=1.0, power=float(power), spread=0.0, highest=1.0, corrections=())
        error = sum(_miss(one, _own(shape, one, share)) ** 2 for one in runs for share in POINTS[:-1])
        if error < least:
            best, least = shape, error
    assert best is not None
    half = float(np.mean([math.log(_own(best, one, 1.0).half) for one in runs]))
    law, least = best, math.inf
    for highest in np.arange(0.9, 0.996, 0.005):
        shape = best.model_copy(update={"half": math.exp(half), "highest": float(highest)})
        corrections = tuple(_best_correction(runs, shape, share) for share in POINTS[:-1])
        if (error := sum(one.spread**2 for one in corrections)) < least:
            law, least = shape.model_copy(update={"corrections": corrections}), error
    return law


def _best_correction(runs: Sequence[Mapping[str, Any]], curve: Curve, share: float) -> Correction:
    """Return the correction after a share of the runs whose forecasts are the best; its spread is that of these runs.

    Factor and exponent are the least squares of what is missed above the own distance without them, at each power.
    """
    now = [Measured(share, _distance(one, share), _noise_left(one, share)) for one in runs]
    places = [curve.place(each.distance, _anchors(one)) for each, one in zip(now, runs, strict=True)]
    line = np.array([(near, near * math.log(each.noise_left)) for each, (_, near) in zip(now, places, strict=True)])

    def at(power: float) -> Correction:
        plain = Correction(share=share, power=power, factor=1.0, exponent=0.0, spread=0.0)
        missed = list[float]()
        for one, each, (above, _) in zip(runs, now, places, strict=True):
            expected = curve.later(each, _anchors(one), 1.0 / share, plain) - (each.distance - above)
            missed.append(math.log(curve.place(_distance(one, 1.0), _anchors(one))[0] / expected))
        (level, exponent), *_ = np.linalg.lstsq(line, np.array(missed))
        found = plain.model_copy(update={"factor": math.exp(level), "exponent": float(exponent)})
        spread = _root_mean_square([_missed_later(one, curve, found) for one in runs])
        return found.model_copy(update={"spread": spread})

    return min(map(at, np.arange(0.2, 1.41, 0.04).tolist()), key=attrgetter("spread"))


def _root_mean_square(values: Sequence[float]) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.plans", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("what", choices=("sweep", "curve", "table", "fit", "thresholds"))
    parser.add_argument("data", type=Path, nargs="*")
    parser.add_argument("--minutes", type=float, nargs="+", default=[1.0])
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    recorded = records(arguments.out)
    followed = [one for one in recorded if one["run"] == "curve"]
    if arguments.what == "table":
        print(f"{table(recorded)}\n\n{forecasts(followed)}")
        return 0
    if arguments.what == "fit":
        curve = fitted(followed)
        CURVE.write_text(f"{curve.model_dump_json(indent=2)}\n")
        print(CURVE.read_text())
        return 0
    if arguments.what == "thresholds":
        print("| data set | minutes | guidance | thresholding | distance | flat grounds | 0 or 255 |")
        print("| --- " * 7 + "|")
        for folder, minutes in product(arguments.data, arguments.minutes):
            for line in thresholds(Bench(folder, minutes, arguments.out)):
                print(line, flush=True)
        return 0
    for minutes in arguments.minutes:
        benches = [Bench(folder, minutes, arguments.out) for folder in arguments.data]
        for bench in benches:
            name, shares = ("curve", POINTS) if arguments.what == "curve" else ("plan", POINTS[-1:])
            bench.do(name, bench.plan.recipe, {}, shares)
        if arguments.what == "sweep":
            for number in range(arguments.runs):
                for bench in benches:
                    sweep(bench, number)
    return 0


if __name__ == "__main__":
    sys.exit(main())
