"""`docs/results.md` from what was measured: `python -m bench.experiments.report`. Nothing in its tables is typed."""

import json
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bench.experiments import ablations, guidance, search, table1
from bench.experiments.cell import RESULTS, Cell
from model.checkpoint import write_atomically
from model.metrics.protocol import protocol_string

PAGE = Path("docs/results.md")
PICTURES = Path("docs/results")
FID, PRECISION, RECALL = (f"{name}-efficientnet-lite0" for name in ("fid", "precision", "recall"))
HEADINGS = {FID: FID, PRECISION: "precision", RECALL: "recall", "agreement": "agreement"}
DIGITS = {FID: 1, PRECISION: 3, RECALL: 3, "agreement": 3}

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
    """Depth, dropout and learning rate."""
    found = judged(table1.cells())
    rows = []
    for depth in table1.DEPTHS:
        for dropout in table1.DROPOUTS:
            for rate in table1.LEARNING_RATES:
                results = found.get((table1.cell_name(depth, dropout, rate), table1.JUDGING.name), [])
                rows.append(((str(depth), f"{dropout:g}", f"{rate:g}"), results))
    shown = table(("depth", "dropout", "learning rate"), rows, (FID, PRECISION, RECALL))
    return f"{shown}\n\n{protocol_of(_all(rows))}" if _all(rows) else ""


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
    if not found:
        return ""
    return f"{first}\n\n{protocol_of(_all(by_weight))}\n\n{FID} by threshold and guidance:\n\n" + "\n".join(lines)


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
        "Depth, dropout and learning rate",
        "A network of the paper's form (eps-prediction, cosine schedule, attention at 8x8, 32x32 images), narrow and "
        "with a patch of 2, trained on 64,000 images a run. Depth is the number of resolutions. "
        "Command: `python -m bench.experiments table1`.",
        paper_table,
    ),
    (
        "What each part buys",
        "The recipe that the search led to (`bench/experiments/fashion_mnist_short.yaml`), 64,000 images, with one "
        "thing changed at a time. `no-ema` judges the base run's weights as they were trained. "
        "Command: `python -m bench.experiments ablations`.",
        ablation_table,
    ),
    (
        "The search for a recipe",
        "The same recipe at 150,000 images, one lead at a time, one seed; sizes at about an equal cost. "
        "Command: `python -m bench.experiments search`.",
        search_table,
    ),
    (
        "Guidance and thresholding",
        "The shipped model; w = 1 is plain conditional, w = 0 unconditional. Command: "
        "`python -m bench.experiments guidance`.",
        guidance_tables,
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
