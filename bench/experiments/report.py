"""Writes docs/results.md from the kept measurements: `python -m bench.experiments.report`. No number is typed."""

import json
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bench.experiments import ablations, guidance, guides, learned_variance, search, table1
from bench.experiments.cell import RESULTS, Cell
from bench.frontier import frontier_picture, frontier_table, point_name
from bench.pictures import samples
from bench.pictures.origin import write_picture
from darkroom.model.checkpoint import load_checkpoint, write_atomically
from darkroom.model.config import SamplingConfig, ScheduleConfig
from darkroom.model.images.pictures import png
from darkroom.model.metrics.frontier import Frontier, FrontierPoint, frontiers, network_evaluations
from darkroom.model.protocol import protocol_string

PAGE = Path("docs/results.md")
PICTURES = samples.FOLDER
ABLATIONS = PICTURES / "ablations.png"
FID, PRECISION, RECALL = (f"{name}-efficientnet-lite0" for name in ("fid", "precision", "recall"))
HEADINGS = {FID: FID, PRECISION: "precision", RECALL: "recall", "agreement": "agreement"}
DIGITS = {FID: 1, PRECISION: 3, RECALL: 3, "agreement": 3}

FEW_STEPS, ALL_STEPS = 10, 1000
GOAL_RATIO = 1.05
"""Goal for the lowest distance with at most FEW_STEPS steps, divided by the lowest with ALL_STEPS."""

Judged = dict[str, Any]


def judged(cells: Sequence[Cell]) -> dict[tuple[str, str], list[Judged]]:
    """Map (cell's name, judging's name) to its results, one for each seed that was run."""
    found: dict[tuple[str, str], list[Judged]] = defaultdict(list)
    for cell in cells:
        for row in cell.result().get("judgings", []):
            found[cell.name, row["name"]].append(row)
    return found


def mean_and_spread(values: Sequence[float], digits: int) -> str:
    """Return "12.3" for one value, and "12.3 ± 0.4" for several: their mean and standard deviation."""
    mean = f"{statistics.fmean(values):.{digits}f}"
    return mean if len(values) < 2 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


def table(first: Sequence[str], rows: Sequence[tuple[Sequence[str], Sequence[Judged]]], metrics: Sequence[str]) -> str:
    """A Markdown table: labels, each metric over the seeds, and the number of seeds."""
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
    """Return the protocol string of the first result, as a block of code."""
    return f"```text\n{protocol_string(results[0]['protocols'][metric])}\n```" if results else ""


def _all(rows: Sequence[tuple[Sequence[str], Sequence[Judged]]]) -> list[Judged]:
    return [result for _, results in rows for result in results]


def paper_table() -> str:
    """Depth, dropout and learning rate: one table for each threshold."""
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
    """The figures of every ablation; `write_pictures` draws the picture."""
    found = judged(ablations.cells())
    rows = [((name,), results) for name, way, results in _ablations(found)]
    if not rows:
        return ""
    shown = table(("run",), rows, (FID, PRECISION, RECALL))
    picture = ABLATIONS.relative_to(PAGE.parent)
    names = ", ".join(name for name, _, _ in _ablations(found))
    return f"{shown}\n\n{protocol_of(rows[0][1])}\n\n![Images of each run]({picture})\n\nFrom top to bottom: {names}."


def _ablations(found: dict[tuple[str, str], list[Judged]]) -> list[tuple[str, str, list[Judged]]]:
    names = [(cell.name, way.name) for cell in ablations.cells() if cell.seed == 1 for way in cell.judgings]
    return [
        (name if way == ablations.UNGUIDED.name else way, way, found[name, way])
        for name, way in names
        if (name, way) in found
    ]


def search_table() -> str:
    """The figures of each change, and the processor time of its training."""
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
    heads = f"| change | images | parameters | CPU seconds | {FID} | precision | recall |"
    protocol = protocol_of([row for cell in search.cells() for row in cell.result().get("judgings", [])])
    return "" if not rows else "\n".join([heads, "| --- |" + " ---: |" * 6, *rows]) + f"\n\n{protocol}"


def guidance_tables() -> str:
    """One table by guidance weight w, and one by threshold and w."""
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
    """The ways to guide, side by side, and the one that the shipped model has."""
    cells = guides.cells()
    found = judged(cells)
    rows = [((name,), found[cells[0].name, name]) for name in guides.WAYS if (cells[0].name, name) in found]
    if not found:
        return ""
    shown = table(("way",), rows, (FID, PRECISION, RECALL, "agreement"))
    header = load_checkpoint(guidance.WEIGHTS).header
    return "\n\n".join([shown, *shipped_default(header.model.schedule, header.sampling), protocol_of(_all(rows))])


