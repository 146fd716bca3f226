"""`docs/results.md` from what was measured: `python -m bench.experiments.report`. Nothing in its tables is typed."""

import json
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bench.experiments import ablations, guidance, guides, learned_variance, pictures, search, table1
from bench.experiments.cell import RESULTS, Cell
from bench.frontier import frontier_picture, frontier_table, point_name
from darkroom.model.checkpoint import load_checkpoint, write_atomically
from darkroom.model.config import SamplingConfig, ScheduleConfig
from darkroom.model.metrics.frontier import FrontierPoint, frontiers, network_evaluations
from darkroom.model.protocol import protocol_string

PAGE = Path("docs/results.md")
PICTURES = pictures.FOLDER
FID, PRECISION, RECALL = (f"{name}-efficientnet-lite0" for name in ("fid", "precision", "recall"))
HEADINGS = {FID: FID, PRECISION: "precision", RECALL: "recall", "agreement": "agreement"}
DIGITS = {FID: 1, PRECISION: 3, RECALL: 3, "agreement": 3}

FEW_STEPS, ALL_STEPS = 10, 1000
GOAL_RATIO = 1.05
"""The lowest distance of at most FEW_STEPS over that of ALL_STEPS: at most this."""

Judged = dict[str, Any]


def judged(cells: Sequence[Cell]) -> dict[tuple[str, str], list[Judged]]:
    """(cell's name, judging's name) -> a result for each seed that was run, in the cells' order."""
    found: dict[tuple[str, str], list[Judged]] = defaultdict(list)
    for cell in cells:
        for row in cell.result().get("judgings", []):
            found[cell.name, row["name"]].append(row)
    return found


def mean_and_spread(values: Sequence[float], digits: int) -> str:
    """ "12.3" of one value, "12.3 ± 0.4" of several: their mean and standard deviation."""
    mean = f"{statistics.fmean(values):.{digits}f}"
    return mean if len(values) < 2 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


def table(first: Sequence[str], rows: Sequence[tuple[Sequence[str], Sequence[Judged]]], metrics: Sequence[str]) -> str:
    """A markdown table: labels, then each metric over the seeds, then how many seeds there are."""
    heads = [*first, *(HEADINGS[metric] for metric in metrics), "seeds"]
    lines = ["| " + " | ".join(heads) + " |", "| " + " | ".join(["---"] * len(heads)) + " |"]
    for labels, results in rows:
        cells = []
        for metric in metrics:
            values = [result["values"][metric] for result in results if metric in result["values"]]
            cells.append(mean_and_spread(values, DIGITS[metric]) if values else "")
        lines.append("| " + " | ".join([*labels, *cells, str(len(results))]) + " |")
    return "\n".join(lines)


def protocol_of(results: Sequence[Judged], metric: str = FID) -> str:
    """The protocol string of the first result, as a block of code."""
    return f"```text\n{protocol_string(results[0]['protocols'][metric])}\n```" if results else ""


def _all(rows: Sequence[tuple[Sequence[str], Sequence[Judged]]]) -> list[Judged]:
    return [result for _, results in rows for result in results]


def paper_table() -> str:
    """Depth, dropout and learning rate: a table for each way of drawing."""
    found = judged(table1.cells())
    parts = []
    for way in (table1.STATIC, table1.DYNAMIC):
        rows = []
        for depth, dropout, rate in product(table1.DEPTHS, table1.DROPOUTS, table1.LEARNING_RATES):
            results = found.get((table1.cell_name(depth, dropout, rate), way.name), [])
            rows.append(((str(depth), f"{dropout:g}", f"{rate:g}"), results))
        if _all(rows):
            shown = table(("depth", "dropout", "learning rate"), rows, (FID, PRECISION, RECALL))
            parts += [shown, protocol_of(_all(rows))]
    return "\n\n".join(parts)


def ablation_table() -> str:
    """What each part is worth, and a picture of each."""
    found = judged(ablations.cells())
    rows = [((name,), results) for name, way, results in _ablations(found)]
    if not rows:
        return ""
    shown = table(("run",), rows, (FID, PRECISION, RECALL))
    columns = [cell.picture(way) for cell in ablations.cells() if cell.seed == 1 for way in cell.judgings]
    picture = beside([path for path in columns if path.exists()], PICTURES / "ablations.png")
    names = ", ".join(name for name, _, _ in _ablations(found))
    return f"{shown}\n\n{protocol_of(rows[0][1])}\n\n![Images of each run]({picture})\n\nFrom the top: {names}."


def _ablations(found: dict[tuple[str, str], list[Judged]]) -> list[tuple[str, str, list[Judged]]]:
    names = [(cell.name, way.name) for cell in ablations.cells() if cell.seed == 1 for way in cell.judgings]
    return [
        (name if way == ablations.UNGUIDED.name else way, way, found[name, way])
        for name, way in names
        if (name, way) in found
    ]


def search_table() -> str:
    """Each lead, with what its training took."""
    rows = []
    for cell in search.cells():
        result = cell.result()
        if result:
            values, seconds = result["judgings"][0]["values"], result["train_cpu_seconds"]
            took = "interrupted" if seconds is None else f"{seconds:.0f}"
            rows.append(
                f"| {cell.name} | {result['images_seen']:,} | {result['parameters']:,} | {took} | "
                f"{values[FID]:.1f} | {values[PRECISION]:.3f} | {values[RECALL]:.3f} |"
            )
    heads = f"| lead | images | parameters | CPU seconds | {FID} | precision | recall |"
    protocol = protocol_of([row for cell in search.cells() for row in cell.result().get("judgings", [])])
    return "" if not rows else "\n".join([heads, "| --- |" + " ---: |" * 6, *rows]) + f"\n\n{protocol}"


def guidance_tables() -> str:
    """The weight w, then thresholds against w."""
    weight, thresholds = guidance.cells()
    found = judged([weight, thresholds])
    if not found:
        return ""
    by_weight = [((f"{w:g}",), found.get((weight.name, f"w{w:g}"), [])) for w in guidance.GUIDANCES]
    first = table(("guidance w",), by_weight, (FID, PRECISION, RECALL, "agreement"))
    heads = ["threshold", *(f"w = {w:g}" for w in guidance.THRESHOLD_GUIDANCES)]
    lines = ["| " + " | ".join(heads) + " |", "| --- |" + " ---: |" * (len(heads) - 1)]
    for name in guidance.THRESHOLDS:
        values = []
        for w in guidance.THRESHOLD_GUIDANCES:
            results = found.get((thresholds.name, f"{name}-w{w:g}"), [])
            values.append(f"{results[0]['values'][FID]:.1f}" if results else "")
        lines.append("| " + " | ".join([name, *values]) + " |")
    parts = [first, protocol_of(_all(by_weight))]
    if any(cell == thresholds.name for cell, _ in found):
        parts += [f"{FID} by threshold and guidance:", "\n".join(lines)]
    return "\n\n".join(parts)


def guide_table() -> str:
    """Ways to guide, side by side."""
    cells = guides.cells()
    found = judged(cells)
    rows = [((name,), found[cells[0].name, name]) for name in guides.WAYS if (cells[0].name, name) in found]
    if not found:
        return ""
    shown = table(("way",), rows, (FID, PRECISION, RECALL, "agreement"))
    header = load_checkpoint(guidance.WEIGHTS).header
    return "\n\n".join([shown, *shipped_default(header.model.schedule, header.sampling), protocol_of(_all(rows))])


def shipped_default(schedule: ScheduleConfig, sampling: SamplingConfig) -> list[str]:
    """Which of guides.WAYS a model ships with, and what an interval saves; nothing when it is none of them."""
    drawn = {"guide": "unconditional", **guidance.DRAWN}
    names = [name for name, way in guides.WAYS.items() if sampling.model_copy(update={**drawn, **way}) == sampling]
    if not names:
        return []
    everywhere = network_evaluations(schedule, sampling.model_copy(update={"guidance_interval": None}))
    return [
        f"Shipped as the default: `{names[0]}`; an image takes {network_evaluations(schedule, sampling)} evaluations "
        f"of the network, guided everywhere {everywhere}."
    ]