def shipped_default(schedule: ScheduleConfig, sampling: SamplingConfig) -> list[str]:
    """Name the way of guides.WAYS that a model ships with, and what its interval saves; [] for any other settings."""
    drawn = {"guide": "unconditional", **guidance.DRAWN}
    names = [name for name, way in guides.WAYS.items() if sampling.model_copy(update={**drawn, **way}) == sampling]
    if not names:
        return []
    everywhere = network_evaluations(schedule, sampling.model_copy(update={"guidance_interval": None}))
    return [
        f"The shipped model's default is `{names[0]}`. An image takes {network_evaluations(schedule, sampling)} "
        f"network evaluations. With guidance at every noise level it would take {everywhere}."
    ]


def variance_table() -> str:
    """A table with a line for each training and sampling variance, and a column for each number of steps."""
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
    """Distance by steps: plot and table of every frontier that the shipped weights file carries."""
    parts = []
    for picture, title, frontier in _frontiers():
        parts.append(f"![Distance by steps, {title}]({picture.relative_to(PAGE.parent)})")
        parts.append(f"{title[0].upper()}{title[1:]}:\n\n{frontier_table(frontier)}")
        parts += few_against_many(frontier.points)
        parts.append(f"```text\n{protocol_string(frontier.protocol)}\n```")
    return "\n\n".join(parts)


def _frontiers() -> Iterator[tuple[Path, str, Frontier]]:
    """Each frontier of the shipped weights file, with the path and the title of its plot."""
    header = load_checkpoint(guidance.WEIGHTS).header
    for number, frontier in enumerate(frontiers(header.evaluations, header.model.schedule)):
        title = f"guidance {frontier.guidance:g}, {frontier.images:,} images"
        yield PICTURES / f"frontier-{number}.png", title, frontier


def few_against_many(points: Sequence[FrontierPoint]) -> list[str]:
    """Compare the lowest distance with at most FEW_STEPS to the lowest with ALL_STEPS; [] if either is missing."""
    few = [point for point in points if point.steps <= FEW_STEPS]
    many = [point for point in points if point.steps == ALL_STEPS]
    if not few or not many:
        return []
    few_best, many_best = (min(group, key=lambda point: point.value) for group in (few, many))
    return [
        f"The best with at most {FEW_STEPS} steps is {few_best.value:.2f} ({point_name(few_best)}). The best with "
        f"{ALL_STEPS:,} steps is {many_best.value:.2f} ({point_name(many_best)}). The ratio is "
        f"{few_best.value / many_best.value:.3f}; the goal is at most {GOAL_RATIO:g}."
    ]


def _kept(path: Path) -> str:
    return path.read_text().strip() if path.exists() else ""


def unpicked_pictures() -> str:
    """The pictures of `bench.pictures.samples`, and the table of `bench.best_of`, whose score ranks the last."""
    paths = [path for path in map(samples.path_of, samples.PICTURES) if path.exists()]
    parts = [f"![{path.stem.replace('-', ' ')}]({path.relative_to(PAGE.parent)})" for path in paths]
    return "\n\n".join([*parts, _kept(RESULTS / "best_of.md")]) if parts else ""


def beside(paths: Sequence[Path]) -> bytes:
    """Stack pictures of equal width, with gaps, into one PNG."""
    images = [np.asarray(Image.open(path)) for path in paths]
    gap = np.full((6, images[0].shape[1]), 255, dtype=np.uint8)
    return png(np.concatenate([part for image in images for part in (image, gap)])[:, :, None])


def write_pictures() -> None:
    """Write the page's pictures of stored measurements: the plots of frontiers, and images of each ablation."""
    for picture, title, frontier in _frontiers():
        write_picture(picture, frontier_picture(frontier, title), [guidance.WEIGHTS])
    columns = [cell.picture(way) for cell in ablations.cells() if cell.seed == 1 for way in cell.judgings]
    if found := [path for path in columns if path.exists()]:
        write_picture(ABLATIONS, beside(found), found)