def variance_table() -> str:
    """A line for each training and the variance that it is sampled with, a column for each number of steps."""
    found = judged(learned_variance.cells())
    if not found:
        return ""
    heads = ["training", "variance", *(f"{steps} steps" for steps in learned_variance.STEPS)]
    lines = ["| " + " | ".join(heads) + " |", "| --- | --- |" + " ---: |" * len(learned_variance.STEPS)]
    for name, (_, variances) in learned_variance.TRAININGS.items():
        for variance in variances:
            names = [learned_variance.judging_name(variance, steps) for steps in learned_variance.STEPS]
            results = [found.get((name, way), []) for way in names]
            values = [mean_and_spread([one["values"][FID] for one in each], 1) if each else "" for each in results]
            lines.append("| " + " | ".join([name, variance, *values]) + " |")
    return "\n".join(lines) + f"\n\n{protocol_of(next(iter(found.values())))}"


def frontier_section() -> str:
    """Distance against steps: plot and table of every frontier that the shipped weights file keeps."""
    checkpoint = load_checkpoint(guidance.WEIGHTS)
    parts = []
    for number, frontier in enumerate(frontiers(checkpoint.header.evaluations, checkpoint.header.model.schedule)):
        title = f"guidance {frontier.guidance:g}, {frontier.images:,} images"
        picture = PICTURES / f"frontier-{number}.png"
        write_atomically(picture, frontier_picture(frontier, title))
        parts.append(f"![Distance by steps, {title}]({picture.relative_to(PAGE.parent)})")
        parts.append(f"{title[0].upper()}{title[1:]}:\n\n{frontier_table(frontier)}")
        parts += few_against_many(frontier.points)
        parts.append(f"```text\n{protocol_string(frontier.protocol)}\n```")
    return "\n\n".join(parts)


def few_against_many(points: Sequence[FrontierPoint]) -> list[str]:
    """What few steps cost: the lowest distance of at most FEW_STEPS over that of all of the schedule's; or nothing."""
    few = [point for point in points if point.steps <= FEW_STEPS]
    many = [point for point in points if point.steps == ALL_STEPS]
    if not few or not many:
        return []
    few_best, many_best = (min(group, key=lambda point: point.value) for group in (few, many))
    return [
        f"At most {FEW_STEPS} steps reach {few_best.value:.2f} ({point_name(few_best)}), {ALL_STEPS:,} steps "
        f"{many_best.value:.2f} ({point_name(many_best)}): {few_best.value / many_best.value:.3f} times that; "
        f"the goal is at most {GOAL_RATIO:g}."
    ]


def _kept(path: Path) -> str:
    return path.read_text().strip() if path.exists() else ""


def unpicked_pictures() -> str:
    """Pictures by `bench.experiments.pictures`, and what the score that ranks the last of them is worth."""
    paths = [path for path in map(pictures.path_of, pictures.PICTURES) if path.exists()]
    parts = [f"![{path.stem.replace('-', ' ')}]({path.relative_to(PAGE.parent)})" for path in paths]
    return "\n\n".join([*parts, _kept(RESULTS / "best_of.md")]) if parts else ""


def beside(paths: Sequence[Path], target: Path) -> str:
    """Pictures of equal width, one below the other with a gap, as one; returns its name relative to the page."""
    if not paths:
        return ""
    images = [np.asarray(Image.open(path)) for path in paths]
    gap = np.full((6, images[0].shape[1]), 255, dtype=np.uint8)
    stacked = np.concatenate([part for image in images for part in (image, gap)])
    target.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(stacked).save(target, optimize=True)
    return str(target.relative_to(PAGE.parent))


SECTIONS: tuple[tuple[str, str, Callable[[], str]], ...] = (
    (
        "The shipped model",
        "Pictures that nobody picked: a random batch; between the latents of two seeds, a row a class; from a class to "
        "the next with one latent; of 32 images of each class the six of the highest and the six of the lowest score "
        "of `best_of`. Commands: `python -m bench.experiments.pictures`, `python -m bench.best_of`.",
        unpicked_pictures,
    ),
    (
        "Fewer steps",
        "The shipped model by sampler, spacing of times and number of steps. Evenly in time, many steps are worse than "
        "fewer: they visit noise levels below sigma/alpha 0.08, which training seldom does; `edm_coarse` ends there. "
        "Command: `python -m bench.frontier WEIGHTS --write weights/fashion-mnist.safetensors`, which keeps it in the "
        "file.",
        frontier_section,
    ),
    (
        "Guidance and thresholding",
        "The shipped model; w = 1 is plain conditional, w = 0 unconditional. Dynamic thresholding, which the paper "
        "uses, divides every step's estimate by a percentile above 1; half of these pictures is black ground, at "
        "exactly -1, and turns grey by it. The shipped model does without, therefore. Command: "
        "`python -m bench.experiments guidance`.",
        guidance_tables,
    ),
    (
        "What to guide by, and where",
        "The shipped model. `interval-a-b`: guided where sigma/alpha is between a and b alone (Kynkäänniemi et al. "
        "2024). `snapshot`: away from an earlier state of the same network, with the class (Karras et al. 2024), "
        "instead of away from no class. Command: `python -m bench.experiments guides`.",
        guide_table,
    ),
    (
        "Beside other libraries",
        "Trained on the same images for the same 92 minutes of processor time and sampled each by the best "
        "of its documented samplers that were tried; how, and what is alike: `bench/peers/README.md`. Darkroom's "
        "network is of the shipped model's recipe, cut to that time; the shipped weights have seen more images.",
        lambda: _kept(RESULTS / "peers.md"),
    ),
    (
        "Depth, dropout and learning rate",
        "A network of the paper's form (eps-prediction, cosine schedule, attention at 8x8, 32x32 images), narrow and "
        "with a patch of 2, trained by AdamW on 32,000 images a run in batches of 16. Depth is the number of "
        "resolutions. Two thousand iterations leave such a network at its beginning. The first table is of images "
        "drawn with static thresholding, the second with dynamic thresholding as in the paper. "
        "Command: `python -m bench.experiments table1`.",
        paper_table,
    ),
    (
        "What each part buys",
        "The recipe that the search led to (`bench/experiments/fashion_mnist_short.yaml`), 20,000 images in "
        "batches of 32, with one thing changed at a time. `no-ema` judges the base run's weights as they were trained, "
        "`dynamic-threshold` the base run with thresholding as in the paper; all others are drawn with a static one. "
        "Command: `python -m bench.experiments ablations`.",
        ablation_table,
    ),
    (
        "Learned variance",
        "DDPM's sampler at few steps, after the same short training with L_simple and with L_hybrid (Nichol & Dhariwal "
        f"2021). {FID}. Command: `python -m bench.experiments learned-variance`.",
        variance_table,
    ),
    (
        "The search for a recipe",
        "The short recipe at 150,000 images, one lead at a time, one seed; sizes at about an equal cost. "
        "Command: `python -m bench.experiments search`.",
        search_table,
    ),
)


def page() -> str:
    """The whole page; what was not measured yet is left out."""
    parts = [
        "# Results",
        "Made by `python -m bench.experiments.report` from the measurements in `bench/results/`. Distances are Fréchet "
        "distances in the features of EfficientNet-Lite0, which compare under an equal protocol only and never with "
        "the FID of Inception's features; lower is better. ± is the standard deviation over seeds.",
    ]
    for heading, text, made in SECTIONS:
        measured = made()
        if measured:
            parts += [f"## {heading}", text, measured]
    return "\n\n".join(parts) + "\n"


def main() -> int:
    """Write the page."""
    write_atomically(PAGE, page().encode())
    kept = sum(len(json.loads(path.read_text())["judgings"]) for path in RESULTS.glob("*/*-seed*.json"))
    print(f"{PAGE}: {kept} judgings")
    return 0


if __name__ == "__main__":
    sys.exit(main())