SECTIONS: tuple[tuple[str, str, Callable[[], str]], ...] = (
    (
        "The shipped model",
        "These pictures are not selected. The first is a random batch. The others have one line for each class. The "
        "second goes from the latent of one seed to that of the next, the third from one class to the next with one "
        "latent. The last shows, from 32 images of each class, the six with the highest score of `best_of` and the six "
        "with the lowest. Commands: `make pictures`, `python -m bench.best_of`.",
        unpicked_pictures,
    ),
    (
        "Fewer steps",
        "The shipped model by sampler, spacing of times and number of steps. With times spaced evenly, many steps are "
        "worse than fewer: they visit noise levels below sigma/alpha 0.08, which training seldom visits. `edm_coarse` "
        "ends at that level. Command: `python -m bench.frontier WEIGHTS --write weights/fashion-mnist.safetensors`, "
        "which also writes the figures to the weights file.",
        frontier_section,
    ),
    (
        "Guidance and thresholding",
        "The shipped model; w = 1 is conditional sampling without guidance, w = 0 is unconditional. The paper uses "
        "dynamic thresholding, which divides each step's estimate by a percentile when that is above 1. Half of each "
        "image here is black background, at exactly -1, and the division turns it grey. The shipped model therefore "
        "uses no threshold. Command: `python -m bench.experiments guidance`.",
        guidance_tables,
    ),
    (
        "Ways to guide",
        "The shipped model. `plain`: guided away from the unconditional prediction at every noise level. "
        "`interval-a-b`: guided only where sigma/alpha is between a and b (Kynkäänniemi et al. 2024). `snapshot`: "
        "guided away from the prediction of the model's snapshot for the same class (Karras et al. 2024). "
        "Command: `python -m bench.experiments guides`.",
        guide_table,
    ),
    (
        "Comparison with other libraries",
        "Each library trained on the same images for the same 92 minutes of processor time, and drew with the best of "
        "its documented samplers that we tried. `bench/peers/README.md` describes the protocol. Darkroom's network has "
        "the shipped model's recipe, shortened to that time; the shipped weights have seen more images.",
        lambda: _kept(RESULTS / "peers.md"),
    ),
    (
        "Depth, dropout and learning rate",
        "A narrow network of the paper's form (eps-prediction, cosine schedule, attention at 8x8, 32x32 images) with "
        "patches of 2x2 pixels. AdamW trains it on 32,000 images in batches of 16. Depth is the number of resolutions. "
        "After these two thousand iterations such a network has learned little. The images of the first table are "
        "drawn with static thresholding, those of the second with dynamic thresholding, as in the paper. "
        "Command: `python -m bench.experiments table1`.",
        paper_table,
    ),
    (
        "Ablations",
        "The recipe from the search (`bench/experiments/fashion_mnist_short.yaml`), on 20,000 images in batches of 32, "
        "with one change at a time. `no-ema` draws with the base run's trained weights instead of their EMA. "
        "`dynamic-threshold` draws with the base run and dynamic thresholding, as in the paper; all others use static "
        "thresholding. Command: `python -m bench.experiments ablations`.",
        ablation_table,
    ),
    (
        "Learned variance",
        "DDPM's sampler at few steps, after the same short training with L_simple (`fixed`) and with L_hybrid "
        f"(`learned`; Nichol & Dhariwal 2021). The figures are {FID}. "
        "Command: `python -m bench.experiments learned-variance`.",
        variance_table,
    ),
    (
        "The search for a recipe",
        "The short recipe on 150,000 images with one change at a time and one seed. Networks of other sizes see fewer "
        "images, so that the cost is about the same. Command: `python -m bench.experiments search`.",
        search_table,
    ),
)


def page() -> str:
    """Return the whole page, without sections that have no measurements yet."""
    parts = [
        "# Results",
        "`python -m bench.experiments.report` makes this page from the measurements in `bench/results/`. Distances are "
        "Fréchet distances between features of EfficientNet-Lite0; lower is better. Compare them only under the same "
        "protocol, and never with an FID of Inception's features. ± is the standard deviation over seeds.",
    ]
    for heading, text, made in SECTIONS:
        measured = made()
        if measured:
            parts += [f"## {heading}", text, measured]
    return "\n\n".join(parts) + "\n"


def main() -> int:
    """Write the page and its pictures of measurements."""
    write_pictures()
    write_atomically(PAGE, page().encode())
    kept = sum(len(json.loads(path.read_text())["judgings"]) for path in RESULTS.glob("*/*-seed*.json"))
    print(f"{PAGE}: {kept} judgings")
    return 0


if __name__ == "__main__":
    sys.exit(main())
